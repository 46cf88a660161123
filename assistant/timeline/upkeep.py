"""Removes old events to keep a timeline's limits, and files of killed processes. Called on the timeline's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from assistant.errors import ConfigError
from assistant.timeline.folder import PART, TimelineFolder
from assistant.timeline.records import KeptClip
from assistant.timeline.writing import transaction

SLACK = 0.9
"""Fraction of the size limit to which an oversized timeline is reduced, so that not every event starts a sweep."""
BATCH = 200
"""Rows removed in one transaction: few, so that no event waits long."""
CUT_OFF = "the program ended while it was recorded"
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Limits of age and size. For the size, clips are removed first, then thumbnails, then events, oldest first."""

    max_age_days: float | None = None
    """Age at which events are removed with their thumbnails and clips; None keeps them for ever."""
    max_bytes: int | None = None
    """Most bytes of database, thumbnails and clips together; None for no limit."""

    def __post_init__(self) -> None:
        if self.max_age_days is not None and not self.max_age_days > 0:
            raise ConfigError(
                f"max_age_days {self.max_age_days}: it must be above 0; leave it out to keep events for ever"
            )
        if self.max_bytes is not None and self.max_bytes < 1 << 20:
            raise ConfigError(
                f"max_bytes {self.max_bytes}: it must be at least 1048576, 1 MiB; leave it out for no limit"
            )


@dataclass(slots=True)
class SweepResult:
    """Numbers of removed events, thumbnails and clips."""

    num_events: int = 0
    num_frames: int = 0
    num_clips: int = 0

    def __bool__(self) -> bool:
        return bool(self.num_events or self.num_frames or self.num_clips)


def clean_up(connection: sqlite3.Connection, folder: TimelineFolder) -> int:
    """After a killed process: mark its clips as done or lost, and delete files that no row names.

    No other process may write meanwhile. Returns the number of lost clips.
    """
    num_lost = 0
    for number, path in connection.execute("SELECT id, path FROM clips WHERE state = 'recording'").fetchall():
        size_bytes = folder.size_of(path)
        if size_bytes is not None:
            connection.execute("UPDATE clips SET state = 'done', size_bytes = ? WHERE id = ?", (size_bytes, number))
        else:
            connection.execute("UPDATE clips SET state = 'lost', reason = ? WHERE id = ?", (CUT_OFF, number))
            num_lost += 1
    known = {path for table in ("frames", "clips") for (path,) in connection.execute(f"SELECT path FROM {table}")}
    for path, _ in list(folder.files()):
        if path not in known or path.endswith(PART):
            folder.remove(path)
    return num_lost


def close_clips(connection: sqlite3.Connection, clips: Sequence[KeptClip]) -> None:
    """Enter finished clips in the database; call within a transaction."""
    for clip in clips:
        connection.execute(
            "UPDATE clips SET state = ?, reason = ?, start_s = ?, end_s = ?, num_frames = ?, num_dropped = ?,"
            " size_bytes = ? WHERE uid = ?",
            (
                clip.state, clip.reason, clip.start_s, clip.end_s, clip.num_frames, clip.num_dropped, clip.size_bytes,
                clip.uid,
            ),
        )  # fmt: skip


def enforce(
    connection: sqlite3.Connection,
    lock: AbstractContextManager[object],
    folder: TimelineFolder,
    retention: Retention,
    wall_s: float,
) -> SweepResult:
    """Remove what exceeds the limits; holds the lock for a batch at a time. Raises `sqlite3.Error`.

    Rows are removed before their files: a kill between the two leaves files, which the next start deletes.
    """
    removed = SweepResult()
    if retention.max_age_days is not None:
        oldest_s = wall_s - DAY_S * retention.max_age_days
        while _remove_events(connection, lock, folder, removed, f"WHERE wall_s < {oldest_s!r}"):
            pass
        with lock:  # what still waits is kept, however old
            connection.execute("DELETE FROM outbox WHERE state != 'waiting' AND created_s < ?", (oldest_s,))
        _note(connection, lock, wall_s, f"older than {retention.max_age_days:g} days", removed)
    if retention.max_bytes is not None:
        for_size = SweepResult()
        _shrink(connection, lock, folder, retention.max_bytes, for_size)
        _note(connection, lock, wall_s, f"more than {retention.max_bytes} bytes", for_size)
        removed.num_events += for_size.num_events
        removed.num_frames += for_size.num_frames
        removed.num_clips += for_size.num_clips
    if removed:
        with lock:
            connection.executescript("PRAGMA incremental_vacuum")  # `execute` would stop after the first page
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # the checkpoint shrinks the file
    return removed


