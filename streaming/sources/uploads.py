"""Files of people who are not to be trusted: what they hold by their header, before anything is read of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from streaming.errors import NotAVideo
from streaming.sources.reading import SAFE_FORMATS, open_reader, reason_of

_OPEN_TIMEOUT_S = 10.0
_FORMATS = ",".join(name for name in SAFE_FORMATS.split(",") if name != "hls")


@dataclass(frozen=True, slots=True)
class Looked:
    """A clip by its header."""

    width_px: int
    height_px: int
    duration_s: float | None
    codec: str


def look_at(path: Path) -> Looked:
    """Open `path` and say what it is. Raises `NotAVideo` for other files, playlists and lists of files among them."""
    name = path.name
    try:
        reader = open_reader(
            str(path.absolute()),
            name,
            options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
            timeout_s=(_OPEN_TIMEOUT_S, _OPEN_TIMEOUT_S),
        )
    except av.error.ArgumentError:
        raise NotAVideo(name, "it is a playlist or another text, not a video", "give a video file") from None
    except (av.FFmpegError, OSError) as error:
        reason = reason_of(error) if isinstance(error, av.FFmpegError) else str(error.strerror)
        raise NotAVideo(name, f"it is not a video that can be read ({reason})", "give a video file") from None
    try:
        width_px, height_px = reader.coded_size_px
        return Looked(width_px, height_px, reader.duration_s_declared, reader.codec)
    finally:
        reader.close()
