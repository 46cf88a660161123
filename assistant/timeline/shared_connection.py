"""A connection to the timeline's database that all threads share, one at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from assistant.timeline.schema import store_error

WRITE_BUSY_S = 5.0
"""Seconds to wait for another writer of the database."""


class SharedConnection:
    """Holds a connection and the lock that guards it, until it is closed or its `with` ends."""

    def __init__(self, connection: sqlite3.Connection, database: Path) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._connection = connection

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _used(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone. Errors of the database become `StoreError`."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise store_error(self._database, error) from error
