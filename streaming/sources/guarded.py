"""URLs of people who are not to be trusted: FFmpeg never connects itself, so no playlist or redirect leads it astray.

HTTP goes through a client of our own, each connection to a pinned address, each redirect and each file of a playlist
checked like the first; RTSP goes through a relay (`streaming.sources.relay`). Threads as for `VideoReader`.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

import av
import httpx

from streaming.errors import (
    AddressRefused,
    LoginRefused,
    NotAVideo,
    SourceError,
    SourceNotFound,
    SourceTimeout,
    SourceUnreachable,
)
from streaming.reach import PinnedHosts, Reach, parse_host
from streaming.redact import escape_userinfo, redact_url, split_userinfo
from streaming.sources.base import SourceOptions
from streaming.sources.pinned import PinnedTransport
from streaming.sources.reading import SAFE_FORMATS, VideoReader, reason_of
from streaming.sources.relay import RtspRelay

DEFAULT_PORTS = MappingProxyType({"rtsp": 554, "rtsps": 322, "http": 80, "https": 443})

_MAX_REDIRECTS = 5
_SKIPPED_BYTES = 262_144
"""A seek forward by no more reads on; by more it asks anew."""
_AGENT = "streaming-video-assistant"
_NO_PROTOCOL = "none"
_KINDS = "give an rtsp://, rtsps://, http:// or https:// address"


@dataclass(frozen=True, slots=True)
class CameraUrl:
    """A URL taken apart; whatever two programs may read differently was refused."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, from the slash on."""
    login: tuple[str, str] | None
    """User and password, unescaped."""
    userinfo: str
    """The same, escaped for a URL and with its `@`; empty where there is none."""

    @property
    def text(self) -> str:
        """Written out, without the login."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"


def parse_url(url: str) -> CameraUrl:
    """`url` in its parts. Raises `AddressRefused` where it is not plainly one of the four kinds."""
    name = redact_url(url)
    if any(ord(sign) <= 0x20 or ord(sign) == 0x7F for sign in url) or "\\" in url:
        raise AddressRefused(name, "it holds spaces, control characters or backslashes", "leave them out")
    bare, userinfo = split_userinfo(url)
    try:
        parts = urlsplit(bare)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise AddressRefused(name, "its host or port cannot be read", _KINDS) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise AddressRefused(name, f"{parts.scheme or 'no scheme'}:// is not a camera's", _KINDS)
    if not host or "@" in parts.netloc:
        raise AddressRefused(name, "it names no host", _KINDS)
    parse_host(name, host)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    user, _, password = (userinfo or "").partition(":")
    login = None if userinfo is None else (unquote(user), unquote(password))
    escaped = "" if userinfo is None else escape_userinfo(url).partition("://")[2].rpartition("@")[0] + "@"
    return CameraUrl(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], target, login, escaped)


def guarded_opener(url: str, options: SourceOptions, reach: Reach) -> Callable[[], VideoReader]:
    """A function that connects to `url`, each time to the same addresses; it raises `SourceError`."""
    name = redact_url(url)
    hosts = PinnedHosts(name, reach)

    def connect() -> VideoReader:
        parts = parse_url(url)
        open_it = _open_rtsp if parts.scheme.startswith("rtsp") else _open_http
        return open_it(name, parts, hosts, options)

    return connect


class GuardedReader(VideoReader):
    """A reader that also closes what its bytes came through, and tells its errors from FFmpeg's."""

    def __init__(self, container: Any, name: str, rest: ExitStack, *, is_live: bool, is_finite: bool | None) -> None:
        """`is_finite` None leaves the answer to the container."""
        self._rest = rest
        try:
            super().__init__(container, name, is_live=is_live, is_finite=is_finite)
        except BaseException:
            rest.close()
            raise

    def close(self) -> None:
        """Close the container, then what it read from."""
        super().close()
        self._rest.close()


def _open_rtsp(name: str, parts: CameraUrl, hosts: PinnedHosts, options: SourceOptions) -> VideoReader:
    addresses = hosts.addresses(parts.host, parts.port)
    with ExitStack() as stack:
        relay = stack.enter_context(
            RtspRelay(name, addresses, parts.port, parts.host if parts.scheme == "rtsps" else None, options)
        )
        began_s = time.monotonic()
        try:
            container = av.open(
                f"rtsp://{parts.userinfo}127.0.0.1:{relay.port}{parts.target}",
                options={
                    "rtsp_transport": "tcp",
                    "protocol_whitelist": "tcp",
                    "fflags": "nobuffer",
                    "flags": "low_delay",
                    "fpsprobesize": "0",
                },
                timeout=(options.open_timeout_s, options.read_timeout_s / 2),
                metadata_errors="replace",
            )
            return GuardedReader(container, name, stack.pop_all(), is_live=True, is_finite=None)
        except av.FFmpegError as error:
            caught = error
        if relay.refusal:
            raise AddressRefused(name, relay.refusal, "give the address it leads to, if you trust it")
        raise _mapped(caught, name, parts, options, time.monotonic() - began_s)