def size_of(connection: sqlite3.Connection) -> int:
    """Total bytes of the database's used pages, the thumbnails and the clips."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    sums = (
        connection.execute(f"SELECT coalesce(sum(size_bytes), 0) FROM {t}").fetchone()[0] for t in ("frames", "clips")
    )
    num_bytes: int = (pages - free) * page_bytes + sum(sums)
    return num_bytes


def _shrink(
    connection: sqlite3.Connection,
    lock: AbstractContextManager[object],
    folder: TimelineFolder,
    max_bytes: int,
    removed: SweepResult,
) -> None:
    with lock:
        size = size_of(connection)
    if size <= max_bytes:
        return
    wanted = SLACK * max_bytes
    for table, batch in (("clips", 8), ("frames", BATCH)):
        while size > wanted and (freed := _remove_files(connection, lock, folder, table, batch, removed)) is not None:
            size -= freed
    while size > wanted and _remove_events(connection, lock, folder, removed, ""):
        with lock:
            size = size_of(connection)


def _remove_files(
    connection: sqlite3.Connection,
    lock: AbstractContextManager[object],
    folder: TimelineFolder,
    table: str,
    batch: int,
    removed: SweepResult,
) -> int | None:
    """Remove the oldest clips or thumbnails, not their events; return the freed bytes, None if there is none left."""
    whole = "WHERE state = 'done'" if table == "clips" else ""
    with lock, transaction(connection):
        rows = connection.execute(
            f"SELECT id, path, size_bytes FROM {table} {whole} ORDER BY wall_s, id LIMIT ?", (batch,)
        ).fetchall()
        connection.executemany(f"DELETE FROM {table} WHERE id = ?", [(number,) for number, _, _ in rows])
    for _, path, _ in rows:
        folder.remove(path)
    if table == "clips":
        removed.num_clips += len(rows)
    else:
        removed.num_frames += len(rows)
    return sum(size_bytes for _, _, size_bytes in rows) if rows else None


def _remove_events(
    connection: sqlite3.Connection,
    lock: AbstractContextManager[object],
    folder: TimelineFolder,
    removed: SweepResult,
    where: str,
) -> int:
    """Remove a batch of the oldest events, and files that no other event uses; return the number of events."""
    with lock, transaction(connection):
        rows = connection.execute(f"SELECT id FROM events {where} ORDER BY id LIMIT {BATCH}").fetchall()
        frames = set()
        clips = set()
        for row in rows:
            frames |= {f for (f,) in connection.execute("SELECT frame_id FROM event_frames WHERE event_id = ?", row)}
            clips |= {c for (c,) in connection.execute("SELECT clip_id FROM events WHERE id = ?", row) if c is not None}
            connection.execute("DELETE FROM events WHERE id = ?", row)
        paths = _remove_unused(connection, "frames", "SELECT 1 FROM event_frames WHERE frame_id = frames.id", frames)
        num_frames = len(paths)
        paths += _remove_unused(connection, "clips", "SELECT 1 FROM events WHERE clip_id = clips.id", clips)
    for path in paths:
        folder.remove(path)
    removed.num_events += len(rows)
    removed.num_frames += num_frames
    removed.num_clips += len(paths) - num_frames
    return len(rows)


def _remove_unused(connection: sqlite3.Connection, table: str, use: str, numbers: set[int]) -> list[str]:
    """Delete those of the rows `numbers` that nothing uses; return the paths of their files."""
    gone = []
    for number in numbers:
        row = connection.execute(
            f"DELETE FROM {table} WHERE id = ? AND NOT EXISTS ({use}) RETURNING path", (number,)
        ).fetchone()
        if row is not None:
            gone.append(row[0])
    return gone


def _note(
    connection: sqlite3.Connection,
    lock: AbstractContextManager[object],
    wall_s: float,
    reason: str,
    removed: SweepResult,
) -> None:
    """Enter the numbers of removed rows in the table `removals`."""
    if removed:
        with lock:
            connection.execute(
                "INSERT INTO removals (wall_s, reason, num_events, num_frames, num_clips) VALUES (?, ?, ?, ?, ?)",
                (wall_s, reason, removed.num_events, removed.num_frames, removed.num_clips),
            )
