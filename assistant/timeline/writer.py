"""Writes records to the database, or queues them while it cannot be written. Any thread may call `put`.

The timeline's thread calls `retry`, and waits on `changed`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence

from assistant.timeline.folder import TimelineFolder
from assistant.timeline.records import Record
from assistant.timeline.schema import store_error
from assistant.timeline.waiting import PendingRecords
from assistant.timeline.writing import REFUSED, write
from streaming.clock import Clock

BATCH = 200
"""Queued records that are written in one transaction."""

logger = logging.getLogger(__name__)


class Writer:
    """Writes records to one database, with a queue for times when it fails."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: TimelineFolder,
        clock: Clock,
        most_waiting: int,
        say: Callable[..., None],
    ) -> None:
        """say: called with a sentence when events begin to wait, and with a sentence and figures when that ends."""
        self.connection = connection
        self.db = threading.RLock()
        """Lock, held during every use of the connection."""
        self.changed = threading.Condition()
        """Condition and lock of the state; never held while the database is written."""
        self.trouble = ""
        """Why the database cannot be written now; empty if it can."""
        self.num_late = 0
        self.num_refused = 0
        self.num_written = 0
        self._database = folder.database
        self._clock = clock
        self._waiting = PendingRecords(folder.root, most_waiting)
        self._trouble_since_s = 0.0
        self._say = say

    @property
    def num_waiting(self) -> int:
        """Number of queued records."""
        with self.changed:
            return len(self._waiting)

    @property
    def num_lost(self) -> int:
        """Number of records that were lost."""
        with self.changed:
            return self._waiting.num_lost + self.num_refused

    def put(self, record: Record) -> None:
        """Write a record: when this returns it is committed, or queued if the database could not be written."""
        with self.changed:
            if self.trouble:
                self._waiting.add(record)
                return
        try:
            with self.db:
                write(self.connection, [record])
        except REFUSED as error:
            self.refused(record, error)
        except sqlite3.Error as error:
            self._begin_to_wait(record, error)
        else:
            with self.changed:
                self.num_written += 1
                self.changed.notify_all()

    def retry(self) -> bool:
        """Write all queued records, oldest first; return whether that succeeded."""
        num_written = 0
        while (records := self._next_batch()) is not None:
            try:
                self._write_batch(records)
            except sqlite3.Error as error:
                with self.changed:
                    self.trouble = str(store_error(self._database, error))
                return False
            num_written += len(records)
            with self.changed:
                self._waiting.remove_written(records)
        with self.changed:
            self.num_late += num_written
            took_s = self._clock.now_s() - self._trouble_since_s
        self._say(
            f"events are written again after {took_s:.1f} s: {num_written} late, {self.num_lost} lost so far",
            late=num_written,
            lost=self.num_lost,
            seconds=round(took_s, 3),
        )
        return True

    def refused(self, record: Record, error: Exception) -> None:
        """Count and log a record that the database refuses for its content."""
        with self.changed:
            self.num_refused += 1
        logger.error("an event of type %s was refused: %s", record.event.type, error)

    def close(self) -> int:
        """Close the queue and the connection; return the number of records that are lost."""
        with self.changed:
            num_lost = self._waiting.num_only_in_memory
            self._waiting.close()
        with self.db:
            self.connection.close()
        return num_lost

    def _begin_to_wait(self, record: Record, error: sqlite3.Error) -> None:
        reason = str(store_error(self._database, error))
        with self.changed:
            self._waiting.add(record)
            if self.trouble:
                return
            self.trouble = reason
            self._trouble_since_s = self._clock.now_s()
            self.changed.notify_all()
        self._say(f"events wait to be written: {reason}")

    def _next_batch(self) -> list[Record] | None:
        """The next records to write; None if none is queued, which also ends the trouble."""
        with self.changed:
            records = self._waiting.peek(BATCH)
            if not records:
                self.trouble = ""
            return records or None

    def _write_batch(self, records: Sequence[Record]) -> None:
        """Write records in one transaction; if one is refused, each in its own."""
        try:
            with self.db:
                write(self.connection, records)
        except REFUSED:
            for record in records:
                try:
                    with self.db:
                        write(self.connection, [record])
                except REFUSED as error:
                    self.refused(record, error)
