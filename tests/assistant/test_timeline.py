"""The timeline keeps every event that was shown, whatever happens to its process, its disk or its database."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.errors import StoreError
from assistant.events import StatusEvent, StatusKind, StreamEvent
from assistant.timeline.folder import TimelineFolder, safe_name
from assistant.timeline.records import Record
from assistant.timeline.schema import MIGRATIONS, migrate, open_for_writing
from assistant.timeline.search import Query, TimelineReader
from assistant.timeline.sink import ChannelSink
from assistant.timeline.store import Timeline
from assistant.timeline.waiting import read_waiting
from streaming.clock import FakeClock, SystemClock
from tests.assistant.test_events import events
from tests.assistant.timelines import NOON_S, Child, answer, evidence, gap, keeper_with, noon, remark, rows

WRITER = """
import sys
from pathlib import Path
from assistant.timeline.store import Timeline
from tests.assistant.timelines import evidence, remark
timeline = Timeline(Path(sys.argv[1]))
number = 0
while True:
    timeline.record(remark(number), camera="door", evidence=[evidence(number)])
    number += 1
    print(number, flush=True)
"""


class Impatient(SystemClock):
    """Waits a tenth of what is asked, so that retries come at once."""

    def wait_for(self, condition: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        return super().wait_for(condition, predicate, None if timeout_s is None else timeout_s / 10)


def said(timeline: Timeline) -> list[str]:
    """The texts of the events, oldest first."""
    return [event.text for event in timeline.events()]


def until(timeline: Timeline, num_waiting: int = 0) -> None:
    """Wait until the trouble is over."""
    for _ in range(1000):
        if not timeline.trouble and timeline.num_waiting == num_waiting:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{timeline.num_waiting} still wait: {timeline.trouble}")


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.lists(events, max_size=6))
def test_what_was_appended_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, given_events: list[StreamEvent]
) -> None:
    with Timeline(tmp_path_factory.mktemp("timeline"), clock=noon()) as timeline:
        for event in given_events:
            timeline.append(event)
        assert list(timeline.events()) == given_events


def test_an_event_keeps_its_evidence_and_its_three_times(tmp_path: Path) -> None:
    clock = FakeClock(now_s=100.0, wall_s=NOON_S)
    keeper = keeper_with(9, clock)
    with Timeline(tmp_path, clock=clock) as timeline:
        clock.advance(30.0)
        ChannelSink(timeline, "door", keeper=keeper).append(remark(7))
        (found,) = timeline.search(Query())
        assert (found.event, found.camera) == (remark(7), "door")
        assert (found.event.time_s, found.wall_s, found.recorded_s) == (3.5, NOON_S + 3.5, NOON_S + 30.0)
        assert [frame.frame_index for frame in found.frames] == [3, 5, 7]
        assert found.frames[-1].cells == "##\n##" and found.frames[-1].wall_s == NOON_S + 3.5
        assert (tmp_path / found.frames[-1].path).read_bytes() == keeper.around(3.5, 0, 0)[0].picture.data


def test_events_of_one_frame_share_its_thumbnail(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock) as timeline:
        sink = ChannelSink(timeline, "door", keeper=keeper_with(2, clock))
        sink.append(remark(1))
        sink.append(remark(1, "The same once more."))
    assert rows(tmp_path, "SELECT count(*) FROM frames") == [(1,)]
    assert len(list(tmp_path.rglob("*.jpg"))) == 1


def test_status_events_of_the_memory_show_no_frames_and_gaps_do(tmp_path: Path) -> None:
    clock = noon()
    evicted = StatusEvent(source="cam", time_s=0.5, text="out", reason="out", kind=StatusKind.EVICTED)
    with Timeline(tmp_path, clock=clock) as timeline:
        sink = ChannelSink(timeline, "door", keeper=keeper_with(2, clock))
        sink.append(evicted)
        sink.append(gap(0.5, 60.0))
        assert [len(found.frames) for found in timeline.reader.every(Query())] == [0, 1]


def test_every_event_that_was_shown_is_there_after_sigkill(tmp_path: Path) -> None:
    for _ in range(3):
        shown = [int(line) for line in Child(WRITER, tmp_path).kill()]
        with TimelineReader(TimelineFolder(tmp_path)) as reader:
            found = [found for found in reader.every(Query()) if found.run == max(reader.every(Query()), key=id_of).run]
            assert len(found) >= (shown[-1] if shown else 1)
            assert [event.event for event in found] == [remark(number) for number in range(len(found))]
            assert all(reader.folder.read(frame.path) for event in found for frame in event.frames)
    check = sqlite3.connect(tmp_path / "timeline.sqlite3").execute("PRAGMA integrity_check").fetchone()
    assert check == ("ok",)


def id_of(found: object) -> int:
    return getattr(found, "id")  # noqa: B009


def test_another_process_reads_while_it_is_written(tmp_path: Path) -> None:
    child = Child(WRITER, tmp_path)
    try:
        with TimelineReader(TimelineFolder(tmp_path)) as reader:
            before = len(reader.search(Query(limit=100_000)))
            while len(reader.search(Query(limit=100_000))) < before + 5:
                pass
    finally:
        child.kill()


def test_thumbnails_that_no_row_knows_are_removed_at_the_start(tmp_path: Path) -> None:
    with Timeline(tmp_path, clock=noon()) as timeline:
        timeline.record(remark(0), camera="door", evidence=[evidence(0)])
    (kept,) = tmp_path.rglob("*.jpg")
    for stray in (kept.with_name("stray.jpg"), kept.with_name("half.jpg.123.part"), tmp_path / "clips" / "x" / "y.mp4"):
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"stray")
    with Timeline(tmp_path, clock=noon()):
        assert [path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".part", ".mp4")] == [kept]


def test_files_of_a_process_that_still_writes_are_left_alone(tmp_path: Path) -> None:
    with Timeline(tmp_path, clock=noon()) as first:
        first.record(remark(0), camera="door", evidence=[evidence(0)])
        (kept,) = tmp_path.rglob("*.jpg")
        under_way = kept.with_name("under-way.jpg.99.part")
        under_way.write_bytes(b"half")
        with Timeline(tmp_path, clock=noon()) as second:
            second.append(remark(1))
            assert under_way.exists()
        assert said(first) == [remark(0).text, remark(1).text]


def test_a_locked_database_delays_events_and_loses_none(tmp_path: Path) -> None:
    told: list[StatusEvent] = []
    with Timeline(tmp_path, clock=Impatient(), busy_s=0.01, on_status=told.append) as timeline:
        timeline.append(remark(0))
        other = sqlite3.connect(tmp_path / "timeline.sqlite3", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        for number in range(1, 6):
            timeline.append(remark(number))
        assert timeline.num_waiting == 6 and "another process" in timeline.trouble
        other.execute("ROLLBACK")
        other.close()
        until(timeline)
        assert [text for text in said(timeline) if text.startswith("Remark")] == [remark(n).text for n in range(6)]
        assert (timeline.num_late, timeline.num_lost) == (6, 0)
    assert [event.kind for event in told] == [StatusKind.STORE, StatusKind.STORE]
    assert "wait" in told[0].text and told[1].details["late"] == 6
    assert list(tmp_path.glob("waiting-*")) == []


LOCKED_OUT = """
import sqlite3, sys, threading
from pathlib import Path
from assistant.timeline.store import Timeline
from tests.assistant.timelines import remark
folder = Path(sys.argv[1])
timeline = Timeline(folder, busy_s=0.01)
timeline.append(remark(0))
other = sqlite3.connect(folder / "timeline.sqlite3", isolation_level=None)
other.execute("BEGIN EXCLUSIVE")
for number in range(1, 9):
    timeline.append(remark(number))
