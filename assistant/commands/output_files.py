"""The files a run writes, as one sink each, and the sink that feeds them all. The engine's thread writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.errors import StoreError
from assistant.events import StreamEvent
from assistant.sinks import EventSink, JsonLinesStore
from assistant.subtitles import SubtitleWriter

if TYPE_CHECKING:
    from assistant.config.app import OutputConfig


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


def _check_apart(config: OutputConfig, keep: str | None) -> None:
    """Raise `StoreError` where one output would replace another or the recording itself."""
    taken: list[Path] = [Path(keep)] if keep and "://" not in keep else []
    for path in (config.events, config.vtt, config.srt):
        if path is None:
            continue
        if any(_is_same(path, other) for other in taken):
            what = "the recording itself" if _is_same(path, taken[0]) and keep else "another output"
            raise StoreError(f"{path}: it is {what}; each output needs a file of its own; name another")
        taken.append(path)


def _is_same(path: Path, other: Path) -> bool:
    """Whether two names lead to one file; a device like /dev/null may be named twice."""
    if path.exists() and not path.is_file():
        return False
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them is not there yet
        return os.path.abspath(path) == os.path.abspath(other)


def check_outputs(config: OutputConfig, keep: str | None = None) -> None:
    """Raise `StoreError` where an output could not be opened, without touching what is there.

    keep: the recording that is watched, which no output may replace; None for none. Other kinds of sources do no harm.
    """
    _check_apart(config, keep)
    for path in (config.events, config.vtt, config.srt):
        if path is not None:
            _check_writable(path)


def _check_writable(path: Path) -> None:
    if path.is_dir():
        reason = os.strerror(errno.EISDIR)
    elif not path.exists() and not path.parent.is_dir():
        reason = os.strerror(errno.ENOENT)
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        reason = os.strerror(errno.EACCES)
    else:
        return
    raise StoreError(f"{path}: {reason}; what is said goes to a file; name another")


def open_outputs(config: OutputConfig) -> list[EventSink]:
    """A sink for each file that is wanted; what a file held is gone, so this comes after all else that may fail.

    Raises `StoreError` and leaves none open where one cannot be written.
    """
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
