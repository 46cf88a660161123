"""Sources for network URLs: cameras by RTSP, and recordings or live streams by HTTP.

Threads as for `LiveSource` and `ReplaySource`, which do the work.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import av

from streaming.buffer import Item
from streaming.clock import Clock
from streaming.errors import (
    LoginRefused,
    NotAVideo,
    PlayedBefore,
    SourceError,
    SourceNotFound,
    SourceTimeout,
    SourceUnreachable,
)
from streaming.redact import redact_url, split_userinfo
from streaming.sources.addresses import split_url
from streaming.sources.base import SourceOptions
from streaming.sources.hardware import HardwareDecoding
from streaming.sources.reading import VideoReader, open_reader, reason_of
from streaming.sources.reconnect import LiveSource
from streaming.sources.recordings import ReplaySource
from streaming.sources.rtsp_options import open_rtsp
from streaming.types import SourceInfo

RTSP_SCHEMES = ("rtsp", "rtsps")
HTTP_SCHEMES = ("http", "https")

_RTSP_PROTOCOLS = {"tcp": "tcp,tls", "udp": "tcp,tls,udp,rtp"}
_HTTP_PROTOCOLS = "http,https,tcp,tls,crypto,httpproxy"

# Files that a file refers to are opened through our own client, so FFmpeg needs no protocols.
_FILE_OPTIONS = {"protocol_whitelist": "none"}

_LOGIN_ERRORS = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)
_TIMEOUT_ERRORS = (av.error.ExitError, av.error.TimeoutError)


def network_source(url: str, options: SourceOptions, clock: Clock | None = None) -> LiveSource | HttpSource:
    """The source for an `rtsp(s)://` or `http(s)://` URL."""
    if _scheme(url) in RTSP_SCHEMES:
        return LiveSource(redact_url(url), _connector(url, options), options, clock)
    return HttpSource(url, options, clock)


class HttpSource:
    """A source by HTTP: a recording if it has an end (a length, or data that ends or comes too fast), else live."""

    def __init__(self, url: str, options: SourceOptions, clock: Clock | None = None) -> None:
        self._url = url
        self._name = redact_url(url)
        self._options = options
        self._clock = clock
        self._connect = _connector(url, options)
        self._inner: ReplaySource | LiveSource | None = None
        self._first: VideoReader | None = None
        """The first connection, whose first packets tell whether a later one begins with the same."""
        self._closed = threading.Event()

    @property
    def name(self) -> str:
        """The URL, redacted."""
        return self._name

    @property
    def is_live(self) -> bool:
        """Whether it is a live stream; False before it was opened."""
        return self._inner is not None and self._inner.is_live

    def open(self) -> SourceInfo:
        """Connect, and find out whether it is a recording or live.

        With `retry.from_start`, a URL that cannot be reached yet counts as live.
        """
        self.close()
        self._closed = closed = threading.Event()
        options, retry = self._options, self._options.retry
        self._first = None
        try:
            reader = self._connect()
        except SourceError as error:
            if not retry.from_start:
                raise
            self._inner = LiveSource(self._name, _raise_then(error, self._connect_again), options, self._clock)
            return self._inner.open()
        self._first = reader
        try:
            if reader.is_finite:
                self._inner = ReplaySource(self._name, options, self._clock, _first_then(reader, self._connect))
            else:
                connected = replace(options, retry=replace(retry, from_start=False))
                opener = _first_then(reader, self._connect_again)
                self._inner = LiveSource(self._name, opener, connected, self._clock)
            info = self._inner.open()
        except BaseException:
            reader.close()
            raise
        if closed.is_set():  # `close` was called before `_inner` was set
            self._inner.close()
            raise SourceError(self._name, "it was closed while it was being opened", "open it again")
        return info

    def frames(self) -> Iterator[Item]:
        """Frames and notices in order, as a recording's or a live source's."""
        if self._inner is None:
            raise SourceError(self._name, "it is not open", "call open() first")
        return self._inner.frames()

    def close(self) -> None:
        """Release everything, including a connection that is being opened."""
        self._closed.set()
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect_again(self) -> VideoReader:
        """A new connection; raises `PlayedBefore` if it starts with the same data as the first one."""
        reader = self._connect()
        known = self._first.digest if self._first is not None else None
        if known is not None and reader.read_digest() == known:
            reader.close()
            raise PlayedBefore(self._name, "it ended, and the server sends the same again", "it is a recording")
        if known is None:
            self._first = reader
        return reader


def _connector(url: str, options: SourceOptions) -> Callable[[], VideoReader]:
    """A function that connects to `url`; its connections share the choice of decoding device."""
    if options.reach is not None:
        from streaming.sources.guard.guarded import guarded_opener

        return guarded_opener(url, options, options.reach)
    hardware = HardwareDecoding(options.hardware)
    if _scheme(url) in HTTP_SCHEMES:
        return lambda: open_web(url, options, hardware)
    return lambda: open_stream(url, options, hardware)


def open_web(url: str, options: SourceOptions, hardware: HardwareDecoding | None = None) -> VideoReader:
    """Connect to the owner's `url` over HTTP. Raises a `SourceError`, without credentials.

    FFmpeg itself opens playlists, and servers whose HTTP or TLS only FFmpeg understands.
    """
    from streaming.sources.http_files import HttpFiles, make_client
    from streaming.sources.http_opening import is_playlist, open_answer

    name = redact_url(url)
    with ExitStack() as stack:
        files = stack.enter_context(HttpFiles(name, split_url(url), make_client(None), options))
        try:
            first = files.open_first()
            is_ours = not is_playlist(first)
        except SourceTimeout:
            raise
        except SourceUnreachable:
            is_ours = False
        if is_ours:
            stack.pop_all()
            return open_answer(name, first, files, options, _FILE_OPTIONS)
    reader = open_stream(url, options, hardware)
    reader.find_end(time.monotonic)
    return reader


def open_stream(url: str, options: SourceOptions, hardware: HardwareDecoding | None = None) -> VideoReader:
    """Connect to `url` with FFmpeg. Raises a `SourceError`, without credentials."""
    name = redact_url(url)
    is_rtsp = _scheme(url) in RTSP_SCHEMES
    began_s = time.monotonic()

    def open_with(given: dict[str, str]) -> VideoReader:
        return open_reader(
            url,
            name,
            options={**given, **(_rtsp_options(options) if is_rtsp else _http_options(options))},
            is_live=is_rtsp,
            hardware=hardware,
            # FFmpeg's RTSP waits twice: for data, and then for the answer to its TEARDOWN.
            timeout_s=(options.open_timeout_s, options.read_timeout_s / (2 if is_rtsp else 1)),
        )

    try:
        return open_rtsp(open_with) if is_rtsp else open_with({})
    except av.FFmpegError as error:
        caught = error
    # Raised outside the handler, so that the traceback does not contain FFmpeg's error, which quotes the URL.
    raise _mapped(caught, url, options, elapsed_s=time.monotonic() - began_s)


def _rtsp_options(options: SourceOptions) -> dict[str, str]:
    return {
        "rtsp_transport": options.rtsp_transport,
        "protocol_whitelist": _RTSP_PROTOCOLS[options.rtsp_transport],
        "timeout": _socket_timeout_us(options),
    }


def _http_options(options: SourceOptions) -> dict[str, str]:
    return {"protocol_whitelist": _HTTP_PROTOCOLS, "rw_timeout": _socket_timeout_us(options)}


def _socket_timeout_us(options: SourceOptions) -> str:
    """FFmpeg's limit on each network wait, in microseconds; unlike ours, it also applies while closing."""
    return str(int(1e6 * max(options.open_timeout_s, options.read_timeout_s)))