print("shown", flush=True)
threading.Event().wait()
"""


def test_events_that_waited_when_the_process_was_killed_are_taken_in(tmp_path: Path) -> None:
    Child(LOCKED_OUT, tmp_path).kill()
    assert rows(tmp_path, "SELECT count(*) FROM events") == [(1,)]
    with Timeline(tmp_path, clock=noon()) as timeline:
        remarks = [text for text in said(timeline) if text.startswith("Remark")]
        assert remarks == [remark(number).text for number in range(9)]
    with Timeline(tmp_path, clock=noon()) as timeline:
        assert len([text for text in said(timeline) if text.startswith("Remark")]) == 9
    assert list(tmp_path.glob("waiting-*")) == []


def test_a_waiting_file_that_was_cut_anywhere_gives_its_whole_events(tmp_path: Path) -> None:
    records = [Record(remark(number), "door", "r", NOON_S, NOON_S) for number in range(3)]
    whole = b"".join(record.to_line() for record in records)
    first = len(records[0].to_line())
    path = tmp_path / "waiting-1-cut.jsonl"
    for cut in (0, 10, first - 1, first, first + 1, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:cut])
        assert list(read_waiting(path)) == records[: whole[:cut].count(b"\n")]
    path.write_bytes(b"{]\n" + b"[]\n" + whole)
    assert list(read_waiting(path)) == records


def test_a_full_database_delays_events_until_there_is_room(tmp_path: Path) -> None:
    with Timeline(tmp_path, clock=Impatient()) as timeline:
        timeline.append(remark(0))
        with timeline._writer.db:
            (pages,) = timeline._writer.connection.execute("PRAGMA page_count").fetchone()
            timeline._writer.connection.execute(f"PRAGMA max_page_count = {pages}")
        numbers = range(1, 400)
        for number in numbers:
            timeline.append(remark(number, f"Remark {number} " + "x" * 200))
        assert timeline.num_waiting > 300 and "full" in timeline.trouble
        with timeline._writer.db:
            timeline._writer.connection.execute("PRAGMA max_page_count = 1000000")
        until(timeline)
        remarks = [text for text in said(timeline) if text.startswith("Remark")]
        assert [int(text.split()[1].rstrip(":")) for text in remarks] == [0, *numbers]


NO_ROOM = """
import resource, signal, sys, threading
from pathlib import Path
from assistant.timeline.store import Timeline
from tests.assistant.test_timeline import Impatient, until
from tests.assistant.timelines import evidence, remark
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
timeline = Timeline(folder, clock=Impatient())
timeline.record(remark(0), camera="door", evidence=[evidence(0)])
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, most))
for number in range(1, 9):
    timeline.record(remark(number), camera="door", evidence=[evidence(number)])
