"""Notes how long the model's step has been running, so that one that hangs is said to. Any thread may look."""

from __future__ import annotations

import logging
from collections.abc import Callable

from streaming.clock import Clock

STALLED_S = 30.0
"""A step that takes longer is said to hang."""

logger = logging.getLogger(__name__)


class StallWatch:
    """The engine's thread begins and ends steps; the watchdog's thread calls `look`."""

    def __init__(self, clock: Clock, stalled_s: float, tell: Callable[[float | None], None]) -> None:
        """tell: called once with the seconds for which a step hangs, and with None when that step came back."""
        self._clock = clock
        self._stalled_s = stalled_s
        self._tell = tell
        self._since_s: float | None = None
        self._was_told = False

    @property
    def is_stalled(self) -> bool:
        """Whether a step hangs now."""
        since_s = self._since_s
        return since_s is not None and self._clock.now_s() - since_s > self._stalled_s

    def begin(self) -> float:
        """Begin a step; returns our clock."""
        self._since_s = now_s = self._clock.now_s()
        return now_s

    def end(self) -> None:
        """End the step, whatever came of it."""
        self._since_s = None

    def recover(self) -> None:
        """Say that the model answers again, where it was said to hang."""
        if self._was_told:
            self._was_told = False
            self._tell(None)

    def look(self) -> None:
        """Say once that a step hangs."""
        since_s = self._since_s
        if since_s is None or self._was_told:
            return
        stalled_s = self._clock.now_s() - since_s
        if stalled_s > self._stalled_s:
            self._was_told = True
            logger.error("a step of the model has been running for %.0f s", stalled_s)
            self._tell(stalled_s)
