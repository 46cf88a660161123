"""Ctrl-C and SIGTERM end a run properly. For the main thread alone, as signals are."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stoppable(Protocol):
    """What a signal can end."""

    def stop(self) -> None:
        """End soon; may be called from a signal handler."""


class StopWaiter:
    """Something to wait for where other threads do the work."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the waiting."""
        self._stopped.set()

    def wait(self) -> None:
        """Wait for `stop`."""
        while not self._stopped.wait(1.0):  # with a limit, so that signals come through everywhere
            pass


@contextmanager
def stopping(runner: Stoppable) -> Iterator[None]:
    """While inside, a signal stops `runner`; a second Ctrl-C raises KeyboardInterrupt as it always does."""
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
