"""Watches how busy live streams keep the model, and says when their rates must change. The engine's thread owns it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assistant.serving.rate_control import RateChange, RateController
from streaming.clock import Clock

if TYPE_CHECKING:
    from assistant.serving.contracts import ServedStream
    from assistant.stream.listener_guard import ListenerGuard

LOOK_S = 1.0
"""Between two looks at the load."""

logger = logging.getLogger(__name__)


class LoadWatch:
    """Feeds a `RateController` with the steps of live streams, and the frames that they used and lost."""

    def __init__(self, clock: Clock, guard: ListenerGuard) -> None:
        """guard: for streams that raise when they are asked for their counts."""
        self._clock = clock
        self._guard = guard
        self._controller = RateController()
        self._looked_at_s = float("-inf")
        self._has_worked = False
        """Whether submitted work had a turn since the last look."""

    @property
    def factor(self) -> float:
        """Share of the rates that were asked for which overload leaves, in (0, 1]."""
        return self._controller.factor

    def note_step(self, now_s: float, busy_s: float) -> None:
        """Count a step of a live stream that ended now."""
        self._controller.note(now_s, busy_s)

    def note_work(self) -> None:
        """Count a step of submitted work."""
        self._has_worked = True

    def look(self, streams: Sequence[ServedStream]) -> RateChange | None:
        """The change of all rates where one is due; nothing is looked at more often than once in `LOOK_S`."""
        now_s = self._clock.now_s()
        if now_s - self._looked_at_s < LOOK_S:
            return None
        self._looked_at_s = now_s
        counts: list[tuple[int, int]] = []
        for stream in streams:
            if stream.is_live:
                self._guard.tell(lambda stream: counts.append(stream.take_counts()), stream)
        # Frames that were lost to a question about files say nothing of how many streams are too many.
        num_lost = 0 if self._has_worked else sum(lost for _, lost in counts)
        self._has_worked = False
        self._controller.note(now_s, 0.0, sum(used for used, _ in counts), num_lost)
        change = self._controller.update(now_s)
        if change is not None:
            logger.info("rate of all streams x%g: %s", change.factor, change.reason)
        return change
