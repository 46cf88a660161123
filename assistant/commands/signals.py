"""Ends a run in order on Ctrl-C and SIGTERM. For the main thread only, as Python requires of signal handlers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Stoppable(Protocol):
    """Anything that a signal can stop."""

    def stop(self) -> None:
        """Request the end and return at once; may be called from a signal handler."""


class StopWaiter:
    """Lets the main thread wait for a signal while other threads do the work."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Make `wait` return."""
        self._stopped.set()

    def wait(self, each_second: Callable[[], None] = lambda: None) -> None:
        """Block until `stop` is called. each_second: called about once a second meanwhile."""
        while not self._stopped.wait(1.0):  # with a time limit, so that signal handlers run on every system
            each_second()


@contextmanager
def stopping(runner: Stoppable) -> Iterator[None]:
    """Within this context, Ctrl-C and SIGTERM stop `runner`; a second Ctrl-C raises KeyboardInterrupt as usual."""
    is_stopping = False

    def stop(number: int, _frame: object) -> None:
        nonlocal is_stopping
        if is_stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        is_stopping = True
        runner.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
