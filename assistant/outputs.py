"""The files a run writes, as one sink each, and the sink that feeds them all. The engine's thread writes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from assistant.events import StreamEvent
from assistant.store import EventSink, JsonLinesStore
from assistant.subtitles import SubtitleWriter

if TYPE_CHECKING:
    from assistant.config import OutputConfig


class Fanout:
    """Hands each event to every sink, in order, and closes them all."""

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self._sinks = tuple(sinks)

    def append(self, event: StreamEvent) -> None:
        """Hand it on."""
        for sink in self._sinks:
            sink.append(event)

    def close(self) -> None:
        """Close every sink, whatever one of them says to it."""
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)


def open_outputs(config: OutputConfig) -> list[EventSink]:
    """A sink for each file that is wanted. Raises `StoreError` and leaves none open where one cannot be written."""
    with ExitStack() as stack:
        sinks: list[EventSink] = []
        if config.events is not None:
            sinks.append(JsonLinesStore(config.events))
            stack.callback(sinks[-1].close)
        if config.vtt is not None:
            sinks.append(SubtitleWriter(config.vtt, "vtt"))
            stack.callback(sinks[-1].close)
        if config.srt is not None:
            sinks.append(SubtitleWriter(config.srt, "srt"))
            stack.callback(sinks[-1].close)
        stack.pop_all()
        return sinks
