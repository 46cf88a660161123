"""Files over HTTP for FFmpeg, fetched by our own client, so that each request, redirect and limit is checked here.

Threads as for the `VideoReader` that reads them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import av
import httpx

from streaming.errors import (
    AddressRefused,
    LoginRefused,
    SourceError,
    SourceNotFound,
    SourceTimeout,
    SourceUnreachable,
)
from streaming.sources.addresses import KINDS, CameraUrl, parse_url
from streaming.sources.base import SourceOptions
from streaming.sources.guard.pinned_http import trusting_context
from streaming.sources.reading import reason_of

if TYPE_CHECKING:
    from streaming.sources.hls_decryption import DecryptedFile, EmptyFile

_AGENT = "streaming-video-assistant"
_MAX_REDIRECTS = 5
_BEGINNING_BYTES = 65_536
_FRESH_S = 60.0
"""A file that was changed this shortly before the answer may still be written: cameras give the present time."""
_SKIPPED_BYTES = 262_144
"""A seek forward by at most this many bytes reads and discards them; a longer one sends a new request."""


class HttpFiles:
    """Opens the files of one source through one client: its own file, and those that a playlist names."""

    def __init__(self, name: str, parts: CameraUrl, client: httpx.Client, options: SourceOptions) -> None:
        """`name` is the source's display name, for messages; `parts` its URL; `client` is closed with this object."""
        self._name = name
        self._parts = parts
        self._options = options
        self._client = client
        self._files: set[HttpFile] = set()
        self._first: HttpFile | None = None
        self._failure: SourceError | None = None

    @property
    def url(self) -> str:
        """The source's URL, without the login."""
        return self._parts.text

    def open_first(self) -> HttpFile:
        """Open the source's own file; the first call of `open` returns it to FFmpeg. Raises `SourceError`."""
        self._first = first = HttpFile(self, self._parts.text, self._parts.login, (0, 0))
        first.defers_failure = True
        self._files.add(first)
        return first

    def open(self, url: str | bytes, flags: int, options: dict[str, str]) -> HttpFile | DecryptedFile | EmptyFile:
        """Open a file for FFmpeg, which calls this for each one. It never raises: see `pop_failure`."""
        from streaming.sources.hls_decryption import EmptyFile

        first, self._first = self._first, None
        try:
            if flags & 2:
                raise AddressRefused(self._name, "FFmpeg wants to write", "give another stream")
            return (
                self._checked(first)
                if first is not None
                else self._open_part(url.decode() if isinstance(url, bytes) else url, options)
            )
        except SourceError as error:
            self.record_failure(error)
            return EmptyFile()

    def record_failure(self, failure: SourceError) -> None:
        """Remember that a file could not be read. Only the first failure is kept, as it often causes the later ones."""
        self._failure = self._failure or failure

    def pop_failure(self) -> SourceError | None:
        """The first failure since the last call, or None."""
        failure, self._failure = self._failure, None
        return failure

    def on_closed(self, closed: HttpFile) -> None:
        """Forget a file that was closed, and record its failure."""
        self._files.discard(closed)
        if closed.defers_failure and closed.failure is not None:
            rule = f"a part of it broke off ({reason_of(closed.failure)})"
            self.record_failure(SourceUnreachable(self._name, rule, "try again"))

    def _open_part(self, text: str, options: dict[str, str]) -> HttpFile | DecryptedFile:
        """Open a file that a playlist names: another playlist, a key, or a segment. Raises `SourceError`."""
        from streaming.sources.hls_decryption import DecryptedFile

        address = text.removeprefix("crypto+").removeprefix("crypto:")
        scheme = address.partition(":")[0].lower()
        if scheme not in ("http", "https"):
            rule = f"a playlist leads to {scheme}:, and is followed to http and https alone"
            raise AddressRefused(self._name, rule, "give that address itself")
        parts = parse_url(address)
        is_same = (parts.scheme, parts.host, parts.port) == (self._parts.scheme, self._parts.host, self._parts.port)
        span = (int(options.get("offset", 0)), int(options.get("end_offset", 0)))
        try:
            opened = HttpFile(self, parts.text, self._parts.login if is_same else None, span)
        except SourceError as error:
            raise type(error)(error.value, f"a part of it, {parts.text}: {error.rule}", error.remedy) from None
        opened.defers_failure = True
        self._files.add(opened)
        if address == text:
            return self._checked(opened)
        key, iv = (bytes.fromhex(options.get(name, "")) for name in ("key", "iv"))
        return DecryptedFile(opened, self._name, key, iv, self.record_failure)

    def _checked(self, opened: HttpFile) -> HttpFile:
        """Return `opened`; raises `NotAVideo` if it is a playlist that cannot be decrypted."""
        from streaming.sources.hls_decryption import check_keys

        if opened.head().startswith(b"#EXTM3U"):
            check_keys(self._name, opened.head())
        return opened

    def get(self, url: str, login: tuple[str, str] | None, start: int, end: int) -> httpx.Response:
        """The answer to a GET request, its body not read yet. Raises `SourceError` for any other status than success.

        Requests the bytes from `start` up to `end`, which is excluded (0: up to the last).
        """
        headers = {"Range": f"bytes={start}-{end - 1 if end else ''}"} if start or end else {}
        try:
            response = self._ask(url, login, headers)
        except httpx.InvalidURL:
            raise AddressRefused(self._name, "it is no address", KINDS) from None
        except httpx.TimeoutException:
            limit = f"no answer within {self._options.open_timeout_s:g} s"
            raise SourceTimeout(self._name, limit, "check host, port and network, or raise open_timeout_s") from None
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
        if code == 416:
            rule = "the server offers parts of the file and refuses them (416)"
            raise SourceUnreachable(self._name, rule, "download it and give the file")
        if code in (404, 410):
            raise SourceNotFound(self._name, f"the server has no such stream ({code})", "check the path in the URL")
        raise SourceUnreachable(self._name, f"the server answers {code}", "ask whoever runs it")

    def _ask(self, url: str, login: tuple[str, str] | None, headers: dict[str, str]) -> httpx.Response:
        """Send the request, and after a 401 once more with the login, as digest or basic authentication."""
        response = self._send(url, headers, None)
        wanted = response.headers.get("WWW-Authenticate", "").lower()
        if response.status_code != 401 or login is None:
            return response
        response.close()
        auth: httpx.Auth = httpx.DigestAuth(*login) if wanted.startswith("digest") else httpx.BasicAuth(*login)
        return self._send(url, headers, auth)

    def _send(self, url: str, headers: dict[str, str], auth: httpx.Auth | None) -> httpx.Response:
        """Send one request; `open_timeout_s` limits the wait for the answer, `read_timeout_s` each read of its body."""
        options = self._options
        limits = httpx.Timeout(options.read_timeout_s, connect=options.open_timeout_s, read=options.open_timeout_s)
        request = self._client.build_request("GET", url, headers=headers, timeout=limits)
        response = self._client.send(request, stream=True, auth=auth)
        # httpx reads this limit again when it reads the body.
        response.request.extensions["timeout"]["read"] = options.read_timeout_s
        return response

    def __enter__(self) -> HttpFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in tuple(self._files):
            opened.close()
        self._client.close()


