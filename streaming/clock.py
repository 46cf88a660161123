"""Clocks. Code that waits takes a `Clock`, so that tests pass a `FakeClock` and never sleep. For any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock, the time of day, and waits that can be interrupted."""

    def now_s(self) -> float:
        """Monotonic time in seconds, counted from an arbitrary moment; it never jumps."""
        ...

    def wall_s(self) -> float:
        """Time of day as seconds since 1970 (UTC); it may jump."""
        ...

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """Wait until `event` is set or `timeout_s` have passed (None: no limit); return whether the event is set."""
        ...

    def wait_for(self, condition: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait on `condition`, which the caller holds, until `predicate()` is true or `timeout_s` have passed.

        Returns the last value of `predicate()`.
        """
        ...


def sleep_until(clock: Clock, due_s: float, interrupt: threading.Event) -> bool:
    """Wait until `clock.now_s()` reaches `due_s`; return False if `interrupt` was set before then."""
    remaining_s = due_s - clock.now_s()
    return not (interrupt.is_set() if remaining_s <= 0 else clock.wait(interrupt, remaining_s))


class SystemClock:
    """The machine's own clocks."""

    def now_s(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """Block the thread in `event.wait`."""
        return event.wait(timeout_s)

    def wait_for(self, condition: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        """Block the thread in `condition.wait_for`."""
        return condition.wait_for(predicate, timeout_s)


class FakeClock:
    """A clock for tests: a wait with a timeout returns at once and advances the time; one without a timeout blocks."""

    def __init__(self, now_s: float = 0.0, wall_s: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now_s = now_s
        self._wall_minus_now_s = wall_s - now_s
        self.waits_s: list[float] = []
        """The length of every wait that advanced the time, in seconds, in order."""

    def now_s(self) -> float:
        """The fake monotonic time in seconds."""
        with self._lock:
            return self._now_s

    def wall_s(self) -> float:
        """The fake time of day in seconds since 1970."""
        with self._lock:
            return self._now_s + self._wall_minus_now_s

    def advance(self, seconds: float) -> None:
        """Advance both clocks by `seconds`."""
        with self._lock:
            self._now_s += seconds

    def set_wall(self, wall_s: float) -> None:
        """Set the time of day, as a person or a time server does; `now_s` does not jump."""
        with self._lock:
            self._wall_minus_now_s = wall_s - self._now_s

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """Advance the time by `timeout_s`, unless `event` is set already; return whether `event` is set."""
        if timeout_s is None:
            return event.wait()
        if not event.is_set():
            self._pass(timeout_s)
        return event.is_set()

    def wait_for(self, condition: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        """Advance the time by `timeout_s`, unless `predicate()` is true already; return its last value."""
        if timeout_s is None:
            return condition.wait_for(predicate)
        if not predicate():
            self._pass(timeout_s)
        return predicate()

    def _pass(self, seconds: float) -> None:
        with self._lock:
            self.waits_s.append(seconds)
            self._now_s += max(0.0, seconds)
