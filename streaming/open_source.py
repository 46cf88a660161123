"""Makes the source for a user's text: a path, a URL, `webcam:N` or `synthetic:SEED`. Heavy libraries load on use."""

from __future__ import annotations

import re

from streaming.clock import Clock
from streaming.errors import OptionError
from streaming.redact import redact_url
from streaming.sources.base import Source, SourceOptions

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_NUMBERED = re.compile(r"(webcam|synthetic):(.*)", re.DOTALL)
_SENT = frozenset({"udp", "rtp", "srtp", "srt", "rist", "rtmp", "rtmps", "rtmpt", "tcp", "unix", "whip", "webrtc"})
_SERVED = "its rtsp:// or http:// address"
_KINDS = "a path, rtsp://, rtsps://, http://, https://, webcam:0 or synthetic:1"


def open_source(spec: str, *, options: SourceOptions | None = None, clock: Clock | None = None) -> Source:
    """The source for `spec`, not opened yet: a path, an `rtsp(s)` or `http(s)` URL, `webcam:N` or `synthetic:SEED`.

    Raises `OptionError` for another kind of URL, a bad number, or an option that this kind of source does not support.
    """
    options = options or SourceOptions()
    source = _make(spec, options, clock)
    if options.masks is None or not options.masks.regions:
        return source
    from streaming.sources.masked import MaskedSource

    return MaskedSource(source, options.masks)


def _make(spec: str, options: SourceOptions, clock: Clock | None) -> Source:
    if not spec.strip():
        raise OptionError("source ''", "it is empty", f"give {_KINDS}")
    numbered = _NUMBERED.fullmatch(spec)
    if numbered is not None:
        return _make_numbered(numbered[1], _number(spec, numbered[2]), options, clock)
    url = _URL.match(spec)
    scheme = url[1].lower() if url else ""
    if scheme in ("rtsp", "rtsps", "http", "https"):
        from streaming.sources.network import network_source

        return network_source(spec, options, clock)
    if scheme in _SENT:
        rule = f"{scheme}:// is not read by this program, only served addresses are"
        raise OptionError(redact_url(spec), rule, f"let a server such as MediaMTX take it, and give {_SERVED}")
    if scheme and scheme != "file":
        raise OptionError(redact_url(spec), f"{scheme}:// is not a kind of source", f"give {_KINDS}")
    from streaming.sources.recordings import ReplaySource

    return ReplaySource(spec[len("file://") :] if scheme else spec, options, clock)


def _make_numbered(kind: str, number: int, options: SourceOptions, clock: Clock | None) -> Source:
    if kind == "webcam":
        from streaming.sources.webcam import webcam_source

        return webcam_source(number, options, clock)
    from streaming.scenes.source import SyntheticSource

    return SyntheticSource(number, options, clock=clock)


def _number(spec: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise OptionError(spec, "after the colon comes a whole number from 0 up", f"give {_KINDS}")
    return int(text)
