"""FFmpeg's options for opening an RTSP camera, directly or through the relay. For the thread that opens it."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TypeVar

from streaming.errors import NotAVideo

R = TypeVar("R")

_ALWAYS = MappingProxyType(
    {
        "flags": "low_delay",
        # Otherwise FFmpeg measures the rate for a second and a half before it returns the first frame.
        "fpsprobesize": "0",
        # With sound or metadata, a stream whose pictures have stopped would not time out.
        "allowed_media_types": "video",
    }
)
_FIRST_PACKET_ALONE = MappingProxyType({"probesize": "32"})


def open_rtsp(open_with: Callable[[dict[str, str]], R]) -> R:
    """Return `open_with(options)`, called with FFmpeg's options for RTSP, and once more with others if it fails.

    A camera's description often names only its codec; the size comes with the first key frame, seconds later for some
    cameras. FFmpeg would probe fifty packets for it, discard them, and give up. So FFmpeg probes the first packet only,
    and the reader waits for the key frame. A stream without a named codec (MPEG-TS over RTP) is probed in full.
    """
    try:
        return open_with({**_ALWAYS, **_FIRST_PACKET_ALONE})
    except NotAVideo:
        return open_with(dict(_ALWAYS))
