"""Chooses which video track of a container to watch: the best one that is not a thumbnail. For the reader's thread."""

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
"""Packets that are counted if the header has no counts; they cover a minute or more."""
_FAR_FEWER = 10
"""A track with this many times fewer pictures than another counts as its preview."""


def choose_track(
    container: InputContainer, tracks: Sequence[VideoStream], seen: Counter[int] | None = None
) -> tuple[VideoStream, list[VideoStream]]:
    """The track to watch, and the others.

    It is FFmpeg's own choice, unless that is a thumbnail: it has one picture, or far fewer than another track.
    seen: the result of `count_pictures`, used if the header does not count the pictures.
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
    """A track in words: its number, codec and size."""
    codec = track.codec_context.name if track.codec_context is not None else "unknown codec"
    return f"track {track.index} ({codec}, {track.width} x {track.height})"


def _count_by_header(tracks: Sequence[VideoStream]) -> Counter[int] | None:
    """Number of pictures of each track by the header; None unless the header counts all tracks."""
    counts = Counter({track.index: track.frames for track in tracks})
    return counts if all(counts[track.index] for track in tracks) else None


def count_pictures(container: InputContainer) -> Counter[int]:
    """Number of pictures of each track among the first 2,000 packets, which are consumed from the container."""
    tracks = container.streams.video
    counts = Counter({track.index: 0 for track in tracks})
    with suppress(av.FFmpegError):  # the reader reports the error when it gets there
        for packet in islice(container.demux(*tracks), _NUM_PACKETS):
            counts[packet.stream.index] += bool(packet.size)
    return counts
