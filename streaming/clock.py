"""Time, and waiting for it: what waits takes a `Clock`, so that no test has to. Any thread may call a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Our clock: seconds that only grow, the time of day, and waits that can be interrupted."""

    def now_s(self) -> float:
        """Seconds since some moment of its own; it never jumps."""
        ...

    def wall_s(self) -> float:
        """Time of day as seconds since 1970 (UTC); it may jump."""
        ...

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """Wait until `event` is set or `timeout_s` have passed (None: no limit); whether the event is set."""
        ...

    def wait_for(self, condition: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait on `condition`, which the caller holds, until `predicate()`, or for `timeout_s`; its last value."""
        ...


def sleep_until(clock: Clock, due_s: float, interrupt: threading.Event) -> bool:
    """Wait until `clock.now_s()` reaches `due_s`; False if `interrupt` was set before."""
    remaining_s = due_s - clock.now_s()
    return not (interrupt.is_set() if remaining_s <= 0 else clock.wait(interrupt, remaining_s))


class SystemClock:
    """The machine's clocks."""

    def now_s(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """Wait for real."""
        return event.wait(timeout_s)

    def wait_for(self, condition: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait for real."""
        return condition.wait_for(predicate, timeout_s)


class FakeClock:
    """A clock for tests: a wait with a limit passes at once and moves the time; one without a limit waits for real."""

    def __init__(self, now_s: float = 0.0, wall_s: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now_s = now_s
        self._wall_minus_now_s = wall_s - now_s
        self.waits_s: list[float] = []
        """Every wait that moved the time, in seconds, in order."""

    def now_s(self) -> float:
        """The time that was made up."""
        with self._lock:
            return self._now_s

    def wall_s(self) -> float:
        """The time of day that goes with it."""
        with self._lock:
            return self._now_s + self._wall_minus_now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now_s += seconds

    def set_wall(self, wall_s: float) -> None:
        """Set the time of day, as people and time servers do; `now_s` does not jump."""
        with self._lock:
            self._wall_minus_now_s = wall_s - self._now_s

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """Move the time by `timeout_s`, unless `event` is set already."""
        if timeout_s is None:
            return event.wait()
        if not event.is_set():
            self._pass(timeout_s)
        return event.is_set()

    def wait_for(self, condition: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        """Move the time by `timeout_s`, unless `predicate()` holds already."""
        if timeout_s is None:
            return condition.wait_for(predicate)
        if not predicate():
            self._pass(timeout_s)
        return predicate()

    def _pass(self, seconds: float) -> None:
        with self._lock:
            self.waits_s.append(seconds)
            self._now_s += max(0.0, seconds)
