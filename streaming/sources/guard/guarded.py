"""Opens untrusted URLs. FFmpeg never connects to the network itself, so no playlist or redirect can mislead it.

HTTP goes through our own client: each connection to a pinned address, each redirect and each file of a playlist checked
like the first. RTSP goes through a relay (`streaming.sources.guard.relay`). Threads as for `VideoReader`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import av

from streaming.errors import (
    AddressRefused,
    LoginRefused,
    SourceError,
    SourceNotFound,
    SourceTimeout,
    SourceUnreachable,
)
from streaming.network_policy import NetworkPolicy, PinnedHosts
from streaming.redact import redact_url
from streaming.sources.addresses import CameraUrl, parse_url
from streaming.sources.base import SourceOptions
from streaming.sources.guard.pinned_http import PinnedTransport
from streaming.sources.guard.relay import RtspRelay
from streaming.sources.http_files import HttpFiles, make_client
from streaming.sources.http_opening import FilesReader, open_answer
from streaming.sources.reading import SAFE_FORMATS, VideoReader, reason_of
from streaming.sources.rtsp_options import open_rtsp

_NO_PROTOCOL = "none"


def guarded_opener(url: str, options: SourceOptions, reach: NetworkPolicy) -> Callable[[], VideoReader]:
    """A function that connects to `url`, at fixed addresses that `reach` must allow. It raises `SourceError`."""
    name = redact_url(url)
    hosts = PinnedHosts(name, reach)

    def connect() -> VideoReader:
        parts = parse_url(url)
        open_it = _open_rtsp if parts.scheme.startswith("rtsp") else _open_http
        return open_it(name, parts, hosts, options)

    return connect


def _open_rtsp(name: str, parts: CameraUrl, hosts: PinnedHosts, options: SourceOptions) -> VideoReader:
    return open_rtsp(lambda given: _open_relayed(name, parts, hosts, options, given))


def _open_relayed(
    name: str, parts: CameraUrl, hosts: PinnedHosts, options: SourceOptions, given: dict[str, str]
) -> VideoReader:
    """Connect once through a relay, with the options `given` for FFmpeg."""
    addresses = hosts.addresses(parts.host, parts.port)
    with ExitStack() as stack:
        relay = stack.enter_context(
            RtspRelay(name, addresses, parts.port, parts.host if parts.scheme == "rtsps" else None, options)
        )
        began_s = time.monotonic()
        try:
            container = av.open(
                f"rtsp://{parts.userinfo}127.0.0.1:{relay.port}{parts.target}",
                options={**given, "rtsp_transport": "tcp", "protocol_whitelist": "tcp"},
                timeout=(options.open_timeout_s, options.read_timeout_s / 2),
                metadata_errors="replace",
            )
            return FilesReader(container, name, stack.pop_all(), is_live=True, is_finite=None)
        except av.FFmpegError as error:
            caught = error
        if relay.refusal:
            raise AddressRefused(name, relay.refusal, "give the address it leads to, if you trust it")
        raise _mapped(caught, name, parts, options, time.monotonic() - began_s)


def _open_http(name: str, parts: CameraUrl, hosts: PinnedHosts, options: SourceOptions) -> VideoReader:
    with ExitStack() as stack:
        client = make_client(PinnedTransport(name, hosts))
        files = stack.enter_context(HttpFiles(name, parts, client, options))
        first = files.open_first()
        stack.pop_all()
    # FFmpeg opens no connections of its own here, so it must not try to keep them.
    av_options = {"protocol_whitelist": _NO_PROTOCOL, "format_whitelist": SAFE_FORMATS, "http_persistent": "0"}
    return open_answer(name, first, files, options, av_options)


def _mapped(
    error: av.FFmpegError, name: str, parts: CameraUrl, options: SourceOptions, elapsed_s: float
) -> SourceError:
    """The `SourceError` for FFmpeg's `error` at an RTSP camera that the relay connected to."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return LoginRefused.of(name, was_given=parts.login is not None)
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceNotFound(name, "the server has no such stream (404)", "check the path in the URL")
    if isinstance(error, av.error.ExitError | av.error.TimeoutError) or elapsed_s >= 0.95 * options.open_timeout_s:
        limit = f"no answer within {options.open_timeout_s:g} s"
        return SourceTimeout(name, limit, "check host, port and network, or raise open_timeout_s")
    return SourceUnreachable(name, f"it does not answer as a camera does ({reason_of(error)})", "check host and port")