def make_client(transport: httpx.BaseTransport | None) -> httpx.Client:
    """A client for `HttpFiles`. Without a `transport` it connects to any host and uses the system's proxies."""
    return httpx.Client(
        transport=transport,
        verify=trusting_context() if transport is None else True,
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        trust_env=transport is None,
        # Some servers close the connection after an answer without announcing it; reusing it would fail.
        headers={"User-Agent": _AGENT, "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"},
    )


class HttpFile:
    """A file object for FFmpeg over one URL; seekable if the server supports range requests."""

    def __init__(self, files: HttpFiles, url: str, login: tuple[str, str] | None, span: tuple[int, int]) -> None:
        self._files, self._url, self._login = files, url, login
        self._start, self._end = span
        self._position = self._start
        self._chunks: Iterator[bytes] = iter(())
        self._rest = b""
        self._response: httpx.Response | None = None
        self._response = response = self._connect()
        self.length_bytes = self._measured(response)
        """Length of the whole file; None if the server does not declare it."""
        self.failure: av.FFmpegError | None = None
        """The error that broke it off, or None."""
        self.defers_failure = False
        """Whether `read` reports a failure as the end of the file, and only `failure` tells of it."""
        self.content_type: str = response.headers.get("Content-Type", "")
        """The server's content type; empty if it sends none."""
        self.is_stored = _is_stored(response.headers)
        """Whether the answer's headers are those of a stored file, rather than of data that is being made."""
        self.beginning = b""
        """The first 64 KiB at most, as far as they were read."""

    def head(self) -> bytes:
        """The first bytes of the file, which `read` returns as well; empty if there are none."""
        if not self._rest and not self._position:
            self._rest = self._next()
        return self._rest

    def readable(self) -> bool:
        """True: FFmpeg may read it."""
        return True

    def seekable(self) -> bool:
        """Whether the server declares the length and supports range requests."""
        if self._response is None or not self.length_bytes or _is_packed(self._response):
            return False
        return self._response.status_code == 206 or self._response.headers.get("Accept-Ranges", "") == "bytes"

    def tell(self) -> int:
        """The position, in bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position and return it; the next read requests it if needed."""
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
        """Return at most `size` bytes, as soon as any are available, and none at the end. Raises FFmpeg's errors."""
        if self.length_bytes is not None and self._position >= self.length_bytes:
            return b""
        if self._response is None:
            self._response = self._connect()
        if not self._rest:
            self._rest = self._next()
        taken, self._rest = self._rest[:size], self._rest[size:]
        if self._position == len(self.beginning) < _BEGINNING_BYTES:
            self.beginning += taken[: _BEGINNING_BYTES - self._position]
        self._position += len(taken)
        return taken

    def close(self) -> None:
        """Close the connection."""
        self._drop()
        self._files.on_closed(self)

    def _connect(self) -> httpx.Response:
        response = self._files.get(self._url, self._login, self._position, self._end)
        # Some servers compress every answer, although the request forbids it.
        self._chunks, self._rest = response.iter_bytes() if _is_packed(response) else response.iter_raw(), b""
        if self._position and response.status_code != 206 and not self._skip(self._position):
            response.close()
            raise av.error.EOFError(errno.EPIPE, "the server gives no parts of it")
        return response

    def _measured(self, response: httpx.Response) -> int | None:
        """Length of the whole file; None if the server does not declare it."""
        if _is_packed(response):
            return None
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        counted = whole if whole.isdecimal() else response.headers.get("Content-Length", "")
        if self._end:
            return self._end
        return int(counted) if counted.isdecimal() else None

    def _skip(self, count: int) -> bool:
        """Read and discard `count` bytes; return False if the file has fewer."""
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
            self.failure = av.error.ExitError(errno.ETIMEDOUT, "nothing came within the time limit")
        except (httpx.HTTPError, httpx.StreamError):  # includes errors of decompression
            self.failure = av.error.ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
        if self.defers_failure:
            return b""
        raise self.failure

    def _drop(self) -> None:
        response, self._response = self._response, None
        self._rest = b""
        if response is not None:
            response.close()


