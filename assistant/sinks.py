"""Where events are kept: the protocol, and a file with one JSON object a line. One thread writes a store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from assistant.errors import StoreError
from assistant.events import StreamEvent, event_from_dict


class EventSink(Protocol):
    """Takes events as they happen, on the engine's thread; must return soon."""

    def append(self, event: StreamEvent) -> None:
        """Take one event."""

    def close(self) -> None:
        """Finish what is open; may be called twice."""


class EventStore(EventSink, Protocol):
    """A sink whose events can be read back, in the order in which they were appended."""

    def events(self) -> Iterator[StreamEvent]:
        """Every whole event so far, oldest first."""


class JsonLinesStore:
    """One JSON object a line. Each line goes out in a single write, so a killed run leaves whole lines.

    Opening replaces what the file held. Raises `StoreError` where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}; events go to a file; name another") from error

    def append(self, event: StreamEvent) -> None:
        """Write one line. Raises `StoreError` where the disk refuses it."""
        if self._fd is None:
            raise StoreError(f"{self.path}: closed; events go to an open store; open it again")
        line = to_line(event)
        try:
            written = os.write(self._fd, line)
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}; events need room to be written; free some") from error

    def events(self) -> Iterator[StreamEvent]:
        """Every whole event of the file."""
        return read_events(self.path)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def to_line(event: StreamEvent) -> bytes:
    """One event as a line of UTF-8 JSON, its newline included."""
    return (json.dumps(event.as_dict(), ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def read_events(path: Path) -> Iterator[StreamEvent]:
    """The events of a file, oldest first; a last line that was cut off is left out.

    Raises `StoreError` with the line's number where a whole line is no event.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise StoreError("not an object; each line is one event; remove the line")
                event = event_from_dict(values)
            except (ValueError, StoreError) as error:
                raise StoreError(f"{path}, line {number}: {error}") from error
            yield event
