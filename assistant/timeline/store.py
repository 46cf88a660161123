"""The timeline: stores every event in one database, with thumbnails and clips beside it. Any thread may call it.

`append` returns when the event is committed, so a killed process loses no event that was shown afterwards. If the
database cannot be written (locked by another process, disk full), events wait in memory and in a file and are
retried, which a status event reports; every lost event is counted.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from assistant.errors import StoreError
from assistant.events import Detail, StatusEvent, StatusKind, StreamEvent
from assistant.evidence import EvidenceFrame
from assistant.timeline.folder import FileLock, TimelineFolder
from assistant.timeline.marks import AlertMarks
from assistant.timeline.records import ClipMark, FoundEvent, KeptClip, KeptFrame, Parcel, Record, redacted
from assistant.timeline.schema import checkpoint, open_for_writing, store_error
from assistant.timeline.search import Query, TimelineReader
from assistant.timeline.upkeep import CUT_OFF, Retention, clean_up, close_clips, enforce
from assistant.timeline.waiting import abandoned_files, read_waiting
from assistant.timeline.writer import Writer
from assistant.timeline.writing import REFUSED, transaction, write
from streaming.clock import Clock, SystemClock
from streaming.redact import redact_text

MOST_WAITING = 10_000
"""Most events that wait in memory while the database cannot be written; more are kept in the file only."""
BUSY_S = 0.25
"""Seconds that writing an event waits for a locked database before the event is queued."""
FIRST_RETRY_S = 0.2
MOST_RETRY_S = 5.0
UPKEEP_EVERY_S = 300.0
CHECKPOINT_EVERY = 256
"""Number of events after which the timeline's thread checkpoints the write-ahead log."""
JUMP_S = 2.0
"""Jump of the time of day against our clock, seconds, from which on an event reports it."""
OWN_NAME = "timeline"
"""Camera and source of the timeline's own status events."""

logger = logging.getLogger(__name__)


class Post(Protocol):
    """Addresses what is sent about events, and learns when it is in the outbox."""

    def parcels(self, record: Record) -> tuple[Parcel, ...]:
        """What is to be sent about a record; called before it is written. Must return at once."""

    def posted(self) -> None:
        """Called after parcels were handed to the database. Must return at once."""


