"""What `watch` prints: comments and answers with camera and time of day, and every event to the log.

Called on the engine's thread.
"""

from __future__ import annotations

import logging
import time
from typing import TextIO

from assistant.commands.console import shown_text
from assistant.events import Answer, StatusEvent, StatusKind, StreamEvent
from streaming.clock import Clock

GRAVE = frozenset(
    {
        StatusKind.BROKEN,
        StatusKind.FAULT,
        StatusKind.STALLED,
        StatusKind.FROZEN,
        StatusKind.STORE,
        StatusKind.REFUSED,
    }
)
"""Kinds of status events that are logged as warnings."""

logger = logging.getLogger("assistant.events")


class SpokenSink:
    """Prints comments, alerts and answers with the time of day and the camera."""

    def __init__(self, output: TextIO, camera: str, clock: Clock) -> None:
        self._output = output
        self._camera = camera
        self._clock = clock

    def append(self, event: StreamEvent) -> None:
        """Print a comment, an alert, or a question with its answer; status events are left out."""
        if isinstance(event, StatusEvent):
            return
        head = f"{time.strftime('%H:%M:%S', time.localtime(self._clock.wall_s()))} [{self._camera}]"
        if isinstance(event, Answer):
            print(f"{head} Q: {shown_text(event.question)}", file=self._output)
            print(f"{head} A: {shown_text(event.text)}", file=self._output, flush=True)
            return
        print(f"{head} {shown_text(event.text)}", file=self._output, flush=True)

    def close(self) -> None:
        """Do nothing: every event was written at once."""


class LogSink:
    """Writes one log record per event."""

    def __init__(self, camera: str) -> None:
        self._camera = camera

    def append(self, event: StreamEvent) -> None:
        """Log an event with its figures; kinds of `GRAVE` as warnings, others as information."""
        facts: dict[str, object] = {"camera": self._camera, "kind": event.type, "media_s": round(event.time_s, 3)}
        level = logging.INFO
        if isinstance(event, StatusEvent):
            facts |= {"kind": event.kind.value, "details": dict(event.details)}
            level = logging.WARNING if event.kind in GRAVE else logging.INFO
        elif event.latency_ms is not None:
            facts["latency_ms"] = round(event.latency_ms, 1)
        if event.score is not None:
            facts["score"] = round(event.score, 3)
        logger.log(level, "%s", event.text, extra=facts)

    def close(self) -> None:
        """Do nothing: every event was written at once."""