def _mapped(error: av.FFmpegError, url: str, options: SourceOptions, elapsed_s: float) -> SourceError:
    """The `SourceError` for FFmpeg's `error`."""
    name, reason = redact_url(url), reason_of(error)
    if isinstance(error, _LOGIN_ERRORS):
        return LoginRefused.of(name, was_given=split_userinfo(url)[1] is not None)
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceNotFound(name, "the server has no such stream (404)", "check the path in the URL")
    # If a server accepts and then sends nothing, FFmpeg reports invalid data after the time limit.
    if isinstance(error, _TIMEOUT_ERRORS) or elapsed_s >= 0.95 * options.open_timeout_s:
        limit = f"no answer within {options.open_timeout_s:g} s"
        return SourceTimeout(name, limit, "check host, port and network, or raise open_timeout_s")
    if isinstance(error, av.error.InvalidDataError) and _scheme(url) in HTTP_SCHEMES:
        return NotAVideo(name, f"what the server sends is not a video ({reason})", "check the URL in a browser")
    if not isinstance(error, av.error.ConnectionRefusedError) and not _resolves(url):
        return SourceUnreachable(name, "its host name is not known", "check the name, or give its IP address")
    return SourceUnreachable(name, f"it cannot be reached ({reason})", "check host, port and network")


def _resolves(url: str) -> bool:
    """Whether the host of `url` has an address; FFmpeg reports only an input/output error if it has none."""
    host = urlsplit(split_userinfo(url)[0]).hostname
    try:
        return bool(host and socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):
        return False


def _raise_then(error: SourceError, others: Callable[[], VideoReader]) -> Callable[[], VideoReader]:
    """A function that raises `error` once, and calls `others` after that."""
    errors = iter([error])

    def connect() -> VideoReader:
        for known in errors:
            raise known
        return others()

    return connect


def _first_then(first: VideoReader, others: Callable[[], VideoReader]) -> Callable[[], VideoReader]:
    """A function that returns `first` once, and calls `others` after that."""
    once = iter([first])
    return lambda: next(once, None) or others()


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()
