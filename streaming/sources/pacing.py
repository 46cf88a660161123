"""Plays a recording at a given speed, and slows its media clock if the reader cannot keep up.

Any thread may control a `Playback`; a `Pacer` belongs to the thread that reads the source.
"""

from __future__ import annotations

import math
import threading

from streaming.clock import Clock, sleep_until
from streaming.errors import OptionError

MAX_WAIT_S = 30.0
"""Longest wait for one frame: joined recordings may have timestamps hours apart."""

_TOLERANCE_S = 0.25
"""A frame that is later than this slows the media clock."""
_CALM_S = 5.0
"""Time without a late frame that ends an episode of being late."""
_HELD_S = 0.2
"""How often a paused reader checks whether it was interrupted."""


class Playback:
    """Pause and speed of a recording; any thread may change them while it plays."""

    def __init__(self, speed: float | None = None) -> None:
        """`speed`: 1 is real time, 2 twice as fast, None as fast as frames are read."""
        self._speed = speed
        self._paused = False
        self._num_free = 0
        self._changed = threading.Condition()

    @property
    def speed(self) -> float | None:
        """Media seconds per second; None plays as fast as frames are read."""
        return self._speed

    @property
    def is_paused(self) -> bool:
        """Whether playback is paused."""
        return self._paused

    def set_speed(self, speed: float | None) -> None:
        """Change the speed from the next frame on. Raises `OptionError` unless it is None or above 0."""
        if speed is not None and not (math.isfinite(speed) and speed > 0):
            raise OptionError(f"speed={speed:g}", "a speed is above 0", "give 1 for real time, or max")
        with self._changed:
            self._speed = speed
            self._changed.notify_all()

    def pause(self) -> None:
        """Pause before the next frame."""
        with self._changed:
            self._paused, self._num_free = True, 0

    def allow_frames(self, num_frames: int) -> None:
        """Deliver `num_frames` although playback is paused, for instance the picture after a seek."""
        with self._changed:
            self._num_free = num_frames
            self._changed.notify_all()

    def resume(self) -> None:
        """Continue after a pause."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def wait_while_paused(self, clock: Clock, interrupt: threading.Event) -> bool:
        """Wait while playback is paused and `interrupt` is not set; return whether it had to wait."""
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
    """Delays each frame until its time has come. Belongs to one thread; any thread may set `interrupt` to wake it."""

    def __init__(
        self, clock: Clock, speed: float | None, interrupt: threading.Event, playback: Playback | None = None
    ) -> None:
        """`speed`: 1 is real time, 2 twice as fast, None never waits; it is ignored if a `playback` is given."""
        self._clock = clock
        self._playback = playback
        self._speed = playback.speed if playback is not None else speed
        self._interrupt = interrupt
        self._anchor: tuple[float, float] | None = None
        self._late_at_s: float | None = None
        self.total_slowed_s = 0.0
        """Total seconds by which the media clock was delayed for its reader, by our clock."""

    @property
    def speed(self) -> float:
        """Media seconds per second; infinity if it never waits."""
        return math.inf if self._speed is None else self._speed

    def wait(self, pts_s: float) -> float:
        """Wait until the frame at media time `pts_s` is due.

        Returns how many seconds the frame is late if it starts an episode of being late, else 0. A frame that is more
        than a quarter of a second late slows the media clock; five seconds without a late frame end the episode.
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
