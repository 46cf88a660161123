"""Sinks of events: the protocols, and a file with one JSON object per line. One thread writes to a sink."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from assistant.errors import StoreError
from assistant.events import StreamEvent, event_from_dict


class EventSink(Protocol):
    """Receives a stream's events as they happen, on the engine's thread; `append` must return quickly."""

    def append(self, event: StreamEvent) -> None:
        """Receive one event."""

    def close(self) -> None:
        """Finish writing and release files; may be called twice."""


class EventStore(EventSink, Protocol):
    """A sink whose events can be read back in the order they were appended."""

    def events(self) -> Iterator[StreamEvent]:
        """Every complete event so far, oldest first."""


class JsonLinesStore:
    """A file with one JSON object per line. Each line is a single write, so a killed run leaves whole lines.

    Opening empties the file. Raises `StoreError` if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}; events need a writable file; choose another name") from error

    def append(self, event: StreamEvent) -> None:
        """Write one line. Raises `StoreError` if the write fails."""
        if self._fd is None:
            raise StoreError(f"{self.path}: closed; events need an open file; open it again")
        line = to_line(event)
        try:
            written = os.write(self._fd, line)
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:
            raise StoreError(
                f"{self.path}: {error.strerror}; events need disk space to be written; free some"
            ) from error

    def events(self) -> Iterator[StreamEvent]:
        """Every complete event of the file, oldest first."""
        return read_events(self.path)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def to_line(event: StreamEvent) -> bytes:
    """An event as one line of UTF-8 JSON, including the newline."""
    return (json.dumps(event.as_dict(), ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def read_events(path: Path) -> Iterator[StreamEvent]:
    """The events of a file, oldest first; an incomplete last line is left out.

    Raises `StoreError` with the line's number if a complete line is not an event.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise StoreError("not an object; each line must be one event; remove the line")
                event = event_from_dict(values)
            except (ValueError, StoreError) as error:
                raise StoreError(f"{path}, line {number}: {error}") from error
            yield event
