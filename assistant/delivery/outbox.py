"""The outbox: messages that wait, were sent or failed, in the timeline's database. Any thread may use it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from assistant.delivery.retries import MOST_DELAY_S
from assistant.timeline.folder import TimelineFolder
from assistant.timeline.records import Parcel
from assistant.timeline.schema import open_for_writing
from assistant.timeline.shared_connection import WRITE_BUSY_S, SharedConnection
from assistant.timeline.writing import insert_parcels, transaction

STATES = ("waiting", "sent", "failed")
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One message in the outbox."""

    id: int
    key: str
    target: str
    rule: str
    severity: str
    occurrence: str
    phase: str
    message: str
    created_s: float
    """Time of day since when it waits, or waited: when it was written, or was last told to be retried."""
    state: str
    """`waiting`, `sent` or `failed`."""
    attempts: int
    next_try_s: float
    """Time of day of the next try, while it waits."""
    said: str
    """What the receiver said last, or why it is not sent."""
    done_s: float | None

    def as_dict(self) -> dict[str, Any]:
        """The entry as values for JSON, without the message itself."""
        values = asdict(self)
        del values["message"]
        return values


_COLUMNS = ", ".join(entry.name for entry in fields(OutboxEntry))
# A clock that was set back must not put off a try for longer than any delay.
_DUE = "(next_try_s <= :now_s OR next_try_s > :now_s + :most_s)"
_FIRST_OF_LANE = """
    NOT EXISTS (SELECT 1 FROM outbox AS earlier WHERE earlier.target = outbox.target AND earlier.lane = outbox.lane
                AND earlier.state = 'waiting' AND earlier.id < outbox.id)
"""


class Outbox(SharedConnection):
    """The messages of one timeline, on a connection of its own."""

    def __init__(self, folder: TimelineFolder) -> None:
        """Raises `StoreError` if the timeline cannot be written."""
        super().__init__(open_for_writing(folder.database, timeout_s=WRITE_BUSY_S), folder.database)
        self._connection.row_factory = sqlite3.Row

    def add(self, parcels: Sequence[Parcel]) -> None:
        """Add messages, due at once; those whose key exists already are unchanged."""
        with self._used() as connection, transaction(connection):
            insert_parcels(connection, parcels)

    def next_due(self, target: str, now_s: float) -> OutboxEntry | None:
        """The first message of a target that is due and not behind another one of its lane."""
        found = self._entries(
            f"WHERE target = :target AND state = 'waiting' AND {_DUE} AND {_FIRST_OF_LANE} ORDER BY id LIMIT 1",
            {"target": target, "now_s": now_s, "most_s": 2 * MOST_DELAY_S},
        )
        return found[0] if found else None

    def next_try_s(self, target: str) -> float | None:
        """Time of day of a target's next try; None if nothing waits."""
        with self._used() as connection:
            row = connection.execute(
                f"SELECT min(next_try_s) FROM outbox WHERE target = ? AND state = 'waiting' AND {_FIRST_OF_LANE}",
                (target,),
            ).fetchone()
        return None if row[0] is None else float(row[0])

    def sent(self, number: int, said: str, now_s: float) -> None:
        """Note that a message was taken, and what the receiver said."""
        self._finish(number, "sent", said, now_s, 1)

    def failed(self, number: int, said: str, now_s: float, *, was_tried: bool = True) -> None:
        """Note that a message is given up, and why."""
        self._finish(number, "failed", said, now_s, int(was_tried))

    def later(self, number: int, said: str, next_try_s: float, *, was_tried: bool = True) -> None:
        """Note that a message was not taken, what the receiver said, and when it is tried again."""
        with self._used() as connection:
            connection.execute(
                "UPDATE outbox SET attempts = attempts + ?, said = ?, next_try_s = ?"
                " WHERE id = ? AND state = 'waiting'",
                (int(was_tried), said, next_try_s, number),
            )

    def retry(self, target: str | None, now_s: float) -> int:
        """Make failed messages wait again, and waiting ones due now; return their number. None: of every target."""
        with self._used() as connection:
            return connection.execute(
                "UPDATE outbox SET state = 'waiting', attempts = 0, next_try_s = ?, created_s = ?, done_s = NULL"
                " WHERE state != 'sent' AND target = coalesce(?, target)",
                (now_s, now_s, target),
            ).rowcount

    def counts(self) -> dict[str, dict[str, int]]:
        """Numbers of messages by target and state."""
        with self._used() as connection:
            rows = connection.execute("SELECT target, state, count(*) FROM outbox GROUP BY target, state").fetchall()
        counts: dict[str, dict[str, int]] = {}
        for target, state, number in rows:
            counts.setdefault(target, dict.fromkeys(STATES, 0))[state] = number
        return counts

    def entries(self, *, state: str | None = None, target: str | None = None, limit: int = 50) -> list[OutboxEntry]:
        """The latest messages, newest first."""
        return self._entries(
            "WHERE state = coalesce(:state, state) AND target = coalesce(:target, target)"
            " ORDER BY id DESC LIMIT :limit",
            {"state": state, "target": target, "limit": limit},
        )

    def by_keys(self, keys: Sequence[str]) -> list[OutboxEntry]:
        """The messages with these idempotency keys, oldest first."""
        marks = {f"key{number}": key for number, key in enumerate(keys)}
        return self._entries(f"WHERE key IN ({', '.join(f':{mark}' for mark in marks)}) ORDER BY id", marks)

    def num_sent(self, target: str, rule: str, since_s: float) -> int:
        """Number of alerts of a rule that a target was sent since a time of day."""
        with self._used() as connection:
            row = connection.execute(
                "SELECT count(*) FROM outbox WHERE target = ? AND rule = ? AND phase = 'started' AND state = 'sent'"
                " AND done_s > ?",
                (target, rule, since_s),
            ).fetchone()
        return int(row[0])

    def start_of(self, entry: OutboxEntry) -> OutboxEntry | None:
        """The message about the start of what an entry tells the end of; None if there is none."""
        found = self._entries(
            "WHERE target = :target AND occurrence = :occurrence AND phase = 'started'",
            {"target": entry.target, "occurrence": entry.occurrence},
        )
        return found[0] if found else None

    def without_end(self, target: str) -> list[OutboxEntry]:
        """The messages about starts of a target that no message about the end follows, oldest first."""
        return self._entries(
            "WHERE target = :target AND phase = 'started' AND state != 'failed' AND NOT EXISTS (SELECT 1 FROM outbox"
            " AS ends WHERE ends.target = outbox.target AND ends.occurrence = outbox.occurrence"
            " AND ends.phase = 'ended') ORDER BY id",
            {"target": target},
        )

    def is_clip_recording(self, path: str) -> bool:
        """Whether a clip of the timeline is still being recorded."""
        with self._used() as connection:
            row = connection.execute("SELECT state FROM clips WHERE path = ?", (path,)).fetchone()
        return row is not None and row[0] == "recording"

    def _finish(self, number: int, state: str, said: str, now_s: float, tried: int) -> None:
        with self._used() as connection:
            connection.execute(
                "UPDATE outbox SET state = ?, said = ?, done_s = ?, attempts = attempts + ? WHERE id = ?",
                (state, said, now_s, tried, number),
            )

    def _entries(self, where: str, values: dict[str, Any]) -> list[OutboxEntry]:
        with self._used() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM outbox {where}", values).fetchall()
        return [OutboxEntry(**dict(row)) for row in rows]
