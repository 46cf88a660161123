"""Chooses which picture track of a container is watched: the best one with pictures over time.

For the thread of its reader.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av.container import InputContainer
    from av.video.stream import VideoStream

_NUM_PACKETS = 2000
"""So many packets tell tracks apart that the header does not: a minute or more."""
_FAR_FEWER = 10
"""A track with so many times fewer pictures than another is a preview of it."""


def choose_track(
    container: InputContainer, tracks: Sequence[VideoStream], seen: Counter[int] | None = None
) -> tuple[VideoStream, list[VideoStream]]:
    """The track to watch, and the others. seen: pictures of each by `count_pictures`, where the header says none.

    FFmpeg's own choice counts where its track is no thumbnail: one picture, or far fewer than another track has.
    """
    best = container.streams.best("video")
    chosen = next((track for track in tracks if best is not None and track.index == best.index), tracks[0])
    if len(tracks) > 1:
        counts = _count_by_header(tracks) or seen
        if counts is not None:
            most = max(counts.values())
            if counts[chosen.index] <= 1 < most or counts[chosen.index] * _FAR_FEWER < most:
                chosen = max(tracks, key=lambda track: counts[track.index])
    return chosen, [track for track in tracks if track is not chosen]


def describe_track(track: VideoStream) -> str:
    """A track in words."""
    codec = track.codec_context.name if track.codec_context is not None else "unknown codec"
    return f"track {track.index} ({codec}, {track.width} x {track.height})"


def _count_by_header(tracks: Sequence[VideoStream]) -> Counter[int] | None:
    """Pictures of each track; None where the header does not count them all."""
    counts = Counter({track.index: track.frames for track in tracks})
    return counts if all(counts[track.index] for track in tracks) else None


def count_pictures(container: InputContainer) -> Counter[int]:
    """Pictures of each track among the first of them all; the container then stands behind those."""
    tracks = container.streams.video
    counts = Counter({track.index: 0 for track in tracks})
    with suppress(av.FFmpegError):  # told by whoever reads it in earnest
        for packet in islice(container.demux(*tracks), _NUM_PACKETS):
            counts[packet.stream.index] += bool(packet.size)
    return counts
