"""Computes media time from the timestamps of containers and cameras: it never runs backwards, and jumps are reported.

One object for each stream, for the thread that reads it.
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
"""How long a picture is assumed to be shown if its container does not say how long."""
MAX_STANDING_S = 86_400.0
"""Longest time that a picture is assumed to be shown: a damaged timestamp may lie years ahead."""
_SUSPECT_STANDING_S = 1800.0
"""A picture shown for at least this long, far longer than those before it, is reported: perhaps a clock was set."""
_SUSPECT_AMONG_STEADY_S = 180.0
"""The same, where the pictures before it came at a steady rate, as those of cameras do. Screen recorders write a
picture where something changes, hence at uneven intervals, and a slide may stand for minutes."""
_NUM_STEADY = 8
_STEADY, _STEADY_S = 0.02, 0.002
"""Intervals that differ by at most this share, or these seconds, are of a steady rate: containers round them."""
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
    """The media time of a frame, and what to report about its timestamp."""

    pts_s: float
    """Media time."""
    jump_s: float = 0.0
    """A jump to report: below 0 the timestamps jumped back by this much and media time continued; above 0 they skipped
    this much and media time follows them. 0: no jump."""
    late_s: float = 0.0
    """The timestamp lies this much before the last frame's, so the frame gets that frame's media time. 0: not late."""
    hole_s: float = 0.0
    """Time before this frame in which nothing was shown. 0: the previous frame is shown until this one."""
    stood_s: float = 0.0
    """The previous frame is shown for this long, far longer than any before it, which is reported. 0: it is not."""
    is_learnt: bool = False
    """This step is like the last jump ahead, which therefore was the interval of a time-lapse, not a leap."""


class FrameIntervals:
    """Tracks the time between successive frames: its typical value, and steps far longer than any before."""

    def __init__(self, fps_declared: float | None) -> None:
        self._declared_s = 1.0 / (fps_declared or DEFAULT_FPS)
        self._recent_s: deque[float] = deque(maxlen=_NUM_INTERVALS)
        self._longest_s = self._declared_s
        self._leap_s = 0.0
        self.is_learnt = False
        """Whether the last step was far longer than any interval, and like the one before, hence the interval."""

    def add(self, interval_s: float) -> None:
        """Add the time between the last two frames."""
        if interval_s > 0:
            self._recent_s.append(interval_s)
            self._longest_s = max(self._longest_s, interval_s)

    def is_leap(self, step_s: float) -> bool:
        """Whether `step_s` is far longer than any interval so far. A second step of similar length is not a leap."""
        self.is_learnt = False
        if step_s <= FORWARD_GAP_S or step_s <= _FORWARD_GAP_INTERVALS * self._longest_s:
            return False
        before_s, self._leap_s = self._leap_s, step_s
        self.is_learnt = abs(step_s - before_s) <= _ALIKE * step_s
        return not self.is_learnt

    @property
    def are_steady(self) -> bool:
        """Whether the last intervals, eight at least, are all of one length."""
        usual_s = self.typical_s
        most_s = max(_STEADY * usual_s, _STEADY_S)
        is_known = len(self._recent_s) >= _NUM_STEADY
        return is_known and all(abs(interval_s - usual_s) <= most_s for interval_s in self._recent_s)

    @property
    def typical_s(self) -> float:
        """Median of the last intervals; the interval of the declared rate before there are any."""
        return statistics.median(self._recent_s) if self._recent_s else self._declared_s


class RecordingTimeline:
    """Media time of one pass through a recording; it follows the recording's timestamps.

    Timestamps that jump back (two joined recordings) are rebased, so that media time continues by a typical interval.
    Timestamps that are late by less than half a second get the last frame's time instead: rebasing at every swapped
    pair would drift.

    A picture is shown until the next one, however uneven the rate. There is a hole only if a step is far longer than
    any before, and neither the frame's duration nor the container format says that the picture was shown that long.
    """

    def __init__(self, fps_declared: float | None, *, has_holes: bool = True) -> None:
        """has_holes: whether the container format can have time without a picture, or shows each until the next."""
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
        """The typical time between frames."""
        return self._intervals.typical_s

    def place(self, stamp_s: float, duration_s: float = 0.0) -> Placed:
        """Media time of the frame with timestamp `stamp_s`, which is shown for `duration_s` (0: not known)."""
        before_s, self._last_duration_s = self._last_duration_s, duration_s
        if self._last_s == -math.inf:
            self._last_s = stamp_s
            return Placed(stamp_s)
        step_s = stamp_s + self._offset_s - self._last_s
        if step_s < 0:
            return self._place_earlier(step_s)
        self._is_holding = self._intervals.is_learnt = False
        hole_s = self._hole_s(step_s, before_s)
        stood_s = step_s if not hole_s and self._is_suspect(step_s) else 0.0
        if not hole_s:
            self._intervals.add(step_s)
        self._last_s += step_s
        is_learnt = self._has_holes and self._intervals.is_learnt
        return Placed(self._last_s, step_s if hole_s else 0.0, hole_s=hole_s, stood_s=stood_s, is_learnt=is_learnt)

    def _is_suspect(self, step_s: float) -> bool:
        """Whether a container without holes has a leap that is perhaps a clock's, not a picture that stood."""
        least_s = _SUSPECT_AMONG_STEADY_S if self._intervals.are_steady else _SUSPECT_STANDING_S
        return not self._has_holes and step_s >= least_s and self._intervals.is_leap(step_s)

    def _hole_s(self, step_s: float, duration_s: float) -> float:
        """How much of a step between two frames shows nothing; `duration_s` is the first frame's own duration."""
        stands_s = step_s
        if self._has_holes and step_s > duration_s + _ALIKE * step_s and self._intervals.is_leap(step_s):
            stands_s = max(FORWARD_GAP_S, duration_s)
        return step_s - min(stands_s, MAX_STANDING_S)

    def place_unstamped(self, num_frames: int, next_stamp_s: float | None) -> list[Placed]:
        """Media times of frames without timestamps: spread evenly up to `next_stamp_s`, else by typical intervals."""
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
    """Counts pictures that never arrived, by gaps in the timestamps of a camera with a steady rate.

    Decoders conceal pictures lost by the network, so that no error reports them.
    """

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._steps_s: deque[float] = deque(maxlen=_NUM_INTERVALS)

    def reset(self) -> None:
        """Start a new connection, which may have another rate."""
        self._last_s = None
        self._steps_s.clear()

    def add(self, stamp_s: float | None) -> int:
        """Number of pictures missing between the last one and the one at `stamp_s`; 0 if the rate is uneven."""
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
    """Whether the container had a timestamp for it."""


def time_pictures(events: Iterable[Event], timeline: RecordingTimeline) -> Iterator[TimedPicture | Damage | Broken]:
    """Compute the media time of each picture of `events`; pictures without timestamps wait for one with a timestamp.

    At most eight pictures wait; after that many in a row, later ones get times by the typical interval as they come.
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
