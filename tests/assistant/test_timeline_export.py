"""What leaves the timeline: lines that read back, subtitles, a page that is safe to open, and counts."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from assistant.errors import ConfigError, StoreError
from assistant.events import Comment, StreamEvent, event_from_dict
from assistant.timeline.export import export, export_clip
from assistant.timeline.prose import check_prose, prose_question
from assistant.timeline.recap import recap
from assistant.timeline.search import Query
from assistant.timeline.sink import ChannelSink
from assistant.timeline.store import Timeline
from streaming.clock import FakeClock
from tests.assistant.timelines import NOON_S, alert, answer, gap, keeper_with, noon, remark

HOSTILE = "<script>alert(1)</script> [x](http://evil) ![i](http://evil/a.png) `code` **bold** # head | cell"


@pytest.fixture
def clock() -> FakeClock:
    return noon()


@pytest.fixture
def timeline(tmp_path: Path, clock: FakeClock) -> Iterator[Timeline]:
    with Timeline(tmp_path / "timeline", clock=clock) as timeline:
        yield timeline


def exported(timeline: Timeline, form: str, out: Path | None = None) -> str:
    text = io.StringIO()
    with redirect_stdout(text):
        export(timeline.reader.every(Query()), form, timeline.folder, out)
    return text.getvalue() if out is None else out.read_text(encoding="utf-8")


def test_json_lines_read_back_as_the_same_events(timeline: Timeline, tmp_path: Path) -> None:
    events: list[StreamEvent] = [remark(0), answer("How many?", "Two."), alert("Now!"), gap(3.0, 60.0)]
    for event in events:
        timeline.append(event)
    lines = [json.loads(line) for line in exported(timeline, "jsonl", tmp_path / "out.jsonl").splitlines()]
    more = {"id", "uid", "camera", "run", "wall_s", "recorded_s", "frames", "clip"}
    assert [event_from_dict({k: v for k, v in line.items() if k not in more}) for line in lines] == events
    assert exported(timeline, "jsonl") == (tmp_path / "out.jsonl").read_text(encoding="utf-8")


def test_subtitles_of_one_run_keep_its_media_time(timeline: Timeline) -> None:
    sink = ChannelSink(timeline, "door")
    sink.append(remark(4, "First."))
    sink.append(gap(3.0, 60.0))
    sink.append(remark(6, "Second --> end."))
    assert exported(timeline, "srt") == (
        "1\n00:00:02,000 --> 00:00:03,000\nFirst.\n\n2\n00:00:03,000 --> 00:00:07,000\nSecond -> end.\n\n"
    )
    assert exported(timeline, "vtt").startswith("WEBVTT\n\n00:00:02.000 --> 00:00:03.000\nFirst.\n\n")


def test_subtitles_of_several_cameras_go_by_the_clock_and_name_them(timeline: Timeline, clock: FakeClock) -> None:
    ChannelSink(timeline, "door").append(remark(100, "First."))
    clock.advance(90.0)
    ChannelSink(timeline, "hall").append(remark(0, "Second."))
    text = exported(timeline, "srt")
    assert "00:00:00,000 --> 00:00:04,000\ndoor: First." in text and "00:01:30,000" in text and "hall: Second." in text


def test_a_page_shows_thumbnails_and_nothing_in_it_is_markup(
    timeline: Timeline, tmp_path: Path, clock: FakeClock
) -> None:
    keeper = keeper_with(2, clock)
    ChannelSink(timeline, "do<b>or", keeper=keeper).append(Comment(source="c", time_s=0.5, text=HOSTILE, frame_index=1))
    timeline.append(answer("What_is\n\n# this?", "A *star*."))
    out = tmp_path / "my page.md"
    text = exported(timeline, "md", out)
    (image,) = re.findall(r"!\[[^\]]*\]\(<([^>]+)>\)", text)
    assert (tmp_path / image).read_bytes() == keeper.around(0.5, 0, 0)[0].picture.data
    assert "<script" not in text and "<b>" not in text and not re.search(r"(?<!\\)\]\(http", text)
    assert r"\*\*bold\*\*" in text and r"What\_is \# this?" in text
    assert [line for line in text.splitlines() if line.startswith("#")][0] == "# Timeline"
    assert all(line.startswith(("# T", "## 20", "### ")) for line in text.splitlines() if line.startswith("#"))


def test_an_export_replaces_its_file_as_a_whole_or_not_at_all(timeline: Timeline, tmp_path: Path) -> None:
    timeline.append(remark(0))
    out = tmp_path / "out.jsonl"
    out.write_text("before")
    with pytest.raises(ConfigError, match="--format 'xml'"):
        exported(timeline, "xml", out)
    with pytest.raises(StoreError, match="nowhere"):
        exported(timeline, "srt", tmp_path / "nowhere" / "out.srt")
    with pytest.raises(StoreError, match="own folder"):
        exported(timeline, "jsonl", timeline.folder.database)
    assert out.read_text() == "before" and [p.name for p in tmp_path.glob("*.part")] == []
    exported(timeline, "jsonl", out)
    assert json.loads(out.read_text())["text"] == remark(0).text


def test_a_clip_that_is_not_there_says_why(timeline: Timeline, tmp_path: Path) -> None:
    timeline.append(remark(0))
    for number, out, why in (
        (1, tmp_path / "c.mp4", "recording is off"),
        (7, tmp_path / "c.mp4", "no such event"),
        (1, None, "--out"),
        (1, timeline.folder.root / "c.mp4", "own folder"),
    ):
        with pytest.raises((StoreError, ConfigError), match=why):
            export_clip(timeline.reader, number, out, None)


def test_a_recap_counts_by_camera_and_kind(timeline: Timeline, clock: FakeClock) -> None:
    for number in range(3):
        timeline.record(remark(number, "A red circle enters."), camera="door")
        clock.advance(1200.0)
    timeline.record(remark(3, "Something stops."), camera="door")
    timeline.record(gap(1.0, 90.0), camera="hall")
    timeline.record(gap(2.0, 30.0), camera="hall")
    timeline.record(alert("Fire!"), camera="hall")
    made = recap(timeline.reader, Query(since_s=NOON_S), clock.wall_s())
    door, hall = made.cameras
    assert made.num_events == 7 and (door.camera, hall.camera) == ("door", "hall")
    (comments,) = door.kinds
    assert (comments.kind, comments.count, comments.first_s, comments.last_s) == ("comment", 4, NOON_S, NOON_S + 3600)
    assert comments.most_common == (("A red circle enters.", 3),)
    assert (door.busiest_count, door.busiest_hour_s) == (3, NOON_S)
    assert [(kind.kind, kind.count, kind.total_s) for kind in hall.kinds] == [("alert", 1, None), ("gap", 2, 120.0)]
    text = "\n".join(made.lines())
    assert '3 times "A red circle enters."' in text and "2 min together" in text
    later = recap(timeline.reader, Query(since_s=NOON_S + 3600, cameras=("door",)), clock.wall_s())
    assert [(camera.camera, camera.kinds[0].count) for camera in later.cameras] == [("door", 1)]
    assert json.dumps(made.as_dict())


def test_an_empty_recap_is_one_line(timeline: Timeline) -> None:
    made = recap(timeline.reader, Query(since_s=NOON_S), NOON_S + 60)
    assert len(made.lines()) == 1 and made.lines()[0].startswith("0 events from")


def test_prose_is_for_checkpoints_whose_card_declares_it(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    for text in (
        None,
        "# A card",
        "---\nabilities: recap\n---\n",
        "---\nabilities: [ask]\n---\n",
        "---\n[\n---\n",
        "---\n",
    ):
        if text is not None:
            card.write_text(text)
        with pytest.raises(ConfigError, match="does not declare"):
            check_prose("some/model", tmp_path)
    card.write_text("---\nlicense: apache-2.0\nabilities: [ask, recap]\n---\n# A card")
    check_prose("some/model", tmp_path)
    assert "Fire!" in prose_question(["1 event", "", 'alert 1: "Fire!"'])
