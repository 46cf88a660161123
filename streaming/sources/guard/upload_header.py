"""Reads the header of an untrusted file: its size, length and codec, with only safe formats allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import av

from streaming.errors import NotAVideo
from streaming.sources.animations import is_animated_webp, open_animation
from streaming.sources.file_signatures import non_video_kind
from streaming.sources.jumps import shown_length_s
from streaming.sources.reading import SAFE_FORMATS, VideoReader, open_reader, reason_of

_OPEN_TIMEOUT_S = 10.0
_FORMATS = ",".join(name for name in SAFE_FORMATS.split(",") if name != "hls")


@dataclass(frozen=True, slots=True)
class UploadHeader:
    """The facts about a clip from its header, and its length from its pictures."""

    width_px: int
    height_px: int
    duration_s: float
    """How long it shows pictures; a header's length may be missing or wrong."""
    codec: str


def read_upload_header(path: Path, *, most_s: float = math.inf) -> UploadHeader:
    """Read the header of the video at `path` and measure its length, which is examined no further than `most_s`.

    Raises `NotAVideo` for other files, playlists included.
    """
    reader = _open(path)
    try:
        width_px, height_px = reader.coded_size_px
        duration_s = shown_length_s(reader.stamps(), fps_declared=reader.fps_usual, most_s=most_s)
        return UploadHeader(width_px, height_px, duration_s, reader.codec)
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
        rule = "it has a format that is not read from untrusted users"
    except NotAVideo as error:
        if kind is None:
            raise
        rule = error.rule
    except (av.FFmpegError, OSError) as error:
        reason = reason_of(error) if isinstance(error, av.FFmpegError) else str(error.strerror)
        rule = f"it is not a video that can be read ({reason})"
    if kind is not None:
        raise NotAVideo(name, f"{kind.description}, not a video that can be read", kind.remedy)
    raise NotAVideo(name, rule, "give a video file, as MP4 or WebM")
