"""Queue of events that could not be written to the database yet, in memory and in a file that survives a kill.

A `PendingRecords` belongs to one timeline, which holds a lock around each call.
"""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from assistant.errors import StoreError
from assistant.timeline.folder import FileLock
from assistant.timeline.records import Record, record_from_line

PATTERN = "waiting-*.jsonl"


class PendingRecords:
    """First-in, first-out queue of records. Past `most` in memory, the oldest is kept in the file only, or lost."""

    def __init__(self, folder: Path, most: int) -> None:
        self._path = folder / f"waiting-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._most = most
        self._records: deque[tuple[Record, bool]] = deque()
        self._file: int | None = None
        self._lock: FileLock | None = None
        self._only_on_file = 0
        self.num_lost = 0
        """Number of records lost because the queue was full and the file could not be written."""

    def __len__(self) -> int:
        return len(self._records) + self._only_on_file

    @property
    def num_only_in_memory(self) -> int:
        """Number of records that are not in the file."""
        return sum(not on_file for _, on_file in self._records)

    def add(self, record: Record) -> None:
        """Append a record."""
        self._records.append((record, self._write(record)))
        if len(self._records) > self._most:
            _, on_file = self._records.popleft()
            if on_file:
                self._only_on_file += 1
            else:
                self.num_lost += 1

    def peek(self, count: int) -> list[Record]:
        """The first `count` records, which stay queued; those in the file only come last, all at once."""
        if not self._records and self._only_on_file:
            return list(read_waiting(self._path))
        return [record for record, _ in list(self._records)[:count]]

    def remove_written(self, records: Sequence[Record]) -> None:
        """Remove records, the first of the queue, after they were written to the database."""
        if not self._records:
            self._only_on_file = 0
        written = {record.uid for record in records}
        while self._records and self._records[0][0].uid in written:
            self._records.popleft()
        if not self._records and not self._only_on_file:
            self._forget_file()

    def close(self) -> None:
        """Close the file; its records are stored when the timeline is opened next."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _write(self, record: Record) -> bool:
        """Write a record to the file; return whether it is there completely."""
        try:
            if self._file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._file = os.open(self._path, flags, 0o600)
                self._lock = FileLock(self._path)
                self._lock.try_exclusive()
            before = os.fstat(self._file).st_size
        except OSError:
            return False
        line = record.to_line()
        try:
            if os.write(self._file, line) == len(line):
                return True
        except OSError:
            pass
        with suppress(OSError):  # an incomplete line would spoil the next one
            os.ftruncate(self._file, before)
        return False

    def _forget_file(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        self.close()


def read_waiting(path: Path) -> Iterator[Record]:
    """The records of a file; incomplete and unreadable lines are left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                with suppress(StoreError):
                    yield record_from_line(line)


def abandoned_files(folder: Path) -> Iterator[Path]:
    """Files of waiting records whose processes have ended."""
    for path in sorted(folder.glob(PATTERN)):
        with suppress(OSError):
            lock = FileLock(path)
            try:
                if lock.try_exclusive():
                    yield path
            finally:
                lock.close()
