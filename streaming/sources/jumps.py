"""Looks through the timestamps of a recording before it is watched, without decoding: do they jump back?

Pure functions, for any thread.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from streaming.sources.pictures import PacketTimes
from streaming.sources.timestamps import Placed, RecordingTimeline

MOST_PACKETS = 100_000
"""So far a recording is looked through, an hour at 27 frames a second: about a second's work, besides reading it."""

_DEEPEST_REORDERING = 16
"""Pictures that a decoder holds back at most to bring them into order (H.264 and HEVC, sizes of their buffers)."""


@dataclass(frozen=True, slots=True)
class JumpBack:
    """Where the timestamps of a recording first jump back."""

    after_s: float
    """Media time of the latest picture before."""
    by_s: float
    """How far, above 0."""


def find_jump_back(
    packets: Iterable[PacketTimes], *, fps_declared: float | None, reorders: bool, end_s: float | None = None
) -> JumpBack | None:
    """The first jump back, as `RecordingTimeline` would tell one; None where there is none before `end_s`.

    Packets come in the order of decoding. Decoding times never go back in one recording, whereas times of showing do
    wherever pictures refer to later ones. So the former are taken as they come; the latter are sorted first, over as
    many pictures as any decoder reorders, if the codec `reorders` at all.
    """
    decoding, showing = RecordingTimeline(fps_declared), RecordingTimeline(fps_declared)
    held: list[float] = []
    latest_s = 0.0
    for stamps in islice(packets, MOST_PACKETS):
        reached_s = math.inf
        if stamps.decode_s is not None:
            placed = decoding.place(stamps.decode_s)
            if placed.jump_s < 0:
                return JumpBack(latest_s, -placed.jump_s)
            reached_s = placed.pts_s
        for placed in _shown(stamps.show_s, held, showing, _DEEPEST_REORDERING if reorders else 0):
            if placed.jump_s < 0:
                return JumpBack(latest_s, -placed.jump_s)
            reached_s = min(reached_s, placed.pts_s)
        if end_s is not None and end_s < reached_s < math.inf:
            return None
        latest_s = max(latest_s, stamps.decode_s or 0.0 if stamps.show_s is None else stamps.show_s)
    return None


def _shown(stamp_s: float | None, held: list[float], timeline: RecordingTimeline, depth: int) -> Iterator[Placed]:
    """Put `stamp_s` with those `held`; the earliest is placed as soon as there are more than `depth`."""
    if stamp_s is not None:
        heapq.heappush(held, stamp_s)
        if len(held) > depth:
            yield timeline.place(heapq.heappop(held))
