"""Searches the timeline by words, time, camera and type. Any thread may use a reader, while others write."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from assistant.errors import ConfigError, StoreError
from assistant.events import StatusKind, StreamEvent
from assistant.timeline.folder import TimelineFolder
from assistant.timeline.records import FoundEvent, KeptClip, KeptFrame, event_of_columns
from assistant.timeline.schema import open_for_reading, store_error
from assistant.timeline.shared_connection import SharedConnection

TYPES = ("comment", "answer", "alert", "status")
MOST_WORDS = 32
"""Most words of a search; further ones are ignored."""
PAGE = 500
"""Rows fetched at a time when all events are read."""
# Scripts written without spaces: the index stores a whole run of their characters as one word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class Query:
    """A search; an event must meet every condition that is given."""

    text: str = ""
    """Words that an event must contain, in any form ("circle" finds "circles"); a phrase in double quotes; a prefix
    with `*` at its end. Any text is valid."""
    since_s: float | None = None
    """Earliest time of day of an event's picture, seconds since 1970."""
    until_s: float | None = None
    media_since_s: float | None = None
    """Earliest media time, seconds; useful only together with `run`."""
    media_until_s: float | None = None
    run: str | None = None
    """Only this run of a stream."""
    cameras: tuple[str, ...] = ()
    """Only events of these cameras; empty for all."""
    types: tuple[str, ...] = ()
    """Only events of these types: comment, answer, alert, status, or a kind of status such as `gap`; empty for all."""
    limit: int = 50
    after_id: int | None = None
    """Only events stored after the event with this number."""
    before_id: int | None = None
    """Only events stored before the event with this number, for the next page."""
    oldest_first: bool = False

    def __post_init__(self) -> None:
        known = (*TYPES, *(kind.value for kind in StatusKind))
        for name in self.types:
            if name not in known:
                raise ConfigError(f"type {name!r}: it must be one of {', '.join(known)}; correct or leave it out")
        if self.limit < 1:
            raise ConfigError(f"limit {self.limit}: it must be at least 1; leave it out for 50")


_FRAMES_OF_EVENT = """
    SELECT frames.* FROM frames JOIN event_frames ON frame_id = frames.id WHERE event_id = ?
    ORDER BY frames.wall_s, frames.id
"""


