"""Plays a recording at a wanted speed by its media clock, and slows that clock where its reader cannot keep up."""

from __future__ import annotations

import math
import threading

from streaming.clock import Clock, sleep_until
from streaming.errors import OptionError

MAX_WAIT_S = 30.0
"""A longer gap in the timestamps is not waited for: joined recordings may lie hours apart."""

_TOLERANCE_S = 0.25
_CALM_S = 5.0


_HELD_S = 0.2


class Playback:
    """How a recording is played, for one who may change it at any time; any thread may."""

    def __init__(self, speed: float | None = None) -> None:
        """`speed` 1 is real time, 2 twice as fast, None as fast as it is used."""
        self._speed = speed
        self._paused = False
        self._num_free = 0
        self._changed = threading.Condition()

    @property
    def speed(self) -> float | None:
        """Media seconds a second; None where nobody waits."""
        return self._speed

    @property
    def is_paused(self) -> bool:
        """Whether it stands still."""
        return self._paused

    def set_speed(self, speed: float | None) -> None:
        """Play at another speed from the next frame on. Raises `OptionError` for one that is none."""
        if speed is not None and not (math.isfinite(speed) and speed > 0):
            raise OptionError(f"speed={speed:g}", "a speed is above 0", "give 1 for real time, or max")
        with self._changed:
            self._speed = speed
            self._changed.notify_all()

    def pause(self) -> None:
        """Stand still before the next frame."""
        with self._changed:
            self._paused, self._num_free = True, 0

    def allow_frames(self, num_frames: int) -> None:
        """Give so many frames although it is paused: the picture at a place that was sought."""
        with self._changed:
            self._num_free = num_frames
            self._changed.notify_all()

    def resume(self) -> None:
        """Go on."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def wait_while_paused(self, clock: Clock, interrupt: threading.Event) -> bool:
        """Wait while it is paused, until `interrupt` is set at most; whether there was anything to wait for."""
        held = False
        while not interrupt.is_set():
            with self._changed:
                if not self._paused or self._num_free > 0:
                    self._num_free = max(0, self._num_free - 1)
                    break
                held = True
                clock.wait_for(self._changed, lambda: not self._paused or self._num_free > 0, _HELD_S)
        return held


class Pacer:
    """Holds frames back until their time has come. For one thread; `interrupt` wakes it from any."""

    def __init__(
        self, clock: Clock, speed: float | None, interrupt: threading.Event, playback: Playback | None = None
    ) -> None:
        """`speed` 1 is real time, 2 twice as fast, None never waits; a `playback` takes its place."""
        self._clock = clock
        self._playback = playback
        self._speed = playback.speed if playback is not None else speed
        self._interrupt = interrupt
        self._anchor: tuple[float, float] | None = None
        self._late_at_s: float | None = None
        self.total_slowed_s = 0.0
        """Seconds of our clock that the media clock has stood still for its reader."""

    @property
    def speed(self) -> float:
        """Media seconds a second; infinity where nobody waits."""
        return math.inf if self._speed is None else self._speed

    def wait(self, pts_s: float) -> float:
        """Wait for the frame at media time `pts_s`.

        Returns by how many seconds it is late where this begins an episode of being late, else 0. A frame more than a
        quarter of a second late slows the media clock; five seconds without one end the episode.
        """
        if self._playback is not None:
            held = self._playback.wait_while_paused(self._clock, self._interrupt)
            if held or self._playback.speed != self._speed:
                self._speed, self._anchor = self._playback.speed, None
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
