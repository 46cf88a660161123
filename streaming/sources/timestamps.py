"""Media time out of what containers and cameras say: it never runs backwards, and every jump is told.

Plain objects, one for each stream, for the thread that reads it.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streaming.sources.pictures import Broken, Damage, DecodedPicture, Event, Undecoded

DEFAULT_FPS = 25.0
"""Rate that is assumed where a stream has neither timestamps nor a rate."""

FORWARD_GAP_S = 10.0
"""A picture is taken to stand for so long where its container does not say how long."""
MAX_STANDING_S = 86_400.0
"""No picture is taken to stand for longer, whatever its container says: a damaged time may lie years ahead."""
_FORWARD_GAP_INTERVALS = 10
_ALIKE = 0.25
_HOLD_S = 0.5
_NUM_INTERVALS = 15
_LONGEST_STEP_S = 30.0
_MAX_WAITING = 8
_EVEN = 0.2
_SHARE_EVEN = 0.75


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a frame lies in media time."""

    pts_s: float
    jump_s: float = 0.0
    """What is to be told: below 0 the timestamps jumped back by this much (media time went on), above 0 they left
    out this much (media time follows them). 0: nothing."""
    late_s: float = 0.0
    """What is to be told: the timestamp lies this much before the last, whose media time it is given. 0: nothing."""
    hole_s: float = 0.0
    """For so long before it nothing was shown. 0: the frame before stands until this one comes."""


class FrameIntervals:
    """The usual time between frames, from those seen last."""

    def __init__(self, fps_declared: float | None) -> None:
        self._declared_s = 1.0 / (fps_declared or DEFAULT_FPS)
        self._recent_s: deque[float] = deque(maxlen=_NUM_INTERVALS)
        self._longest_s = self._declared_s
        self._leap_s = 0.0

    def add(self, interval_s: float) -> None:
        """Count one that was seen."""
        if interval_s > 0:
            self._recent_s.append(interval_s)
            self._longest_s = max(self._longest_s, interval_s)

    def is_leap(self, step_s: float) -> bool:
        """Whether `step_s` is far longer than any interval so far: at its second of like length it is one itself."""
        if step_s <= FORWARD_GAP_S or step_s <= _FORWARD_GAP_INTERVALS * self._longest_s:
            return False
        before_s, self._leap_s = self._leap_s, step_s
        return abs(step_s - before_s) > _ALIKE * step_s

    @property
    def typical_s(self) -> float:
        """Median of the last ones, or one by the declared rate."""
        return statistics.median(self._recent_s) if self._recent_s else self._declared_s


class RecordingTimeline:
    """Media time of one pass through a recording, which follows its timestamps.

    Timestamps that jump back (two recordings joined) are rebased, so that media time goes on by a usual interval.
    Those that are late by less than half a second are held instead: rebasing on every swapped pair would drift.

    A picture stands until the next, however uneven the rate. A hole is only where a step is far longer than any before
    and neither the frame's own duration nor the container, by what it is, says that the picture stood so long.
    """

    def __init__(self, fps_declared: float | None, *, has_holes: bool = True) -> None:
        """has_holes: whether the container can leave a time without a picture; else each stands until the next."""
        self._intervals = FrameIntervals(fps_declared)
        self._has_holes = has_holes
        self._offset_s = 0.0
        self._last_s = -math.inf
        self._last_duration_s = 0.0
        self._is_holding = False

    @property
    def end_s(self) -> float:
        """Media time at which the last frame stops being shown."""
        return self._last_s + min(self._last_duration_s or self._intervals.typical_s, MAX_STANDING_S)

    @property
    def last_s(self) -> float:
        """Media time of the last frame; -infinity before the first."""
        return self._last_s

    @property
    def typical_interval_s(self) -> float:
        """The usual time between frames."""
        return self._intervals.typical_s

    def place(self, stamp_s: float, duration_s: float = 0.0) -> Placed:
        """Media time of the frame stamped `stamp_s`, which is shown for `duration_s` (0: not known)."""
        before_s, self._last_duration_s = self._last_duration_s, duration_s
        if self._last_s == -math.inf:
            self._last_s = stamp_s
            return Placed(stamp_s)
        step_s = stamp_s + self._offset_s - self._last_s
        if step_s < 0:
            return self._place_earlier(step_s)
        self._is_holding = False
        hole_s = self._hole_s(step_s, before_s)
        if not hole_s:
            self._intervals.add(step_s)
        self._last_s += step_s
        return Placed(self._last_s, step_s if hole_s else 0.0, hole_s=hole_s)

    def _hole_s(self, step_s: float, duration_s: float) -> float:
        """How much of the step from a frame to the next shows nothing; the frame's own duration is `duration_s`."""
        stands_s = step_s
        if self._has_holes and step_s > duration_s + _ALIKE * step_s and self._intervals.is_leap(step_s):
            stands_s = max(FORWARD_GAP_S, duration_s)
        return step_s - min(stands_s, MAX_STANDING_S)

    def place_unstamped(self, num_frames: int, next_stamp_s: float | None) -> list[Placed]:
        """Media times of frames without timestamps: evenly up to the next that is stamped, else by usual intervals."""
        step_s = self._intervals.typical_s
        before_s = self._last_s
        if before_s == -math.inf:
            before_s = (num_frames * step_s if next_stamp_s is None else max(next_stamp_s, num_frames * step_s)) - (
                num_frames + 1
            ) * step_s
        elif next_stamp_s is not None and next_stamp_s + self._offset_s > before_s:
            step_s = (next_stamp_s + self._offset_s - before_s) / (num_frames + 1)
        placed = [Placed(before_s + (index + 1) * step_s) for index in range(num_frames)]
        self._last_s = placed[-1].pts_s
        self._last_duration_s = 0.0
        return placed

    def _place_earlier(self, step_s: float) -> Placed:
        if step_s > -_HOLD_S:
            late_s = 0.0 if self._is_holding else -step_s
            self._is_holding = True
            return Placed(self._last_s, late_s=late_s)
        self._is_holding = False
        interval_s = self._intervals.typical_s
        self._offset_s += interval_s - step_s
        self._last_s += interval_s
        return Placed(self._last_s, step_s)


