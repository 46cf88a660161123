"""Faults of disks, databases and clocks: every event that was shown is stored, or its loss is reported and counted."""

from __future__ import annotations

import contextlib
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from assistant.events import StatusEvent, StatusKind, StreamEvent
from tests.faults.case import FAULTS, Measured
from tests.faults.lab import Lab, Watched, hold, wait_until

ROOT = Path(__file__).parent.parent.parent
_LOCKED_S = 4.0


def _flicker(watched: Watched, times: int) -> int:
    """Cause events by pausing and resuming the stream; return the least number of events."""
    for _ in range(times):
        watched.channel.pause()
        time.sleep(0.1)
        watched.channel.resume()
        time.sleep(0.1)
    return 2 * times


def _hold_all_stored(lab: Lab, watched: Watched, name: str) -> int:
    """Check that every event that was shown is in the timeline, once and in order."""
    with contextlib.suppress(Exception):
        wait_until(lambda: len(lab.stored(name)) >= watched.mark, 2.0, "all is stored")
    shown = [event for _, event in list(watched.events)]
    stored = lab.stored(name)[: len(shown)]
    hold(_keys(stored) == _keys(shown), f"{len(shown)} events were shown; the {len(stored)} stored are not the same")
    return len(shown)


def _told(lab: Lab, kind: StatusKind) -> list[StatusEvent]:
    """The timeline's status events about itself."""
    return [event for event in lab.timeline.events() if isinstance(event, StatusEvent) and event.kind is kind]


def _keys(events: list[StreamEvent]) -> list[tuple[object, ...]]:
    return [(event.type, event.time_s, event.text) for event in events]


def _try_full_disk(lab: Lab, fill: contextlib.AbstractContextManager[None]) -> Measured:
    server = lab.camera()
    door = lab.watch("door", server.url())
    door.wait_seen(4, 20.0)
    began_s, num_before = time.monotonic(), door.now.counts.num_sampled
    with fill:
        num_said = _flicker(door, 8)
        wait_until(lambda: bool(lab.timeline.trouble), 5.0, "the timeline knows that it cannot write")
        waiting = lab.timeline.num_waiting
        hold(waiting >= num_said - 2, f"{waiting} of {num_said} events wait")
        door.wait_seen(3, 5.0)
        fps = (door.now.counts.num_sampled - num_before) / (time.monotonic() - began_s)
    took_s = wait_until(lambda: not lab.timeline.num_waiting and not lab.timeline.trouble, 15.0, "all is written")
    num_shown = _hold_all_stored(lab, door, "door")
    hold(lab.timeline.num_lost == 0, f"{lab.timeline.num_lost} events were lost")
    told = _told(lab, StatusKind.STORE)
    hold(len(told) >= 2, "the timeline does not say what happened")
    return {"events": num_shown, "waited": waiting, "lost": 0, "fps_meanwhile": round(fps, 2),
            "written_after_s": round(took_s, 2)}  # fmt: skip


_FULL = """watching goes on; it is said; every event that was shown is in the timeline once there is room, in its order,
none twice, none lost"""


@contextlib.contextmanager
def _no_file_may_grow(database: Path) -> Iterator[None]:
    """Within this context, no file may grow, which looks like a full disk to this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@FAULTS.add(_FULL)
def file_sizes_limited(lab: Lab) -> Measured:
    """No file may grow for a while (RLIMIT_FSIZE); needs no privileges."""
    return _try_full_disk(lab, _no_file_may_grow(lab.folder))


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[None]:
    filler = folder / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
            file.flush()
    try:
        yield
    finally:
        filler.unlink()


@FAULTS.add(_FULL + "; on a real file system of 4 MiB where mounting is allowed, else by a limit on file sizes")
def disk_full(lab: Lab) -> Measured:
    """The disk is full for a while."""
    folder = lab.folder / "timeline"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        is_mounted = False
    if not is_mounted:
        return {"mounted": False, **_try_full_disk(lab, _no_file_may_grow(folder))}

    @contextlib.contextmanager
    def mounted() -> Iterator[None]:
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)

    lab.enter(mounted())
    return {"mounted": True, **_try_full_disk(lab, _filled(folder))}


@FAULTS.add(
    """watching goes on at its rate; no event takes the engine longer than half a second; it is said; all
    events are there afterwards, in their order, none lost""",
    quick=True,
)
def database_locked(lab: Lab) -> Measured:
    """Another process locks the database for four seconds."""
    server = lab.camera()
    door = lab.watch("door", server.url())
    door.wait_seen(4, 20.0)
    code = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('held', flush=True)\n"
        f"time.sleep({_LOCKED_S})\n"
    )
    database = lab.timeline.folder.database
    with subprocess.Popen([sys.executable, "-c", code, str(database)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        began_s, num_before = time.monotonic(), door.now.counts.num_sampled
        _flicker(door, 8)
        wait_until(lambda: bool(lab.timeline.trouble), 3.0, "the timeline knows that it cannot write")
        waiting = lab.timeline.num_waiting
        started_s = time.monotonic()
        lab.timeline.append(StatusEvent(source="other", time_s=0.0, text="one more", kind=StatusKind.PAUSED))
        append_ms = 1000 * (time.monotonic() - started_s)
        holder.wait()
        fps = door.keeps_rate(num_before, time.monotonic() - began_s)
    hold(append_ms < 500, f"an event took {append_ms:.0f} ms")
    took_s = wait_until(lambda: not lab.timeline.num_waiting and not lab.timeline.trouble, 10.0, "all is written")
    num_shown = _hold_all_stored(lab, door, "door")
    hold(lab.timeline.num_lost == 0, f"{lab.timeline.num_lost} events were lost")
    return {"events": num_shown, "waited": waiting, "fps_meanwhile": round(fps, 2), "append_ms": round(append_ms, 1),
            "written_after_s": round(took_s, 2)}  # fmt: skip


@FAULTS.add(
    """it is said; media time goes on evenly; events keep their order by number, and each keeps the time of day
    that it was recorded at; watching goes on""",
    quick=True,
)
def clock_moved_back(lab: Lab) -> Measured:
    """The time of day is set back by an hour."""
    server = lab.camera()
    door = lab.watch("door", server.url())
    door.wait_seen(4, 20.0)
    media_s, began_s = door.now.media_s, time.monotonic()
    lab.clock.wall_shift_s -= 3600.0
    _flicker(door, 2)
    door.wait_seen(4, 10.0)
    moved_s = door.now.media_s - media_s
    hold(abs(moved_s - (time.monotonic() - began_s)) < 1.5, f"media time went on by {moved_s:.1f} s")
    told = _told(lab, StatusKind.CLOCK)
    hold(len(told) == 1, f"the clock's move was said {len(told)} times")
    _hold_all_stored(lab, door, "door")
    with contextlib.closing(sqlite3.connect(lab.timeline.folder.database)) as connection:
        recorded_s = [row[0] for row in connection.execute("SELECT recorded_s FROM events ORDER BY id")]
    back_s = max(before - after for before, after in zip(recorded_s, recorded_s[1:], strict=False))
    hold(3500 < back_s <= 3600, f"the largest step back in the stored times of day is {back_s:.0f} s")
    return {"said": told[0].text, "media_went_on_s": round(moved_s, 2), "stored_step_back_s": round(back_s, 1)}


_WRITER = """
import itertools, sys, threading
from pathlib import Path
import numpy as np
from assistant.evidence import EvidenceFrame
from assistant.events import Comment
from assistant.timeline.store import Timeline
from streaming.thumbnails import encode_jpeg

