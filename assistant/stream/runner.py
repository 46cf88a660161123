"""Runs one stream: takes items from its capture thread and drives the session with the engine, on the caller's thread.

`run` is called once. `ask` and `stop` are for any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from assistant.events import StatusEvent, StatusKind
from assistant.sinks import EventSink
from assistant.stream.damage_report import DamageReport
from assistant.stream.stats import Summary
from assistant.stream.stream_session import StreamSession
from streaming.errors import StreamingError
from streaming.types import Frame, Notice, NoticeKind

if TYPE_CHECKING:
    from models.session.steps import Steps
    from streaming.clock import Clock

T = TypeVar("T")

IDLE_S = 0.2
"""How long to wait for the next item before looking after questions and `stop`."""


class ItemSource(Protocol):
    """Items from a capture thread (`streaming.capture.Capture`)."""

    @property
    def is_drained(self) -> bool: ...

    def get(self, timeout_s: float | None = None) -> Frame | Notice | None: ...


class Driver(Protocol):
    """Drives steps to their end (`models.engine.Engine`)."""

    def run(self, steps: Steps[T]) -> T: ...


class ReportsUsage(Protocol):
    """How full a session is (`models.session.session.ReportsUsage`)."""

    @property
    def num_tokens(self) -> int: ...

    @property
    def capacity(self) -> int: ...


class Runner:
    """One stream from its first item to its last."""

    def __init__(self, driver: Driver, stream: StreamSession, feed: ItemSource, sink: EventSink, clock: Clock) -> None:
        self._driver = driver
        self._stream = stream
        self._feed = feed
        self._sink = sink
        self._clock = clock
        self._started_s: float | None = None
        self._last: Notice | None = None
        self._is_stopping = False
        self._report = DamageReport()

    @property
    def num_seen(self) -> int:
        """Frames given to the session so far."""
        return self._stream.stats.sampled

    @property
    def broken(self) -> str | None:
        """The error that ended the source in the middle; None where none did."""
        return self._report.broken

    @property
    def warnings(self) -> list[str]:
        """Warnings about the source: it broke off, frames were lost, its times jumped."""
        return self._report.warnings()

    @property
    def was_stopped(self) -> bool:
        """Whether `stop` ended it before its source did."""
        return self._is_stopping and not self._has_ended()

    def stop(self) -> None:
        """End soon: the turn being said is closed, all files stay whole. Any thread, signal handlers too."""
        self._is_stopping = True
        self._stream.stop()

    def run(self) -> None:
        """Watch until the source ends or `stop` is called. Raises what went wrong before the first frame.

        A source that fails after it gave frames is an event, and `broken` says why.
        """
        self._started_s = self._clock.now_s()
        try:
            self._watch()
        except StreamingError as error:
            if not self.num_seen:
                raise
            self._report.broke(str(error))
            self._emit_status(StatusKind.BROKEN, str(error))
        self._driver.run(self._stream.on_end())
        if self.was_stopped:
            self._emit_status(StatusKind.ENDED, "stopped by request")

    def summary(self, usage: ReportsUsage) -> Summary:
        """The figures so far."""
        wall_s = 0.0 if self._started_s is None else self._clock.now_s() - self._started_s
        return self._stream.stats.summary(
            cache_tokens=usage.num_tokens,
            cache_capacity=usage.capacity,
            wall_s=wall_s,
            reasons=self._stream.curve.reasons,
        )

    def _watch(self) -> None:
        while not self._is_stopping:
            item = self._feed.get(IDLE_S)
            if item is not None:
                self._handle(item)
            elif self._feed.is_drained:
                return
            else:
                self._driver.run(self._stream.on_idle())

    def _handle(self, item: Frame | Notice) -> None:
        if isinstance(item, Frame):
            self._driver.run(self._stream.on_frame(item))
        else:
            self._last = item
            self._report.note(item)
            self._driver.run(self._stream.on_notice(item))

    def _has_ended(self) -> bool:
        return self._last is not None and self._last.kind is NoticeKind.ENDED

    def _emit_status(self, kind: StatusKind, reason: str) -> None:
        stats = self._stream.stats
        self._sink.append(
            StatusEvent(
                source=self._last.source if self._last else "",
                time_s=stats.last_s,
                text=reason,
                reason=reason,
                kind=kind,
                details={"num_frames": stats.read},
            )
        )