class MissingPictures:
    """Counts pictures that never came, by the holes in the timestamps of a camera whose rate is steady.

    Decoders conceal what a network lost: without this nobody would hear of it.
    """

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._steps_s: deque[float] = deque(maxlen=_NUM_INTERVALS)

    def reset(self) -> None:
        """A new connection begins, perhaps with another rate."""
        self._last_s = None
        self._steps_s.clear()

    def add(self, stamp_s: float | None) -> int:
        """How many are missing between the last picture and the one stamped `stamp_s`; 0 where the rate is uneven."""
        last_s, self._last_s = self._last_s, stamp_s
        if stamp_s is None or last_s is None or not 0 < stamp_s - last_s < _LONGEST_STEP_S:
            return 0
        step_s = stamp_s - last_s
        usual_s = statistics.median(self._steps_s) if len(self._steps_s) == _NUM_INTERVALS else 0.0
        num_even = sum(abs(step - usual_s) <= _EVEN * usual_s for step in self._steps_s)
        self._steps_s.append(step_s)
        if not usual_s or num_even < _SHARE_EVEN * _NUM_INTERVALS:
            return 0
        return max(0, round(step_s / usual_s) - 1)


@dataclass(frozen=True, slots=True)
class TimedPicture:
    """A picture with its media time."""

    picture: DecodedPicture
    placed: Placed
    is_stamped: bool
    """False where the container had no timestamp for it."""


def time_pictures(events: Iterable[Event], timeline: RecordingTimeline) -> Iterator[TimedPicture | Damage | Broken]:
    """Give each picture of `events` its media time; those without timestamps wait for the next that has one.

    At most eight wait; after that many in a row, the others are timed by the usual interval as they come.
    """
    waiting: list[DecodedPicture] = []
    max_waiting = _MAX_WAITING
    for event in events:
        if isinstance(event, Undecoded):
            continue
        if isinstance(event, Damage):
            yield event
            continue
        stamp_s = event.stamp_s if isinstance(event, DecodedPicture) else None
        if isinstance(event, DecodedPicture) and stamp_s is None:
            waiting.append(event)
            if len(waiting) < max_waiting:
                continue
            max_waiting = 1
        yield from _time_unstamped(waiting, timeline, stamp_s)
        waiting = []
        if isinstance(event, Broken):
            yield event
        elif stamp_s is not None:
            max_waiting = _MAX_WAITING
            yield TimedPicture(event, timeline.place(stamp_s, event.duration_s), is_stamped=True)
    yield from _time_unstamped(waiting, timeline, None)


def _time_unstamped(
    pictures: list[DecodedPicture], timeline: RecordingTimeline, next_stamp_s: float | None
) -> Iterator[TimedPicture]:
    if pictures:
        for picture, placed in zip(pictures, timeline.place_unstamped(len(pictures), next_stamp_s), strict=True):
            yield TimedPicture(picture, placed, is_stamped=False)
