"""The files that `replay` writes, one sink each, and a sink that feeds all of them. Written on the engine's thread."""

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
    """A sink that passes each event to several sinks, in order, and closes all of them."""

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self._sinks = tuple(sinks)

    def append(self, event: StreamEvent) -> None:
        """Pass one event to every sink."""
        for sink in self._sinks:
            sink.append(event)

    def close(self) -> None:
        """Close every sink, even if closing one of them raises."""
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)


def _check_apart(config: OutputConfig, keep: str | None) -> None:
    """Raise `StoreError` if one output would overwrite another or the recording itself."""
    taken: list[Path] = [Path(keep)] if keep and "://" not in keep else []
    for path in (config.events, config.vtt, config.srt):
        if path is None:
            continue
        if any(_is_same(path, other) for other in taken):
            what = "the recording itself" if _is_same(path, taken[0]) and keep else "another output"
            raise StoreError(f"{path}: it is {what}; each output needs its own file; choose another name")
        taken.append(path)


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths are the same file; False for a device like /dev/null, which may be named twice."""
    if path.exists() and not path.is_file():
        return False
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them does not exist yet
        return os.path.abspath(path) == os.path.abspath(other)


def check_outputs(config: OutputConfig, keep: str | None = None) -> None:
    """Raise `StoreError` if an output file could not be opened. Changes no file.

    keep: the source, which no output may overwrite if it is a file; None for none.
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
    raise StoreError(f"{path}: {reason}; an output must be a writable file; choose another name")


def open_outputs(config: OutputConfig) -> list[EventSink]:
    """Open a sink for each output file. Existing files are emptied, so call it after every other step that may fail.

    Raises `StoreError` if one cannot be written, and leaves none open.
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