def _is_packed(response: httpx.Response) -> bool:
    """Whether the body is compressed, so that its declared length is wrong and ranges cannot be requested."""
    return response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")


def _is_stored(headers: httpx.Headers) -> bool:
    """Whether `headers` name a version of a file, or offer parts of it, and do not forbid to keep it.

    >>> _is_stored(httpx.Headers({"ETag": '"5f-1"'})), _is_stored(httpx.Headers({"Cache-Control": "no-store"}))
    (True, False)
    """
    caching = f"{headers.get('Cache-Control', '')} {headers.get('Pragma', '')}".lower()
    if "no-store" in caching or "no-cache" in caching:
        return False
    if "ETag" in headers or headers.get("Accept-Ranges", "").strip().lower() == "bytes":
        return True
    changed, asked = (_date_of(headers.get(name, "")) for name in ("Last-Modified", "Date"))
    return changed is not None and asked is not None and (asked - changed).total_seconds() > _FRESH_S


def _date_of(text: str) -> datetime | None:
    """The time that a header gives; None if it gives none."""
    try:
        parsed = parsedate_to_datetime(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _reason(error: Exception) -> str:
    """The message of `error` without its error number, starting in lower case.

    >>> _reason(ConnectionRefusedError(111, "Connection refused"))
    'connection refused'
    """
    said = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
    return said[:1].lower() + said[1:]
