"""What FFmpeg is told when it opens an RTSP camera, by whatever way; for the thread that opens it."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TypeVar

from streaming.errors import NotAVideo

R = TypeVar("R")

_ALWAYS = MappingProxyType(
    {
        "flags": "low_delay",
        # Without this FFmpeg measures the rate for a second and a half before it gives the first frame.
        "fpsprobesize": "0",
        # What is not asked for cannot hide that the pictures have stopped.
        "allowed_media_types": "video",
    }
)
_FIRST_PACKET_ALONE = MappingProxyType({"probesize": "32"})


def open_rtsp(open_with: Callable[[dict[str, str]], R]) -> R:
    """What `open_with` opens with the options it is given.

    A camera's description names its codec, and often nothing else: size and all come with the first key frame, seconds
    later with some. FFmpeg would wait for that for fifty packets, throw away what it read, and give up. So it is kept
    to the first packet, and waiting is the reader's. What names no codec (MPEG-TS over RTP) is looked through.
    """
    try:
        return open_with({**_ALWAYS, **_FIRST_PACKET_ALONE})
    except NotAVideo:
        return open_with(dict(_ALWAYS))