def _open_http(name: str, parts: CameraUrl, hosts: PinnedHosts, options: SourceOptions) -> VideoReader:
    with ExitStack() as stack:
        files = stack.enter_context(HttpFiles(name, parts, hosts, options))
        try:
            container = av.open(
                parts.text,
                io_open=files.open,
                options={
                    "protocol_whitelist": _NO_PROTOCOL,
                    "format_whitelist": SAFE_FORMATS,
                    # Kept connections are FFmpeg's own business, which it has none of here.
                    "http_persistent": "0",
                },
                timeout=(options.open_timeout_s, options.read_timeout_s),
                metadata_errors="replace",
            )
        except av.error.ArgumentError:
            raise NotAVideo(name, "what the server sends is no video that is read from URLs", _KINDS) from None
        except av.FFmpegError as error:
            caught = error
        else:
            is_playlist = bool({"hls", "dash"} & set(container.format.name.split(",")))
            is_finite = None if is_playlist or files.length_bytes is None else files.length_bytes > 0
            return GuardedReader(container, name, stack.pop_all(), is_live=False, is_finite=is_finite)
        raise NotAVideo(name, f"what the server sends is not a video ({reason_of(caught)})", "check it in a browser")


def _mapped(
    error: av.FFmpegError, name: str, parts: CameraUrl, options: SourceOptions, elapsed_s: float
) -> SourceError:
    """FFmpeg's `error` at an RTSP camera that was connected to, in our own terms."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return LoginRefused.of(name, was_given=parts.login is not None)
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceNotFound(name, "the server has no such stream (404)", "check the path in the URL")
    if isinstance(error, av.error.ExitError | av.error.TimeoutError) or elapsed_s >= 0.95 * options.open_timeout_s:
        limit = f"no answer within {options.open_timeout_s:g} s"
        return SourceTimeout(name, limit, "check host, port and network")
    return SourceUnreachable(name, f"it does not answer as a camera does ({reason_of(error)})", "check host and port")


class HttpFiles:
    """Opens the files of one source, the first as well as those that a playlist names, through one client."""

    def __init__(self, name: str, parts: CameraUrl, hosts: PinnedHosts, options: SourceOptions) -> None:
        self._name = name
        self._parts = parts
        self._options = options
        limits = httpx.Timeout(options.read_timeout_s, connect=options.open_timeout_s)
        self._client = httpx.Client(
            transport=PinnedTransport(name, hosts),
            follow_redirects=True,
            max_redirects=_MAX_REDIRECTS,
            timeout=limits,
            trust_env=False,
            headers={"User-Agent": _AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
        )
        self._files: set[HttpFile] = set()
        self.length_bytes: int | None = None
        """Of the first file: None before it was opened, 0 where the server does not say."""

    def open(self, url: str | bytes, flags: int, options: dict[str, str]) -> HttpFile:
        """What FFmpeg calls for each file. Raises `SourceError`."""
        text = url.decode() if isinstance(url, bytes) else url
        if flags & 2:
            raise AddressRefused(self._name, "FFmpeg wants to write", "give another stream")
        parts = parse_url(text)
        if parts.scheme not in ("http", "https"):
            raise AddressRefused(self._name, f"a playlist leads to {parts.scheme}://", "give that address itself")
        is_same = (parts.scheme, parts.host, parts.port) == (self._parts.scheme, self._parts.host, self._parts.port)
        span = (int(options.get("offset", 0)), int(options.get("end_offset", 0)))
        opened = HttpFile(self, parts.text, self._parts.login if is_same else None, span)
        self._files.add(opened)
        if self.length_bytes is None:
            self.length_bytes = opened.length_bytes or 0
        return opened

    def forget(self, closed: HttpFile) -> None:
        """A file was closed."""
        self._files.discard(closed)

    def get(self, url: str, login: tuple[str, str] | None, start: int, end: int) -> httpx.Response:
        """The answer to one request, not read yet; bytes from `start` to before `end` (0: to the last)."""
        headers = {"Range": f"bytes={start}-{end - 1 if end else ''}"} if start or end else {}
        try:
            response = self._ask(url, login, headers)
        except httpx.TimeoutException:
            limit = f"no answer within {self._options.open_timeout_s:g} s"
            raise SourceTimeout(self._name, limit, "check host, port and network") from None
        except httpx.TooManyRedirects:
            raise AddressRefused(self._name, f"it redirects more than {_MAX_REDIRECTS} times", "check it") from None
        except httpx.HTTPError as error:
            reason = f"it cannot be reached ({_reason(error)})"
            raise SourceUnreachable(self._name, reason, "check host and port") from None
        if response.is_success:
            return response
        response.close()
        code = response.status_code
        if code in (401, 403):
            raise LoginRefused.of(self._name, was_given=self._parts.login is not None)
        if code in (404, 410):
            raise SourceNotFound(self._name, f"the server has no such stream ({code})", "check the path in the URL")
        raise SourceUnreachable(self._name, f"the server answers {code}", "ask whoever runs it")

    def _ask(self, url: str, login: tuple[str, str] | None, headers: dict[str, str]) -> httpx.Response:
        """Ask, and once more with the login in the way that the server wants."""
        request = self._client.build_request("GET", url, headers=headers)
        response = self._client.send(request, stream=True)
        wanted = response.headers.get("WWW-Authenticate", "").lower()
        if response.status_code != 401 or login is None:
            return response
        response.close()
        auth: httpx.Auth = httpx.DigestAuth(*login) if wanted.startswith("digest") else httpx.BasicAuth(*login)
        return self._client.send(self._client.build_request("GET", url, headers=headers), stream=True, auth=auth)

    def __enter__(self) -> HttpFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in tuple(self._files):
            opened.close()
        self._client.close()


class HttpFile:
    """One file behind a URL, for FFmpeg to read; seekable where the server gives parts of it."""

    def __init__(self, files: HttpFiles, url: str, login: tuple[str, str] | None, span: tuple[int, int]) -> None:
        self._files, self._url, self._login = files, url, login
        self._start, self._end = span
        self._position = self._start
        self._chunks: Iterator[bytes] = iter(())
        self._rest = b""
        self._response: httpx.Response | None = self._connect()
        self.length_bytes = self._measured(self._response)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Whether the server says how long it is, and gives parts of it."""
        if self._response is None or not self.length_bytes:
            return False
        return self._response.status_code == 206 or self._response.headers.get("Accept-Ranges", "") == "bytes"

    def tell(self) -> int:
        """Bytes from its start."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go there; the next read asks for it."""
        length = self.length_bytes or 0
        target = offset + (0 if whence == 0 else self._position if whence == 1 else length)
        ahead = target - self._position
        if 0 <= ahead <= len(self._rest):
            self._rest = self._rest[ahead:]
        elif not (0 < ahead <= _SKIPPED_BYTES and self._response is not None and self._skip(ahead)):
            self._drop()
        self._position = target
        return target

    def read(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; none at the end. Raises FFmpeg's errors."""
        if self.length_bytes is not None and self._position >= self.length_bytes:
            return b""
        if self._response is None:
            self._response = self._connect()
        if not self._rest:
            self._rest = self._next()
        taken, self._rest = self._rest[:size], self._rest[size:]
        self._position += len(taken)
        return taken

    def close(self) -> None:
        """Let go of the connection."""
        self._drop()
        self._files.forget(self)

    def _connect(self) -> httpx.Response:
        response = self._files.get(self._url, self._login, self._position, self._end)
        self._chunks, self._rest = response.iter_raw(), b""
        if self._position and response.status_code != 206 and not self._skip(self._position):
            response.close()
            raise av.error.EOFError(errno.EPIPE, "the server gives no parts of it")
        return response

    def _measured(self, response: httpx.Response) -> int | None:
        """Bytes of the whole file, None where the server does not say."""
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        counted = whole if whole.isdecimal() else response.headers.get("Content-Length", "")
        if self._end:
            return self._end
        return int(counted) if counted.isdecimal() else None

    def _skip(self, count: int) -> bool:
        """Read `count` bytes and forget them; False where there are not so many."""
        while count > len(self._rest):
            count -= len(self._rest)
            self._rest = self._next()
            if not self._rest:
                return False
        self._rest = self._rest[count:]
        return True

    def _next(self) -> bytes:
        try:
            return next((chunk for chunk in self._chunks if chunk), b"")
        except httpx.TimeoutException:
            raise av.error.ExitError(errno.ETIMEDOUT, "nothing came within the time limit") from None
        except (httpx.HTTPError, httpx.StreamError):
            raise av.error.ConnectionResetError(errno.ECONNRESET, "connection reset by peer") from None

    def _drop(self) -> None:
        response, self._response = self._response, None
        self._rest = b""
        if response is not None:
            response.close()


def _reason(error: Exception) -> str:
    """What went wrong, without the system's number for it.

    >>> _reason(ConnectionRefusedError(111, "Connection refused"))
    'connection refused'
    """
    said = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
    return said[:1].lower() + said[1:]
