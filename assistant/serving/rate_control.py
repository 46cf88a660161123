"""Under overload, lowers the rate of frames of all streams alike; raises it again once there is room. Plain numbers.

The engine's thread feeds it. A rate changes at most every `SETTLE_S`, by halves; it is raised again only where twice
the work would still fit, so that it does not swing.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

WINDOW_S = 10.0
"""Length of time over which the load is measured."""
SETTLE_S = 10.0
"""Pause after a change, so that the next measurement sees its effect alone."""
ROOM_S = 30.0
"""Time for which there must be room before the rate is raised."""
BUSY = 0.85
"""Share of the time spent on live streams above which they are too many."""
ROOMY = 0.35
"""Share below which twice the work would fit."""
LOST = 0.2
"""Share of frames lost, because they came faster than they were used, above which streams are too many."""
LEAST = 1 / 16
"""Lowest factor: a frame every eight seconds where two a second were wanted."""


@dataclass(frozen=True, slots=True)
class RateChange:
    """A change of the rate of all streams."""

    factor: float
    """Of the rate that each stream asked for, in (0, 1]."""
    reason: str


@dataclass(frozen=True, slots=True)
class _Moment:
    at_s: float
    busy_s: float
    num_used: int
    num_lost: int


class RateController:
    """Decides the rate factor of all streams of an engine."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._moments: deque[_Moment] = deque()
        self._first_at_s: float | None = None
        self._changed_at_s = -math.inf
        self._room_since_s: float | None = None

    def note(self, now_s: float, busy_s: float, num_used: int = 0, num_lost: int = 0) -> None:
        """Note that work of `busy_s` on live streams ended now, and how many frames they used and lost meanwhile."""
        if self._first_at_s is None:
            self._first_at_s = now_s - busy_s
        self._moments.append(_Moment(now_s, busy_s, num_used, num_lost))

    def update(self, now_s: float) -> RateChange | None:
        """A change of the rate where one is due; call it about once a second."""
        if self._first_at_s is None:
            return None
        while self._moments and self._moments[0].at_s < now_s - WINDOW_S:
            self._moments.popleft()
        if now_s - max(self._changed_at_s, self._first_at_s) < SETTLE_S:
            return None
        busy, lost = self._load(now_s)
        if (busy > BUSY or lost > LOST) and self.factor > LEAST:
            self._room_since_s = None
            what = f"{busy:.0%} of the time is used" if busy > BUSY else f"{lost:.0%} of the frames came too fast"
            return self._change(now_s, self.factor / 2, f"too much to do: {what}")
        if busy >= ROOMY or lost > LOST / 10:
            self._room_since_s = None
        elif self._room_since_s is None:
            self._room_since_s = now_s
        elif self.factor < 1 and now_s - self._room_since_s >= ROOM_S:
            self._room_since_s = None
            reason = f"there is room again: {busy:.0%} of the time is used"
            return self._change(now_s, min(1.0, self.factor * 2), reason)
        return None

    def _load(self, now_s: float) -> tuple[float, float]:
        """Share of the time that was used, and of the frames that were lost."""
        assert self._first_at_s is not None
        span_s = min(WINDOW_S, max(1e-3, now_s - self._first_at_s))
        num_used = sum(moment.num_used for moment in self._moments)
        num_lost = sum(moment.num_lost for moment in self._moments)
        busy_s = sum(moment.busy_s for moment in self._moments)
        return busy_s / span_s, num_lost / max(1, num_used + num_lost)

    def _change(self, now_s: float, factor: float, reason: str) -> RateChange:
        self.factor, self._changed_at_s = factor, now_s
        self._moments.clear()
        return RateChange(factor, reason)