class TimelineReader(SharedConnection):
    """Reads one timeline."""

    def __init__(self, folder: TimelineFolder) -> None:
        """Raises `StoreError` if the folder has no timeline."""
        self.folder = folder
        super().__init__(open_for_reading(folder.database), folder.database)
        self._connection.row_factory = sqlite3.Row

    def search(self, query: Query) -> list[FoundEvent]:
        """Events that match, in the order they were stored: newest first, or oldest first if the query says so."""
        where, values = _conditions(query)
        order = "ASC" if query.oldest_first else "DESC"
        sql = f"SELECT events.* FROM events WHERE {where} ORDER BY events.id {order} LIMIT ?"
        with self._lock:
            return self._found(self._rows(sql, [*values, min(query.limit, 1 << 30)]))

    def every(self, query: Query, *, bare: bool = False) -> Iterator[FoundEvent]:
        """Every matching event, oldest first; the query's limit and order are ignored. bare: no frames and clips."""
        last = query.after_id or 0
        where, values = _conditions(query)
        while True:
            sql = f"SELECT events.* FROM events WHERE {where} AND events.id > ? ORDER BY events.id LIMIT {PAGE}"
            with self._lock:
                rows = self._rows(sql, [*values, last])
                found = self._found(rows, bare=bare)
            yield from found
            if len(rows) < PAGE:
                return
            last = rows[-1]["id"]

    def events(self) -> Iterator[StreamEvent]:
        """Every event, oldest first."""
        return (found.event for found in self.every(Query(), bare=True))

    def get(self, event_id: int | str) -> FoundEvent | None:
        """The event with this number or `uid`; None if there is none."""
        column = "id" if isinstance(event_id, int) else "uid"
        if isinstance(event_id, int) and not -(1 << 63) <= event_id < 1 << 63:
            return None
        with self._lock:
            found = self._found(self._rows(f"SELECT * FROM events WHERE {column} = ?", [event_id]))
        return found[0] if found else None

    def cameras(self) -> list[str]:
        """Names of all cameras that have events, sorted."""
        with self._lock:
            return [row[0] for row in self._rows("SELECT DISTINCT camera FROM events ORDER BY camera", [])]

    def rows(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run an SQL query of our own and return its rows."""
        with self._lock:
            return [tuple(row) for row in self._rows(sql, values)]

    def frames_between(self, start_s: float, end_s: float, cameras: Sequence[str], limit: int) -> list[KeptFrame]:
        """Thumbnails of a span of time, oldest first, at most `limit`, evenly spread."""
        named = f"AND camera IN ({', '.join('?' * len(cameras))})" if cameras else ""
        sql = f"SELECT * FROM frames WHERE wall_s BETWEEN ? AND ? {named} ORDER BY wall_s, id LIMIT 5000"
        with self._lock:
            frames = [_frame(row) for row in self._rows(sql, [start_s, end_s, *cameras])]
        if len(frames) <= limit:
            return frames
        return [frames[round(i * (len(frames) - 1) / max(1, limit - 1))] for i in range(limit)]

    def frames_at(self, paths: Sequence[str]) -> list[KeptFrame]:
        """The thumbnails with these paths, oldest first; deleted ones are left out."""
        marks = ", ".join("?" * len(paths))
        with self._lock:
            rows = self._rows(f"SELECT * FROM frames WHERE path IN ({marks}) ORDER BY wall_s, id", paths)
        return [_frame(row) for row in rows]

    def _rows(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        try:
            with closing(self._connection.execute(sql, tuple(values))) as cursor:
                return cursor.fetchall()
        except sqlite3.Error as error:
            raise store_error(self.folder.database, error) from error

    def _found(self, rows: Sequence[sqlite3.Row], *, bare: bool = False) -> list[FoundEvent]:
        """Events of rows, with their frames and clips; rows that a newer version wrote differently are left out."""
        found = []
        verdicts = {} if bare else self._verdicts(rows)
        for row in rows:
            try:
                event = event_of_columns(dict(row))
            except (StoreError, ValueError):
                continue
            frames = [] if bare else self._rows(_FRAMES_OF_EVENT, [row["id"]])
            clips = [] if bare else self._rows("SELECT * FROM clips WHERE id = ?", [row["clip_id"]])
            found.append(
                FoundEvent(
                    id=row["id"],
                    uid=row["uid"],
                    event=event,
                    camera=row["camera"],
                    run=row["run"],
                    wall_s=row["wall_s"],
                    recorded_s=row["recorded_s"],
                    frames=tuple(_frame(frame) for frame in frames),
                    clip=_clip(clips[0]) if clips else None,
                    verdict=verdicts.get(row["id"]),
                )
            )
        return found

    def _verdicts(self, rows: Sequence[sqlite3.Row]) -> dict[int, str]:
        """What a person said of alerts, by the number of their events."""
        alerts = [row["id"] for row in rows if row["type"] == "alert"]
        if not alerts or not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'marks'", []):
            return {}  # nothing has written since the timeline was made by an older version
        marks = ", ".join("?" * len(alerts))
        return {
            row[0]: row[1]
            for row in self._rows(f"SELECT event_id, verdict FROM marks WHERE event_id IN ({marks})", alerts)
        }


def match_expression(text: str) -> tuple[str, list[str]]:
    """Turn typed text into a valid FTS5 expression, and a list of words that the index cannot split.

    >>> match_expression('red "big circle" squ*')
    ('"red" "big circle" "squ"*', [])
    """
    terms, unspaced = [], []
    for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', text.replace("\0", " "))[:MOST_WORDS]:
        phrase = quoted or plain
        if _UNSPACED.search(phrase):
            unspaced.append(phrase.strip('"*'))
            continue
        words = " ".join(re.findall(r"\w+", phrase))
        if words:
            terms.append(f'"{words}"' + ("*" if plain.endswith("*") else ""))
    return " ".join(terms), unspaced


def _conditions(query: Query) -> tuple[str, list[str | float]]:
    """The WHERE clause of a query and its values."""
    conditions = ["1"]
    values: list[str | float] = []
    expression, unspaced = match_expression(query.text)
    if expression:
        conditions.append("events.id IN (SELECT rowid FROM events_text WHERE events_text MATCH ?)")
        values.append(expression)
    for phrase in unspaced:
        conditions.append("(instr(events.text, ?) OR instr(coalesce(events.question, ''), ?))")
        values += [phrase, phrase]
    if query.text.strip() and not expression and not unspaced:
        conditions.append("0")  # only punctuation: matches no event
    for condition, value in (
        ("events.wall_s >= ?", query.since_s),
        ("events.wall_s <= ?", query.until_s),
        ("events.media_s >= ?", query.media_since_s),
        ("events.media_s <= ?", query.media_until_s),
        ("events.run = ?", query.run),
        ("events.id > ?", query.after_id),
        ("events.id < ?", query.before_id),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if query.cameras:
        conditions.append(f"events.camera IN ({', '.join('?' * len(query.cameras))})")
        values += query.cameras
    if query.types:
        marks = ", ".join("?" * len(query.types))
        conditions.append(f"(events.type IN ({marks}) OR events.kind IN ({marks}))")
        values += [*query.types, *query.types]
    return " AND ".join(conditions), values


def _frame(row: sqlite3.Row) -> KeptFrame:
    return KeptFrame(**{name: row[name] for name in KeptFrame.__dataclass_fields__})


def _clip(row: sqlite3.Row) -> KeptClip:
    return KeptClip(**{name: row[name] for name in KeptClip.__dataclass_fields__})
