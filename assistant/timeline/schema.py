"""The timeline's SQLite database: its tables, migrations, and connections for writing and reading.

`docs/timeline.md` describes the tables. Any thread may use a connection, one at a time.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from assistant.errors import StoreError

APPLICATION_ID = 0x53564154
"""SQLite application id in the database's header, "SVAT", which identifies a timeline."""
OPEN_TIMEOUT_S = 5.0
"""Seconds that opening waits for another process that has locked the database."""
WAL_LIMIT_BYTES = 16 << 20
"""Size to which the write-ahead log is truncated after a burst; a commit that finds it larger checkpoints it."""

_FIRST = (
    """
    CREATE TABLE clips (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        camera TEXT NOT NULL,
        path TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('recording', 'done', 'lost')),
        reason TEXT NOT NULL DEFAULT '',
        wall_s REAL NOT NULL,
        start_s REAL,
        end_s REAL,
        num_frames INTEGER NOT NULL DEFAULT 0,
        num_dropped INTEGER NOT NULL DEFAULT 0,
        size_bytes INTEGER NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uid TEXT NOT NULL UNIQUE,
        run TEXT NOT NULL,
        camera TEXT NOT NULL,
        source TEXT NOT NULL,
        type TEXT NOT NULL,
        kind TEXT,
        text TEXT NOT NULL,
        question TEXT,
        reason TEXT NOT NULL,
        score REAL,
        probability REAL,
        threshold REAL,
        latency_ms REAL,
        frame_index INTEGER,
        media_s REAL NOT NULL,
        wall_s REAL NOT NULL,
        recorded_s REAL NOT NULL,
        other TEXT NOT NULL DEFAULT '{}',
        clip_id INTEGER REFERENCES clips (id) ON DELETE SET NULL
    )
    """,
    "CREATE INDEX events_by_time ON events (wall_s)",
    "CREATE INDEX events_by_camera ON events (camera, wall_s)",
    "CREATE INDEX events_by_clip ON events (clip_id)",
    """
    CREATE TABLE frames (
        id INTEGER PRIMARY KEY,
        camera TEXT NOT NULL,
        path TEXT NOT NULL UNIQUE,
        frame_index INTEGER NOT NULL,
        media_s REAL NOT NULL,
        wall_s REAL NOT NULL,
        width_px INTEGER NOT NULL,
        height_px INTEGER NOT NULL,
        cells TEXT NOT NULL,
        size_bytes INTEGER NOT NULL
    )
    """,
    "CREATE INDEX frames_by_camera ON frames (camera, wall_s)",
    """
    CREATE TABLE event_frames (
        event_id INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE,
        frame_id INTEGER NOT NULL REFERENCES frames (id) ON DELETE CASCADE,
        PRIMARY KEY (event_id, frame_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX event_frames_by_frame ON event_frames (frame_id)",
    """
    CREATE TABLE removals (
        id INTEGER PRIMARY KEY,
        wall_s REAL NOT NULL,
        reason TEXT NOT NULL,
        num_events INTEGER NOT NULL,
        num_frames INTEGER NOT NULL,
        num_clips INTEGER NOT NULL
    )
    """,
    """
    CREATE VIRTUAL TABLE events_text USING fts5 (
        text, question, content = 'events', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
    )
    """,
    """
    CREATE TRIGGER events_added AFTER INSERT ON events BEGIN
        INSERT INTO events_text (rowid, text, question) VALUES (new.id, new.text, new.question);
    END
    """,
    """
    CREATE TRIGGER events_removed AFTER DELETE ON events BEGIN
        INSERT INTO events_text (events_text, rowid, text, question)
        VALUES ('delete', old.id, old.text, old.question);
    END
    """,
    """
    CREATE VIEW timeline AS
    SELECT
        events.id,
        strftime('%Y-%m-%d %H:%M:%S', events.wall_s, 'unixepoch', 'localtime') AS time,
        events.camera, events.type, events.kind, events.question, events.text, events.probability,
        clips.path AS clip
    FROM events LEFT JOIN clips ON clips.id = events.clip_id
    ORDER BY events.id
    """,
)

_OUTBOX = (
    """
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,
        target TEXT NOT NULL,
        rule TEXT NOT NULL,
        severity TEXT NOT NULL,
        occurrence TEXT NOT NULL,
        phase TEXT NOT NULL,
        lane TEXT NOT NULL,
        message TEXT NOT NULL,
        created_s REAL NOT NULL,
        state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'failed')),
        attempts INTEGER NOT NULL DEFAULT 0,
        next_try_s REAL NOT NULL,
        said TEXT NOT NULL DEFAULT '',
        done_s REAL
    )
    """,
    "CREATE INDEX outbox_by_state ON outbox (target, state, next_try_s)",
    "CREATE INDEX outbox_by_lane ON outbox (target, lane, id) WHERE state = 'waiting'",
    "CREATE INDEX outbox_by_occurrence ON outbox (target, occurrence)",
)

_MARKS = (
    """
    CREATE TABLE marks (
        event_id INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
        verdict TEXT NOT NULL CHECK (verdict IN ('right', 'wrong')),
        marked_s REAL NOT NULL
    )
    """,
    """
    CREATE TABLE mutes (
        rule TEXT PRIMARY KEY,
        is_muted INTEGER NOT NULL CHECK (is_muted IN (0, 1)),
        muted_s REAL NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX alerts_by_rule ON events (json_extract(other, '$.rule')) WHERE type = 'alert'",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _OUTBOX, _MARKS)
"""For each N, the statements that migrate a database from version N to N + 1; `user_version` holds the version."""


def open_for_writing(path: Path, *, timeout_s: float = OPEN_TIMEOUT_S) -> sqlite3.Connection:
    """Open a database for writing, in autocommit mode; creates or migrates its tables.

    Raises `StoreError` if the file is not a timeline, is of a newer version, is locked or cannot be written.
    """
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit is in the system's page cache before `append` returns, so a killed process loses nothing. Syncing
        # each commit to disk would delay the engine by many milliseconds, and help only after a power cut.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_LIMIT_BYTES // 4096}")
        connection.execute("PRAGMA foreign_keys = ON")
        migrate(connection, path)
    except (sqlite3.Error, StoreError) as error:
        if connection is not None:
            connection.close()
        raise error if isinstance(error, StoreError) else store_error(path, error) from error
    return connection


def checkpoint(path: Path) -> None:
    """Copy the write-ahead log into the database, on its own connection, so that writers need not wait for the sync."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=0.1)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def open_for_reading(path: Path, *, timeout_s: float = OPEN_TIMEOUT_S) -> sqlite3.Connection:
    """Open a database for reading only, while others may write it. Raises `StoreError` if there is no timeline."""
    if not path.is_file():
        raise StoreError(f"{path}: no timeline there; watching a camera creates one; check --data")
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = None
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)
        _check(connection, path)
    except (sqlite3.Error, StoreError) as error:
        if connection is not None:
            connection.close()
        raise error if isinstance(error, StoreError) else store_error(path, error) from error
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Create or migrate the tables in one transaction; safe if two processes open the database at once."""
    if _check(connection, path) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _check(connection, path)
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """A `StoreError` with value, rule and remedy for an SQLite error."""
    said = str(error)
    if "locked" in said or "busy" in said:
        return StoreError(f"{path}: another process has locked it; only one can write at a time; end that process")
    if "full" in said:
        return StoreError(f"{path}: the disk is full; events need disk space to be written; free some")
    if "not a database" in said or "malformed" in said:
        return StoreError(
            f"{path}: {said}; a timeline must be an SQLite database; move the file away or name another --data"
        )
    return StoreError(f"{path}: {said}; the timeline's folder must be readable and writable; check it")


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the tables, 0 for none. Raises `StoreError` if another program or a newer version wrote them."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (num_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if num_tables and application != APPLICATION_ID:
        raise StoreError(f"{path}: a database of another program; it must be a timeline; name another --data")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path}: version {version}; this program knows versions up to {len(MIGRATIONS)}; update the program"
        )
    return version
