"""Files over HTTP for FFmpeg to read, through a client of ours: every request, redirect and limit is seen here.

Threads as for `VideoReader`, whose bytes they are.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

import av
import httpx

from streaming.errors import AddressRefused, LoginRefused, SourceNotFound, SourceTimeout, SourceUnreachable
from streaming.reach import PinnedHosts
from streaming.sources.addresses import CameraUrl, parse_url
from streaming.sources.base import SourceOptions
from streaming.sources.pinned import PinnedTransport

_AGENT = "streaming-video-assistant"
_MAX_REDIRECTS = 5
_SKIPPED_BYTES = 262_144
"""A seek forward by no more reads on; by more it asks anew."""


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