class Timeline:
    """Stores events in a folder. Other processes may read and write it at the same time."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        retention: Retention | None = None,
        on_status: Callable[[StatusEvent], None] | None = None,
        most_waiting: int = MOST_WAITING,
        busy_s: float = BUSY_S,
    ) -> None:
        """Open or create the timeline, and store events that an earlier process could not write.

        on_status: called with status events about the timeline itself, on any thread; must return at once. Raises
        `StoreError` if the folder cannot be used.
        """
        self.folder = TimelineFolder(folder)
        self._clock: Clock = clock or SystemClock()
        self._retention = retention or Retention()
        self._on_status = on_status
        self._post: Post | None = None
        self.folder.make()
        connection = open_for_writing(self.folder.database)
        self._writer = Writer(connection, self.folder, self._clock, most_waiting, self._say)
        self._num_frames_lost = self._num_frames_lost_told = 0
        self._num_moved = 0
        self._finished: deque[KeptClip] = deque()
        self._closing = False
        self._sweeping = threading.Lock()
        self._upkeep_due_s = self._clock.now_s()
        self._offset_s = self._clock.wall_s() - self._clock.now_s()
        self._reader: TimelineReader | None = None
        self._marks: AlertMarks | None = None
        self._run = uuid.uuid4().hex
        self._lock = self._start(busy_s)
        self._thread = threading.Thread(target=self._look_after, name="timeline", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Number of events that wait to be written."""
        return self._writer.num_waiting

    @property
    def num_late(self) -> int:
        """Number of events that were written late, after waiting, so far."""
        return self._writer.num_late

    @property
    def num_lost(self) -> int:
        """Number of events that were lost so far."""
        return self._writer.num_lost

    @property
    def num_frames_lost(self) -> int:
        """Number of thumbnails that could not be written so far; their events were stored."""
        return self._num_frames_lost

    @property
    def trouble(self) -> str:
        """Why the database cannot be written now; empty if it can."""
        return self._writer.trouble

    def deliver_through(self, post: Post | None) -> None:
        """From now on, write what `post` addresses to the outbox, in its event's transaction; None ends that."""
        self._post = post

    def append(self, event: StreamEvent) -> None:
        """Store an event without evidence. Raises `StoreError` only after `close`."""
        self.record(event, camera=event.source)

    def record(
        self,
        event: StreamEvent,
        *,
        camera: str,
        run: str | None = None,
        wall_s: float | None = None,
        evidence: Sequence[EvidenceFrame] = (),
        kept: Sequence[str] = (),
        clip: ClipMark | None = None,
    ) -> str:
        """Store an event with its evidence; return its `uid`. Raises `StoreError` only after `close`.

        run: identifies the run of the stream. wall_s: time of day of the event's picture; None for now. evidence:
        frames whose thumbnails are stored. kept: paths of thumbnails of the event that are stored already.
        """
        self._note_clock()
        event = redacted(event)
        camera = redact_text(camera).encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
        run = run or self._run
        recorded_s = self._clock.wall_s()
        record = Record(
            event=event,
            camera=camera,
            run=run,
            wall_s=recorded_s if wall_s is None else wall_s,
            recorded_s=recorded_s,
            frames=(*self._keep_frames(camera, run, evidence), *(self.reader.frames_at(kept) if kept else ())),
            clip=clip,
        )
        self._take(self._addressed(record))
        return record.uid

    def clip_finished(self, clip: KeptClip) -> None:
        """Queue a finished clip to be entered in the database; its file has its final name already."""
        with self._writer.changed:
            self._finished.append(clip)
            self._writer.changed.notify_all()
        if clip.state == "lost":
            self._say(f"a clip is lost: {clip.reason}", clip=clip.path)

    def clip_refused(self, camera: str, reason: str) -> None:
        """Report that a clip could not be started."""
        self._say(f"{camera}: a clip could not be started: {reason}", camera=camera)

    @property
    def reader(self) -> TimelineReader:
        """Reader of the stored events, on its own connection."""
        with self._writer.changed:
            if self._reader is None:
                self._reader = TimelineReader(self.folder)
            return self._reader

    @property
    def marks(self) -> AlertMarks:
        """What people say of its alerts and rules, on its own connection."""
        with self._writer.changed:
            if self._marks is None:
                self._marks = AlertMarks(self.folder)
            return self._marks

    def events(self) -> Iterator[StreamEvent]:
        """Every event so far, oldest first."""
        return self.reader.events()

    def search(self, query: Query) -> list[FoundEvent]:
        """Events that match a query; see `TimelineReader.search`."""
        return self.reader.search(query)

    def set_retention(self, retention: Retention) -> None:
        """Change the limits of age and size."""
        with self._writer.changed:
            if retention != self._retention:
                self._retention, self._upkeep_due_s = retention, self._clock.now_s()
                self._writer.changed.notify_all()

    def sweep(self) -> None:
        """Remove what exceeds the limits now, after a running sweep; the thread also does so every few minutes."""
        with self._sweeping:
            try:
                enforce(self._writer.connection, self._writer.db, self.folder, self._retention, self._clock.wall_s())
            except sqlite3.Error as error:  # the next sweep continues where this one stopped
                logger.warning("old events could not be removed: %s", error)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write waiting events and close everything; events that cannot be written stay in a file for the next start.

        Raises `StoreError` if events are lost.
        """
        with self._writer.changed:
            if self._closing:
                return
            self._closing = True
            self._writer.changed.notify_all()
        self._thread.join(timeout_s)
        for kept in (self._reader, self._marks):
            if kept is not None:
                kept.close()
        num_lost = self._writer.close()
        self._lock.close()
        if num_lost:
            why = self._writer.trouble
            raise StoreError(f"{self.folder.root}: {num_lost} events could not be written: {why}; they are lost")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, busy_s: float) -> FileLock:
        """Clean up, store events of earlier processes, and return the shared lock that prevents other clean-ups."""
        connection, lock = self._writer.connection, None
        try:
            lock = FileLock(self.folder.root / "lock")
            num_cut_off = clean_up(connection, self.folder) if lock.try_exclusive() else 0
            lock.share()
            if num_cut_off:
                self._say(f"clips lost: {num_cut_off}; {CUT_OFF}", lost_clips=num_cut_off)
            for path in abandoned_files(self.folder.root):
                self._store_abandoned(path)
            connection.execute(f"PRAGMA busy_timeout = {round(busy_s * 1000)}")
            return lock
        except (sqlite3.Error, OSError) as error:
            connection.close()
            if lock is not None:
                lock.close()
            if isinstance(error, sqlite3.Error):
                raise store_error(self.folder.database, error) from error
            raise StoreError(
                f"{self.folder.root}: {error.strerror}; a timeline needs a folder it can write to; free disk space"
            ) from error

    def _store_abandoned(self, path: Path) -> None:
        """Store the waiting events of a process that has ended, and delete its file."""
        records = list(read_waiting(path))
        for record in records:
            try:
                write(self._writer.connection, [record])
            except REFUSED as error:
                self._writer.refused(record, error)
        path.unlink(missing_ok=True)
        if records:
            count = len(records)
            self._say(f"{count} events that an earlier process could not write were stored", taken=count)

    def _keep_frames(self, camera: str, run: str, evidence: Sequence[EvidenceFrame]) -> tuple[KeptFrame, ...]:
        """Write thumbnails, before the database row that names them; those that fail are counted and left out."""
        kept: list[KeptFrame] = []
        for frame in evidence:
            try:
                kept.append(self.folder.keep_thumbnail(camera, run, frame))
            except OSError as error:
                self._num_frames_lost += 1
                if self._num_frames_lost == self._num_frames_lost_told + 1:
                    self._say(f"thumbnails cannot be written: {error.strerror}; their events are stored without them")
        if kept and self._num_frames_lost > self._num_frames_lost_told:
            num_lost = self._num_frames_lost - self._num_frames_lost_told
            self._num_frames_lost_told = self._num_frames_lost
            self._say(f"thumbnails are written again; {num_lost} were lost", lost_thumbnails=num_lost)
        return tuple(kept)

    def _take(self, record: Record) -> None:
        if self._closing:
            raise StoreError(f"{self.folder.root}: closed; events go to an open timeline; open it again")
        self._writer.put(record)
        if record.parcels and self._post is not None:
            self._post.posted()

    def _addressed(self, record: Record) -> Record:
        """A record with what is to be sent about it. An address that fails does not lose the event."""
        if self._post is None:
            return record
        try:
            return replace(record, parcels=self._post.parcels(record))
        except Exception as error:
            logger.exception("an alert could not be addressed")
            self._say(f"an alert is not sent: {type(error).__name__}: {error}")
            return record

    def _look_after(self) -> None:
        """Loop of the timeline's thread: retries waiting events, enters finished clips, and applies the limits."""
        retry_s = FIRST_RETRY_S
        writer = self._writer
        while True:
            with writer.changed:
                if writer.trouble:
                    self._clock.wait_for(writer.changed, lambda: self._closing, retry_s)
                else:
                    self._clock.wait_for(writer.changed, self._has_work, None)
                closing = self._closing
            if writer.trouble:
                retry_s = FIRST_RETRY_S if writer.retry() else min(MOST_RETRY_S, 2 * retry_s)
            if not writer.trouble:
                self._note_clips()
            if closing:
                return
            if not writer.trouble:
                self._keep_up()

    def _has_work(self) -> bool:
        is_wanted = self._closing or bool(self._writer.trouble) or bool(self._finished)
        is_due = self._is_log_long() or self._clock.now_s() >= self._upkeep_due_s
        return is_wanted or is_due

    def _is_log_long(self) -> bool:
        return self._writer.num_written - self._num_moved >= CHECKPOINT_EVERY

    def _keep_up(self) -> None:
        if self._is_log_long():
            self._num_moved = self._writer.num_written
            checkpoint(self.folder.database)
        if self._clock.now_s() >= self._upkeep_due_s:
            self._upkeep_due_s = self._clock.now_s() + UPKEEP_EVERY_S
            self.sweep()

    def _note_clips(self) -> None:
        with self._writer.changed:
            finished = list(self._finished)
        if not finished:
            return
        try:
            with self._writer.db, transaction(self._writer.connection):
                close_clips(self._writer.connection, finished)
        except sqlite3.Error as error:
            logger.warning("finished clips wait to be entered in the database: %s", error)
            self._clock.wait(threading.Event(), FIRST_RETRY_S)
            return
        with self._writer.changed:
            for _ in finished:
                self._finished.popleft()

    def _note_clock(self) -> None:
        """Report a jump of the time of day against our clock."""
        offset_s = self._clock.wall_s() - self._clock.now_s()
        with self._writer.changed:
            moved_s, self._offset_s = offset_s - self._offset_s, offset_s
        if abs(moved_s) >= JUMP_S:
            way = "forward" if moved_s > 0 else "back"
            text = f"the clock of this machine moved {way} by {abs(moved_s):.1f} s; events keep their order by number"
            self._say(text, kind=StatusKind.CLOCK, moved_s=round(moved_s, 3))

    def _say(self, text: str, *, kind: StatusKind = StatusKind.STORE, **details: Detail) -> None:
        """Report something about the timeline itself: in the log, to `on_status`, and as a stored event."""
        logger.warning("%s", text)
        event = StatusEvent(source=OWN_NAME, time_s=0.0, text=text, reason=text, kind=kind, details=details)
        wall_s = self._clock.wall_s()
        with suppress(StoreError):
            self._take(Record(event=event, camera=OWN_NAME, run=self._run, wall_s=wall_s, recorded_s=wall_s))
        if self._on_status is not None:
            self._on_status(event)
