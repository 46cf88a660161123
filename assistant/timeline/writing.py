"""Inserts records into the timeline's database. The caller holds the connection's lock, outside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from operator import attrgetter

from assistant.timeline.records import ClipMark, KeptFrame, Parcel, Record, event_columns

_COLUMNS_OF_PARCEL = attrgetter(*(field.name for field in fields(Parcel)))
REFUSED = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
    TypeError,
)
"""Errors of a record itself, which would fail again however often it is retried."""

_INSERT_EVENT = """
    INSERT INTO events (
        uid, run, camera, source, type, kind, text, question, reason, score, probability, threshold, latency_ms,
        frame_index, media_s, wall_s, recorded_s, other, clip_id
    ) VALUES (
        :uid, :run, :camera, :source, :type, :kind, :text, :question, :reason, :score, :probability, :threshold,
        :latency_ms, :frame_index, :media_s, :wall_s, :recorded_s, :other, :clip_id
    ) ON CONFLICT (uid) DO NOTHING
"""
_INSERT_PARCEL = """
    INSERT INTO outbox (key, target, rule, severity, occurrence, phase, lane, message, created_s, next_try_s)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING
"""
_INSERT_FRAME = (
    "INSERT INTO frames (camera, path, frame_index, media_s, wall_s, width_px, height_px, cells, size_bytes)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO NOTHING"
)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Within this context, statements are one transaction; an exception rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def write(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
    """Insert records in one transaction; those that exist already are unchanged. Raises `sqlite3.Error`."""
    with transaction(connection):
        for record in records:
            _insert(connection, record)


def _insert(connection: sqlite3.Connection, record: Record) -> None:
    row = event_columns(record.event)
    row |= {"uid": record.uid, "run": record.run, "camera": record.camera}
    row |= {"wall_s": record.wall_s, "recorded_s": record.recorded_s}
    row["clip_id"] = _clip_id(connection, record.camera, record.clip) if record.clip else None
    cursor = connection.execute(_INSERT_EVENT, row)
    if not cursor.rowcount:
        return
    event_id = cursor.lastrowid
    for frame in record.frames:
        connection.execute(
            "INSERT OR IGNORE INTO event_frames (event_id, frame_id) VALUES (?, ?)",
            (event_id, _frame_id(connection, record.camera, frame)),
        )
    insert_parcels(connection, record.parcels)


def insert_parcels(connection: sqlite3.Connection, parcels: Sequence[Parcel]) -> None:
    """Insert parcels into the outbox, due at once; those that exist already are unchanged."""
    for parcel in parcels:
        connection.execute(_INSERT_PARCEL, (*_COLUMNS_OF_PARCEL(parcel), parcel.created_s))


def _frame_id(connection: sqlite3.Connection, camera: str, frame: KeptFrame) -> int:
    connection.execute(
        _INSERT_FRAME,
        (
            camera,
            frame.path,
            frame.frame_index,
            frame.media_s,
            frame.wall_s,
            frame.width_px,
            frame.height_px,
            frame.cells,
            frame.size_bytes,
        ),
    )
    number: int = connection.execute("SELECT id FROM frames WHERE path = ?", (frame.path,)).fetchone()[0]
    return number


def _clip_id(connection: sqlite3.Connection, camera: str, clip: ClipMark) -> int:
    connection.execute(
        "INSERT INTO clips (uid, camera, path, state, wall_s) VALUES (?, ?, ?, 'recording', ?)"
        " ON CONFLICT (uid) DO NOTHING",
        (clip.uid, camera, clip.path, clip.wall_s),
    )
    number: int = connection.execute("SELECT id FROM clips WHERE uid = ?", (clip.uid,)).fetchone()[0]
    return number
