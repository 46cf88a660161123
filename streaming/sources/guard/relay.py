"""A relay between FFmpeg and one RTSP camera: it connects to a pinned address and blocks redirects.

FFmpeg follows RTSP redirects to any host, and no option prevents it. So FFmpeg connects to the relay on the loopback
interface, and the relay connects to the camera, with TLS for rtsps. The relay has its own thread, named "relay"; any
thread may close it.
"""

from __future__ import annotations

import ipaddress
import re
import selectors
import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from streaming.errors import SourceTimeout, SourceUnreachable
from streaming.sources.base import SourceOptions
from streaming.sources.guard.pinned_http import trusting_context

_CHUNK_BYTES = 65_536
_JOIN_S = 2.0
_POLL_S = 0.5

# As permissive as FFmpeg, which skips carriage returns and accepts any line with this beginning as a status line. A
# picture contains these bytes by chance once in thousands of years.
_REDIRECT = re.compile(rb"RTSP/[^ \t\n]{0,4096}[ \t\v\f]+\+?0*3\d\d(?!\d)")
_MARK = b"RTSP/"
_TAIL_BYTES = 4200


class RedirectFilter:
    """Finds the status line of an RTSP redirect in a camera's data, even if it is split between pieces."""

    def __init__(self) -> None:
        self._tail = b""

    def finds(self, data: bytes) -> bool:
        """Whether the status line of a redirect is complete with `data`, the next piece.

        >>> redirects = RedirectFilter()
        >>> redirects.finds(b"RTSP/1.0 30"), redirects.finds(b"2 Moved")
        (False, True)
        """
        seen = self._tail + data.replace(b"\r", b"")
        start = seen.find(_MARK)
        if start >= 0 and _REDIRECT.search(seen, start):
            return True
        # Keep the data from the last mark on, or the bytes that may be the beginning of one.
        last = seen.rfind(_MARK)
        self._tail = seen[max(last, len(seen) - _TAIL_BYTES) if last >= 0 else max(0, len(seen) - len(_MARK) + 1) :]
        return False


class RtspRelay:
    """Forwards bytes between one connection of FFmpeg and a camera, until either side closes."""

    def __init__(
        self, name: str, addresses: tuple[str, ...], port: int, tls_host: str | None, options: SourceOptions
    ) -> None:
        """Connect to the camera at the first of `addresses` that answers.

        `tls_host` is the host name for TLS; None connects without TLS. Raises `SourceUnreachable` and `SourceTimeout`.
        """
        self._name = name
        self._options = options
        self._camera = self._connect(addresses, port, tls_host)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self.port: int = self._listener.getsockname()[1]
        """Port on the loopback interface for FFmpeg to connect to."""
        self.refusal = ""
        """Why the relay cut the connection; empty if it did not."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        _shut(self._camera)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_S)

    def _connect(self, addresses: tuple[str, ...], port: int, tls_host: str | None) -> socket.socket:
        failure: OSError | None = None
        for address in addresses:
            try:
                plain = socket.create_connection((address, port), timeout=self._options.open_timeout_s)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return plain if tls_host is None else self._with_tls(plain, address, tls_host)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            limit = f"no answer within {self._options.open_timeout_s:g} s"
            raise SourceTimeout(self._name, limit, "check host, port and network, or raise open_timeout_s") from None
        reason = (failure.strerror or str(failure)) if failure is not None else "it has no address"
        raise SourceUnreachable(
            self._name, f"it cannot be reached ({reason.lower()})", "check host, port and network"
        ) from None

    def _with_tls(self, plain: socket.socket, address: str, host: str) -> socket.socket:
        found = ipaddress.ip_address(address)
        is_near = found.is_private or found.is_loopback
        try:
            context = trusting_context() if is_near else ssl.create_default_context()
            return context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _run(self) -> None:
        try:
            player = self._accept()
            if player is not None:
                with player:
                    self._forward(player)
        except OSError:
            pass  # One side closed: FFmpeg sees that its connection ended.
        finally:
            self._listener.close()
            self._camera.close()

    def _accept(self) -> socket.socket | None:
        """Accept FFmpeg's connection, and no further one; None if the relay was closed first."""
        self._listener.settimeout(_POLL_S)
        while not self._closed.is_set():
            try:
                player, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._listener.close()
            return player
        return None

    def _forward(self, player: socket.socket) -> None:
        redirects = RedirectFilter()
        player.settimeout(self._options.read_timeout_s)
        player.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._camera.settimeout(self._options.read_timeout_s)
        with selectors.DefaultSelector() as ready:
            ready.register(player, selectors.EVENT_READ)
            ready.register(self._camera, selectors.EVENT_READ)
            while not self._closed.is_set():
                for key, _ in ready.select(_POLL_S):
                    data = self._receive(key.fileobj)  # type: ignore[arg-type]
                    if not data:
                        return
                    if key.fileobj is player:
                        self._camera.sendall(data)
                        continue
                    if redirects.finds(data):
                        self.refusal = "it redirects elsewhere"
                        return
                    player.sendall(data)

    def _receive(self, side: socket.socket) -> bytes:
        """The bytes available from `side`, including bytes that TLS has decrypted already, which a selector misses."""
        data = side.recv(_CHUNK_BYTES)
        while isinstance(side, ssl.SSLSocket) and (pending := side.pending()):
            data += side.recv(pending)
        return data


def _shut(side: socket.socket) -> None:
    """Shut the socket down, which wakes a thread that reads from it."""
    with suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
