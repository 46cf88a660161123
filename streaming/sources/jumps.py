"""Finds out, without decoding, whether the timestamps of a recording jump back, and how long it is.

Pure functions, for any thread.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from streaming.sources.pictures import PacketTimes
from streaming.sources.timestamp_spreading import CROWD_S, NUM_CROWDED
from streaming.sources.timestamps import DEFAULT_FPS, FrameIntervals, Placed, RecordingTimeline

MOST_PACKETS = 100_000
"""Most packets that are examined: an hour at 27 frames a second, about a second of work besides reading the file."""

_DEEPEST_REORDERING = 16
"""Most pictures that a decoder holds back to reorder them (the buffer sizes of H.264 and HEVC)."""
_DEEPEST_REORDERING_S = 0.5
"""A display time this far before the latest one belongs to another recording."""


@dataclass(frozen=True, slots=True)
class JumpBack:
    """The first place where the timestamps of a recording jump back."""

    after_s: float
    """Media time of the latest picture before the jump."""
    by_s: float
    """Length of the jump in seconds, above 0."""


def find_jump_back(
    packets: Iterable[PacketTimes], *, fps_declared: float | None, reorders: bool, end_s: float | None = None
) -> JumpBack | None:
    """The first jump back, by the rules of `RecordingTimeline`; None if there is none before `end_s`.

    Packets come in decoding order. Within one recording, decoding times never go back, but presentation times do
    wherever pictures refer to later ones. So decoding times are compared as they come; presentation times are sorted
    first, over as many pictures as any decoder reorders, if the codec `reorders` at all.
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


def shown_length_s(packets: Iterable[PacketTimes], *, fps_declared: float | None, most_s: float) -> float:
    """How long a recording shows pictures, seconds, from its packets in decoding order, whatever its header says.

    Leaps ahead and steps back do not count; the last picture counts for its own duration. Pictures that all have one
    timestamp count by the rate. Packets without a decoding time count by their display time. Stops reading past
    `most_s`.
    """
    intervals = FrameIntervals(fps_declared)
    length_s, latest_s, last_s = 0.0, None, 0.0
    for stamps in packets:
        time_s = stamps.decode_s if stamps.decode_s is not None else stamps.show_s
        if time_s is None:
            continue
        step_s = 0.0 if latest_s is None else time_s - latest_s
        if latest_s is not None and 0 <= step_s < CROWD_S / NUM_CROWDED:
            length_s += 1.0 / (fps_declared or DEFAULT_FPS)
        elif step_s > 0 and not intervals.is_leap(step_s):
            intervals.add(step_s)
            length_s += step_s
        if latest_s is None or step_s > 0 or step_s < -_DEEPEST_REORDERING_S:
            latest_s, last_s = time_s, stamps.duration_s
        if length_s > most_s:
            break
    # Containers give short durations for pictures whose end they do not know.
    return length_s + max(intervals.typical_s, 0.0 if intervals.is_leap(last_s) else last_s)


def _shown(stamp_s: float | None, held: list[float], timeline: RecordingTimeline, depth: int) -> Iterator[Placed]:
    """Add `stamp_s` to the heap `held`; place the earliest once it holds more than `depth`."""
    if stamp_s is not None:
        heapq.heappush(held, stamp_s)
        if len(held) > depth:
            yield timeline.place(heapq.heappop(held))
