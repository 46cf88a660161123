"""Frame rate, start and end of a video stream by its container's header. Pure functions, for the stream's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

PLAYLIST_FORMATS = frozenset({"hls", "dash"})
"""FFmpeg's names of the playlist formats."""

_MAX_SANE_FPS = 1000.0
_LEAST_USUAL_FPS, _MOST_USUAL_FPS = 1.0, 240.0


def declared_fps(stream: VideoStream, *, is_live: bool) -> float | None:
    """The frame rate by the header, or None; FFmpeg's guess is used for recordings only, which it examines."""
    rate = stream.average_rate or (None if is_live else stream.guessed_rate)
    if rate and rate > _MAX_SANE_FPS:  # the timestamps of its pictures coincide
        return usual_fps(stream)
    return float(rate) if rate and rate > 0 else None


def usual_fps(stream: VideoStream) -> float | None:
    """The first plausible frame rate, 1 to 240: by the timestamps, by the container, by the codec's own data."""
    rates = (stream.average_rate, stream.guessed_rate, stream.codec_context.framerate)
    return next((float(rate) for rate in rates if rate and _LEAST_USUAL_FPS <= rate <= _MOST_USUAL_FPS), None)


def start_s_of(stream: VideoStream, container: InputContainer) -> float:
    """The timestamp at which media time is 0, in seconds: the container's first, sound included, as in players."""
    if container.start_time is not None:
        return container.start_time / av.time_base
    return _first_s(stream)


def end_s_of(stream: VideoStream, container: InputContainer, start_s: float) -> float | None:
    """Media time of the end by the header; None if it declares none. `start_s` is the result of `start_s_of`.

    Matroska's DURATION is the last timestamp, not a length, unless mkvmerge wrote it among its statistics.
    """
    late_s = _first_s(stream) - start_s
    if stream.duration is not None and stream.time_base is not None:
        return late_s + float(stream.duration * stream.time_base)
    of_matroska = _seconds_of(stream.metadata.get("DURATION", ""))
    if of_matroska is not None:
        return of_matroska + (late_s if "_STATISTICS_TAGS" in stream.metadata else -start_s)
    if container.duration is None:
        return None
    is_end = "matroska" in container.format.name
    return container.duration / av.time_base - (start_s if is_end else 0.0)


def has_end(container: InputContainer, formats: frozenset[str]) -> bool:
    """Whether the container declares a length, or has a known size and is no playlist."""
    return container.duration is not None or (container.size > 0 and not formats & PLAYLIST_FORMATS)


def _first_s(stream: VideoStream) -> float:
    start, time_base = stream.start_time, stream.time_base
    return 0.0 if start is None or time_base is None else float(start * time_base)


def _seconds_of(timestamp: str) -> float | None:
    """`HH:MM:SS.fraction` in seconds; None if it has another form."""
    try:
        hours, minutes, seconds = timestamp.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
