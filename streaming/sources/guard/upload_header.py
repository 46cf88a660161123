"""Files of people who are not to be trusted: what they hold by their header, before anything is read of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from streaming.errors import NotAVideo
from streaming.sources.animations import is_animated_webp, open_animation
from streaming.sources.file_signatures import non_video_kind
from streaming.sources.reading import SAFE_FORMATS, VideoReader, open_reader, reason_of

_OPEN_TIMEOUT_S = 10.0
_FORMATS = ",".join(name for name in SAFE_FORMATS.split(",") if name != "hls")


@dataclass(frozen=True, slots=True)
class UploadHeader:
    """A clip by its header."""

    width_px: int
    height_px: int
    duration_s: float | None
    codec: str


def look_at(path: Path) -> UploadHeader:
    """Open `path` and say what it is. Raises `NotAVideo` for other files, playlists and lists of files among them."""
    reader = _open(path)
    try:
        width_px, height_px = reader.coded_size_px
        return UploadHeader(width_px, height_px, reader.duration_s_declared, reader.codec)
    finally:
        reader.close()


def _open(path: Path) -> VideoReader:
    name, kind = path.name, non_video_kind(path)
    if is_animated_webp(path):
        return open_animation(path, name)
    try:
        return open_reader(
            str(path.absolute()),
            name,
            options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
            timeout_s=(_OPEN_TIMEOUT_S, _OPEN_TIMEOUT_S),
        )
    except av.error.ArgumentError:
        rule = "it is of a kind that is not read from strangers"
    except NotAVideo as error:
        if kind is None:
            raise
        rule = error.rule
    except (av.FFmpegError, OSError) as error:
        reason = reason_of(error) if isinstance(error, av.FFmpegError) else str(error.strerror)
        rule = f"it is not a video that can be read ({reason})"
    if kind is not None:
        raise NotAVideo(name, f"{kind.said}, not a video that can be read", kind.remedy)
    raise NotAVideo(name, rule, "give a video file, as MP4 or WebM")
