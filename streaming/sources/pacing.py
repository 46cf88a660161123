"""Plays a recording at a wanted speed by its media clock, and slows that clock where its reader cannot keep up."""

from __future__ import annotations

import threading

from streaming.clock import Clock, sleep_until

MAX_WAIT_S = 30.0
"""A longer gap in the timestamps is not waited for: joined recordings may lie hours apart."""

_TOLERANCE_S = 0.25
_CALM_S = 5.0


class Pacer:
    """Holds frames back until their time has come. For one thread; `interrupt` wakes it from any."""

    def __init__(self, clock: Clock, speed: float | None, interrupt: threading.Event) -> None:
        """`speed` 1 is real time, 2 twice as fast, None never waits."""
        self._clock = clock
        self._speed = speed
        self._interrupt = interrupt
        self._anchor: tuple[float, float] | None = None
        self._late_at_s: float | None = None
        self.total_slowed_s = 0.0
        """Seconds of our clock that the media clock has stood still for its reader."""

    def wait(self, pts_s: float) -> float:
        """Wait for the frame at media time `pts_s`.

        Returns by how many seconds it is late where this begins an episode of being late, else 0. A frame more than a
        quarter of a second late slows the media clock; five seconds without one end the episode.
        """
        if self._speed is None:
            return 0.0
        now_s = self._clock.now_s()
        if self._anchor is None:
            self._anchor = (now_s, pts_s)
        due_s = self._anchor[0] + (pts_s - self._anchor[1]) / self._speed
        if due_s - now_s > MAX_WAIT_S:
            due_s = now_s + MAX_WAIT_S
            self._anchor = (due_s, pts_s)
        sleep_until(self._clock, due_s, self._interrupt)
        return self._count_late(now_s - due_s, now_s, pts_s)

    def _count_late(self, late_s: float, now_s: float, pts_s: float) -> float:
        if late_s <= _TOLERANCE_S:
            if self._late_at_s is not None and now_s - self._late_at_s > _CALM_S:
                self._late_at_s = None
            return 0.0
        begins = self._late_at_s is None
        self._late_at_s = now_s
        self._anchor = (now_s, pts_s)
        self.total_slowed_s += late_s
        return late_s if begins else 0.0