timeline = Timeline(Path(sys.argv[1]))
lock = threading.Lock()
def write(name):
    for number in itertools.count():
        image = np.full((96, 128, 3), number % 256, np.uint8)
        flags = np.ones(4, bool)
        frame = EvidenceFrame(number, number / 2, 1.7e9 + number, encode_jpeg(image), 2, 2, flags, flags)
        text = f"{name} {number} " + "x" * (number % 900)
        event = Comment(source=name, time_s=number / 2, text=text, frame_index=number)
        timeline.record(event, camera=name, evidence=[frame])
        with lock:
            print(f"{name} {number}", flush=True)
for name in ("door", "yard"):
    threading.Thread(target=write, args=(name,)).start()
"""


def _writer(folder: Path) -> subprocess.Popen[str]:
    """A process that writes events without end and prints each after it is stored."""
    command = [sys.executable, "-c", _WRITER, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)


@FAULTS.add(
    """every event that was shown is in the timeline; the database is sound; every thumbnail that it names is
    there and whole; the next start takes in what waited""",
    rtsp=False,
    quick=True,
)
def killed_while_writing(lab: Lab) -> Measured:
    """SIGKILL while writing, eight times, each at another time."""
    from streaming.thumbnails import decode_jpeg

    folder = lab.folder / "killed"
    num_shown = 0
    for attempt in range(8):
        with _writer(folder) as writer:
            assert writer.stdout is not None
            shown = [writer.stdout.readline().strip() for _ in range(20 + 17 * attempt)]
            time.sleep(0.003 * attempt)
            writer.send_signal(signal.SIGKILL)
            shown += [line.strip() for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        with contextlib.closing(sqlite3.connect(folder / "timeline.sqlite3")) as connection:
            sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
            texts = {text.rsplit(" ", 1)[0] for (text,) in connection.execute("SELECT text FROM events")}
            pictures = [path for (path,) in connection.execute("SELECT path FROM frames")]
        hold(sound == "ok", f"the database says: {sound}")
        missing = [line for line in shown if line and line not in texts]
        hold(not missing, f"{len(missing)} events were shown and are not there, as {missing[:3]}")
        for path in pictures:
            decode_jpeg((folder / path).read_bytes())
        num_shown += len(shown)
    return {"kills": 8, "events_shown": num_shown, "missing": 0, "thumbnails": len(pictures)}


@FAULTS.add(
    """every event that was printed is in the timeline, and so are those that waited for a locked database when
    the process was killed""",
    rtsp=False,
)
def killed_while_waiting(lab: Lab) -> Measured:
    """SIGKILL while another process locks the database: shown events wait in a file until the next start."""
    from assistant.timeline.store import Timeline

    folder = lab.folder / "waiting"
    with _writer(folder) as writer:
        assert writer.stdout is not None
        shown = [writer.stdout.readline().strip() for _ in range(20)]
        with contextlib.closing(
            sqlite3.connect(folder / "timeline.sqlite3", isolation_level=None, timeout=20.0)
        ) as holder:
            holder.execute("BEGIN IMMEDIATE")
            shown += [writer.stdout.readline().strip() for _ in range(400)]
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            holder.execute("ROLLBACK")
    again = Timeline(folder)
    try:
        texts = {event.text.rsplit(" ", 1)[0] for event in again.events()}
    finally:
        again.close()
    missing = [line for line in shown if line not in texts]
    hold(all(shown), "the writer ended by itself")
    hold(not missing, f"{len(missing)} events were shown and are not there, as {missing[:3]}")
    return {"events_shown": len(shown), "missing": 0}
