"""Ctrl-C and SIGTERM end a run properly. For the main thread alone, as signals are."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stoppable(Protocol):
    """What a signal can end."""

    def stop(self) -> None:
        """End soon; may be called from a signal handler."""


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
