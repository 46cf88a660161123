"""A timeline keeps to its age and size, and removes nothing that it should keep."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from assistant.errors import ConfigError
from assistant.evidence import EvidenceFrame
from assistant.timeline.records import ClipMark, KeptClip
from assistant.timeline.search import Query
from assistant.timeline.store import Timeline
from assistant.timeline.upkeep import Retention, size_of
from streaming.clock import FakeClock
from streaming.thumbnails import Jpeg
from tests.assistant.timelines import evidence, noon, remark, rows

HOUR_S = 3600.0


def numbers(timeline: Timeline) -> list[int | None]:
    return [event.frame_index for event in timeline.events()]


def big(index: int, wall_s: float, size_bytes: int) -> EvidenceFrame:
    made = evidence(index, wall_s)
    return EvidenceFrame(
        index, made.time_s, wall_s, Jpeg(b"x" * size_bytes, 1, 1), 2, 2, made.kept, made.refreshed
    )  # fmt: skip


def fill(timeline: Timeline, clock: FakeClock, count: int, *, frame_bytes: int = 1000, clip_bytes: int = 0) -> None:
    """An event an hour, each with a frame and a clip of its own."""
    for number in range(count):
        clip = None
        if clip_bytes:
            path = timeline.folder.clip_path("door", clock.wall_s(), f"{number:032}")
            timeline.folder.inside(path).write_bytes(b"x" * clip_bytes)
            clip = ClipMark(f"{number:032}", path, clock.wall_s())
        frames = [big(number, clock.wall_s(), frame_bytes)] if frame_bytes else []
        timeline.record(remark(number), camera="door", evidence=frames, clip=clip)
        if clip is not None:
            timeline.clip_finished(KeptClip(clip.uid, clip.path, "done", "", 0.0, 1.0, 10, 0, clip_bytes))
        clock.advance(HOUR_S)
    while timeline._finished:
        pass


def files(folder: Path, ending: str) -> int:
    return len(list(folder.rglob(f"*{ending}")))


def test_what_is_older_goes_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock, retention=Retention(max_age_days=0.5)) as timeline:
        fill(timeline, clock, 20, clip_bytes=100)
        timeline.sweep()
        assert numbers(timeline) == list(range(8, 20))
        assert (files(tmp_path, ".jpg"), files(tmp_path, ".mp4")) == (12, 12)
        assert rows(tmp_path, "SELECT (SELECT count(*) FROM frames), (SELECT count(*) FROM clips)") == [(12, 12)]
        assert [found.event.frame_index for found in timeline.search(Query(text='"Remark 3"'))] == []
        assert rows(tmp_path, "SELECT sum(num_events), sum(num_frames), sum(num_clips) FROM removals") == [(8, 8, 8)]
        timeline.sweep()
        assert numbers(timeline) == list(range(8, 20))


def test_a_frame_that_a_newer_event_shows_stays(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock, retention=Retention(max_age_days=1)) as timeline:
        shared = evidence(0, clock.wall_s())
        timeline.record(remark(0), camera="door", run="r", evidence=[shared])
        clock.advance(20 * HOUR_S)
        timeline.record(remark(1), camera="door", run="r", evidence=[shared])
        clock.advance(20 * HOUR_S)
        timeline.sweep()
        (found,) = timeline.search(Query())
        assert timeline.folder.read(found.frames[0].path) == shared.picture.data


def test_over_its_size_the_oldest_clips_go_first(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock, retention=Retention(max_bytes=2 << 20)) as timeline:
        fill(timeline, clock, 30, clip_bytes=100_000)
        timeline.sweep()
        assert len(numbers(timeline)) == 30 and files(tmp_path, ".jpg") == 30
        clips = [found.clip is not None for found in timeline.reader.every(Query())]
        assert 10 < sum(clips) < 20 and clips == sorted(clips)
        assert size_of(timeline._writer.connection) <= 2 << 20
        assert files(tmp_path, ".mp4") == sum(clips)


def test_then_thumbnails_go_and_the_events_stay(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock, retention=Retention(max_bytes=1 << 20)) as timeline:
        fill(timeline, clock, 250, frame_bytes=5000)
        timeline.sweep()
        assert len(numbers(timeline)) == 250
        assert 0 < files(tmp_path, ".jpg") < 200 and size_of(timeline._writer.connection) <= 1 << 20


def test_events_go_last(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock, retention=Retention(max_bytes=1 << 20)) as timeline:
        for number in range(700):
            timeline.append(remark(number, f"Remark {number} " + "word " * 400))
        timeline.sweep()
        left = numbers(timeline)
        assert 0 < len(left) < 700 and left == list(range(700))[-len(left) :]
        assert timeline.folder.database.stat().st_size < 2 << 20


def test_it_is_swept_by_itself_as_time_passes(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock, retention=Retention(max_age_days=0.25)) as timeline:
        fill(timeline, clock, 20)
        while len(numbers(timeline)) > 8:
            pass
        assert numbers(timeline)[-1] == 19


def test_other_limits_act_at_once(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock) as timeline:
        fill(timeline, clock, 20)
        assert len(numbers(timeline)) == 20
        timeline.set_retention(Retention(max_age_days=0.25))
        while len(numbers(timeline)) > 8:
            pass
        assert numbers(timeline)[-1] == 19


@pytest.mark.parametrize("values", [{"max_age_days": 0}, {"max_age_days": -1}, {"max_bytes": 1000}])
def test_bounds_that_keep_nothing_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        Retention(**values)


def test_a_sweep_waits_for_one_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on, running, most = threading.Event(), threading.Event(), [0], [0]

    def slow(*_: object) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        began.set()
        go_on.wait(5.0)
        running[0] -= 1

    with Timeline(tmp_path, clock=noon(), retention=Retention(max_bytes=1 << 20)) as timeline:
        monkeypatch.setattr("assistant.timeline.store.enforce", slow)
        sweeps = [threading.Thread(target=timeline.sweep) for _ in range(2)]
        for sweep in sweeps:
            sweep.start()
        assert began.wait(5.0)
        time.sleep(0.1)
        go_on.set()
        for sweep in sweeps:
            sweep.join(5.0)
    assert most == [1]