print(timeline.num_waiting, timeline.num_frames_lost, bool(timeline.trouble), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
until(timeline)
timeline.close()
print(timeline.num_lost, flush=True)
"""


def test_a_disk_without_room_costs_thumbnails_and_no_events(tmp_path: Path) -> None:
    child = Child(NO_ROOM, tmp_path)
    num_waiting, num_frames_lost, in_trouble = child.first_line.split()
    assert (int(num_waiting) >= 8, int(num_frames_lost), in_trouble) == (True, 8, "True")
    assert child.wait() == ["0"]
    with Timeline(tmp_path, clock=noon()) as timeline:
        assert [text for text in said(timeline) if text.startswith("Remark")] == [remark(n).text for n in range(9)]


@pytest.mark.skipif(os.name == "nt", reason="folders have no such permissions there")
def test_past_its_bound_it_loses_the_oldest_and_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.timeline.waiting.PendingRecords._write", lambda self, record: False)
    timeline = Timeline(tmp_path, clock=Impatient(), busy_s=0.01, most_waiting=5)
    other = sqlite3.connect(tmp_path / "timeline.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for number in range(9):
        timeline.append(remark(number))
    assert (timeline.num_waiting, timeline.num_lost) == (5, 5)
    with pytest.raises(StoreError, match="5 events could not be written"):
        timeline.close()
    other.close()


def test_past_its_bound_events_stay_on_file(tmp_path: Path) -> None:
    with Timeline(tmp_path, clock=Impatient(), busy_s=0.01, most_waiting=5) as timeline:
        other = sqlite3.connect(tmp_path / "timeline.sqlite3", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        for number in range(20):
            timeline.append(remark(number))
        assert timeline.num_waiting == 21
        other.execute("ROLLBACK")
        other.close()
        until(timeline)
        assert {text for text in said(timeline) if text.startswith("Remark")} == {remark(n).text for n in range(20)}
        assert timeline.num_lost == 0


def test_it_takes_events_from_many_threads(tmp_path: Path) -> None:
    with Timeline(tmp_path, clock=noon()) as timeline:

        def add(start: int) -> None:
            for number in range(25):
                timeline.append(remark(start + number))

        threads = [threading.Thread(target=add, args=(start,)) for start in range(0, 100, 25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(said(timeline)) == sorted(remark(number).text for number in range(100))


def test_a_clock_that_moves_back_is_said_and_the_order_stays(tmp_path: Path) -> None:
    class Moved(FakeClock):
        by_s = 0.0

        def wall_s(self) -> float:
            return super().wall_s() + self.by_s

    clock = Moved(wall_s=NOON_S)
    with Timeline(tmp_path, clock=clock) as timeline:
        timeline.append(remark(0))
        clock.by_s = -3600.0
        timeline.append(remark(1))
        timeline.append(remark(2))
        kinds = [found.event.kind if isinstance(found.event, StatusEvent) else found.event.text for found in
                 timeline.reader.every(Query())]  # fmt: skip
        assert kinds == [remark(0).text, StatusKind.CLOCK, remark(1).text, remark(2).text]
        (moved,) = timeline.search(Query(types=("clock",)))
        assert isinstance(moved.event, StatusEvent) and moved.event.details == {"moved_s": -3600.0}
        assert [found.event.text for found in timeline.search(Query(text="Remark"))] == [
            remark(number).text for number in (2, 1, 0)
        ]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b\\c", "CON", "", "tür\u202e", "x" * 500, "\udcff", "-rf", "a\0b"]
)
def test_a_camera_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "timeline"
    with Timeline(folder, clock=noon()) as timeline:
        timeline.record(remark(0), camera=name, evidence=[evidence(0)])
        (found,) = timeline.search(Query())
        assert timeline.folder.inside(found.frames[0].path).is_file()
        assert [f.id for f in timeline.search(Query(cameras=(found.camera,)))] == [found.id]
    assert [path.name for path in tmp_path.iterdir()] == ["timeline"]
    assert len(safe_name(name)) < 60 and safe_name(name) != safe_name(name + "x")


def test_paths_of_a_changed_database_do_not_leave_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "precious.txt"
    outside.write_text("mine")
    folder = tmp_path / "timeline"
    with Timeline(folder, clock=noon()) as timeline:
        timeline.record(remark(0), camera="door", evidence=[evidence(0)])
        timeline.folder.remove("../precious.txt")
        assert timeline.folder.read("../precious.txt") is None and outside.read_text() == "mine"
        with pytest.raises(StoreError, match="outside"):
            timeline.folder.inside("/etc/passwd")


def test_credentials_in_what_happened_are_not_stored(tmp_path: Path) -> None:
    url = "rtsp://admin:p@ss:w/r#d%.@10.0.0.5:554/live"
    reason = f"Server returned 401 for '{url}'"
    event = StatusEvent(
        source=url, time_s=0.0, text=reason, reason=reason, kind=StatusKind.RECONNECTING, details={"url": url}
    )
    with Timeline(tmp_path, clock=noon()) as timeline:
        timeline.append(event)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"10.0.0.5" in stored and b"p@ss" not in stored and b"w/r#d" not in stored


def test_its_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "timeline"
    with Timeline(folder, clock=noon()):
        assert folder.stat().st_mode & 0o077 == 0


def test_what_was_written_by_a_newer_program_is_refused(tmp_path: Path) -> None:
    with Timeline(tmp_path, clock=noon()) as timeline:
        path = timeline.folder.database
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreError, match="update the program"):
        Timeline(tmp_path)


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "timeline.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        Timeline(tmp_path)
    path.write_bytes(b"no database at all, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Timeline(tmp_path)


def test_a_migration_happens_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Timeline(tmp_path, clock=noon()) as timeline:
        timeline.append(remark(0))
        path = timeline.folder.database
    more = ("ALTER TABLE events ADD COLUMN stars INTEGER NOT NULL DEFAULT 0", "ALTER TABLE nothing ADD COLUMN x")
    monkeypatch.setattr("assistant.timeline.schema.MIGRATIONS", (*MIGRATIONS, more))
    with pytest.raises(StoreError, match="nothing"):
        open_for_writing(path)
    monkeypatch.setattr("assistant.timeline.schema.MIGRATIONS", (*MIGRATIONS, more[:1]))
    connection = open_for_writing(path)
    assert connection.execute("SELECT text, stars FROM events").fetchall() == [(remark(0).text, 0)]
    migrate(connection, path)
    connection.close()


def test_any_sqlite_tool_reads_it(tmp_path: Path) -> None:
    with Timeline(tmp_path, clock=noon()) as timeline:
        timeline.record(remark(0, "A red circle."), camera="door")
        timeline.record(answer("How many?", "Two."), camera="door")
        assert rows(tmp_path, "SELECT id, camera, type, question, text FROM timeline") == [
            (1, "door", "comment", None, "A red circle."),
            (2, "door", "answer", "How many?", "Two."),
        ]


def test_a_closed_timeline_takes_nothing(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path, clock=noon())
    timeline.close()
    timeline.close()
    with pytest.raises(StoreError, match="closed"):
        timeline.append(remark(0))
    assert not [thread for thread in threading.enumerate() if thread.name == "timeline"]
