"""Writes records as they come, or lets them wait while the database takes none. Any thread may call `take`.

The timeline's own thread calls `retry`, and waits on `changed`.
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
"""Records that are written in one transaction once the database is there again."""

logger = logging.getLogger(__name__)


class Writer:
    """The way of records into one database."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: TimelineFolder,
        clock: Clock,
        most_waiting: int,
        say: Callable[..., None],
    ) -> None:
        """say: told in a sentence when events begin to wait, and with figures when that is over."""
        self.connection = connection
        self.db = threading.RLock()
        """Held round every use of the connection."""
        self.changed = threading.Condition()
        """Held round the state; never while the database is written."""
        self.trouble = ""
        """Why the database takes no events now; empty where it does."""
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
        """Records that the database has not taken yet."""
        with self.changed:
            return len(self._waiting)

    @property
    def num_lost(self) -> int:
        """Records that could not be kept anywhere."""
        with self.changed:
            return self._waiting.num_lost + self.num_refused

    def put(self, record: Record) -> None:
        """Write a record; it is committed when this returns, or it waits where the database would not take it."""
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
        """Write all that waits, oldest first; whether the trouble is over."""
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
                self._waiting.done(records)
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
        """Count a record that no database would take."""
        with self.changed:
            self.num_refused += 1
        logger.error("an event of type %s was refused: %s", record.event.type, error)

    def close(self) -> int:
        """Let go of all; gives how many records are lost with the process."""
        with self.changed:
            num_in_danger = self._waiting.num_in_danger
            self._waiting.close()
        with self.db:
            self.connection.close()
        return num_in_danger

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
        """What is to be written next; None where nothing waits, and then the trouble is over at once."""
        with self.changed:
            records = self._waiting.first(BATCH)
            if not records:
                self.trouble = ""
            return records or None

    def _write_batch(self, records: Sequence[Record]) -> None:
        """In one transaction; where a record is refused, each in its own."""
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
