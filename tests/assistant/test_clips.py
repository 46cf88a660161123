"""Clips are kept round events alone, show what may be seen alone, and say what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import av
import numpy as np
import pytest

from assistant.cameras.cameras import _record
from assistant.errors import ConfigError
from assistant.events import Alert, StatusEvent, StatusKind
from assistant.rules.rule import Rule
from assistant.timeline.clips import ClipRecorder
from assistant.timeline.export import export_clip
from assistant.timeline.records import FoundEvent
from assistant.timeline.search import Query
from assistant.timeline.sink import ChannelSink
from assistant.timeline.store import Timeline
from streaming.clock import SystemClock
from streaming.masks import MaskRegion, Masks
from streaming.recording import ClipWriter
from streaming.sources.masked import MaskedSource
from streaming.types import Frame, SourceInfo
from tests.assistant.channel_stage import PUSHED
from tests.assistant.timelines import Child, gap, picture, remark

FPS = 20


class Noise:
    """A source of four seconds in which every pixel changes."""

    name, is_live = "noise", False

    def open(self) -> SourceInfo:
        return SourceInfo("noise", False, 64, 48, 10.0, 4.0, "raw")

    def frames(self) -> Iterator[Frame]:
        for index, image in enumerate(np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)):
            yield Frame(image, index, index / 10, 0.0, "noise")

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Camera:
    """A timeline with one camera whose clips are kept."""

    def __init__(self, folder: Path, keep_s: float | None = 1.0, alerts_s: float | None = None) -> None:
        self.timeline = Timeline(folder, clock=SystemClock())
        self.writer = ClipWriter()
        self.recorder = ClipRecorder(
            self.timeline, "door", self.writer, SystemClock(), keep_s=keep_s, alerts_s=alerts_s
        )
        self.sink = ChannelSink(self.timeline, "door", recorder=self.recorder)
        self.closed = False

    def play(self, start_s: float, end_s: float, events: dict[float, object] | None = None) -> None:
        """Pictures that say their second by their level; an event a moment after its picture."""
        for index in range(round(start_s * FPS), round(end_s * FPS)):
            time_s = index / FPS
            self.recorder.add_frame(Frame(picture(int(time_s) * 10), index, time_s, 0.0, "cam"))
            if events and time_s in events:
                self.sink.append(events[time_s])  # type: ignore[arg-type]

    def end(self) -> list[FoundEvent]:
        """Close all; gives the events."""
        self.closed = True
        self.sink.close()
        assert self.writer.close()
        while self.timeline._finished:
            pass
        found = self.timeline.search(Query(oldest_first=True))
        self.timeline.close()
        return found


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Callable[..., Camera]]:
    made: list[Camera] = []

    def make(keep_s: float | None = 1.0, alerts_s: float | None = None) -> Camera:
        made.append(Camera(tmp_path / "data", keep_s, alerts_s))
        return made[-1]

    yield make
    for each in made:
        if not each.closed:
            each.end()


def shown_seconds(path: Path) -> list[int]:
    """The seconds that a clip shows, read off its pictures."""
    with av.open(str(path)) as container:
        marks = [frame.to_ndarray(format="rgb24")[10, 50, 0] for frame in container.decode(video=0)]
    return sorted({round(float(mark) / 10) for mark in marks})


def test_nothing_is_recorded_where_nothing_happens(camera: Callable[..., Camera], tmp_path: Path) -> None:
    door = camera()
    door.play(0, 8, {4.0: StatusEvent(source="c", time_s=4.0, text="", kind=StatusKind.EVICTED)})
    (found,) = door.end()
    assert found.clip is None and list((tmp_path / "data").rglob("*.mp4")) == []


def test_a_clip_holds_the_seconds_before_and_after_its_event(camera: Callable[..., Camera], tmp_path: Path) -> None:
    door = camera()
    door.play(0, 9, {5.0: remark(10)})
    (found,) = door.end()
    clip = found.clip
    assert clip is not None and (clip.state, clip.start_s, clip.end_s) == ("done", 4.0, 6.0)
    assert clip.num_frames == 21 and shown_seconds(tmp_path / "data" / clip.path) == [4, 5, 6]


def test_an_event_told_late_still_has_its_picture_in_its_clip(camera: Callable[..., Camera], tmp_path: Path) -> None:
    door = camera()
    door.play(0, 9, {8.0: remark(10)})  # about second 5
    (found,) = door.end()
    assert found.clip is not None and (found.clip.start_s, found.clip.end_s) == (4.0, 6.0)


def test_events_close_together_share_a_clip_and_others_do_not(camera: Callable[..., Camera], tmp_path: Path) -> None:
    door = camera()
    door.play(0, 15, {3.0: remark(6), 4.0: gap(4.0, 0.2), 10.0: remark(20)})
    first, second, third = (found.clip for found in door.end())
    assert first is not None and third is not None and first == second and first.uid != third.uid
    assert (first.start_s, first.end_s, third.start_s, third.end_s) == (2.0, 5.0, 9.0, 11.0)


def test_no_clip_grows_without_end(camera: Callable[..., Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.timeline.clips.MOST_CLIP_S", 6.0)
    door = camera()
    door.play(0, 20, {float(second): remark(2 * second) for second in range(2, 19)})
    found = door.end()
    clips = {f.clip.uid: f.clip for f in found if f.clip is not None}
    assert len(found) == 17 and all(f.clip is not None for f in found) and len(clips) >= 3
    assert all((clip.end_s or 0) - (clip.start_s or 0) <= 6.0 for clip in clips.values())


def test_an_alert_has_a_clip_from_before_its_rule_held_where_other_events_have_none(
    camera: Callable[..., Camera], tmp_path: Path
) -> None:
    door = camera(None, alerts_s=2.0)
    raised = Alert(source="cam", time_s=7.0, text="It is dark.", rule="dark", started_s=5.0)
    door.play(0, 12, {3.0: remark(6), 7.0: raised})
    said, alert = door.end()
    assert said.clip is None and alert.clip is not None
    assert (alert.clip.start_s, alert.clip.end_s) == (3.0, 9.0)
    assert shown_seconds(tmp_path / "data" / alert.clip.path) == [3, 4, 5, 6, 7, 8, 9]


def test_pictures_before_an_alert_take_bounded_memory_and_none_while_they_are_not_wanted(
    camera: Callable[..., Camera], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.timeline.clips.MOST_RING_BYTES", 60_000)
    door = camera(None, alerts_s=30.0)
    rng = np.random.default_rng(0)
    for index in range(100):
        noise = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        door.recorder.add_frame(Frame(noise, index, index / 10, 0.0, "cam"))
        kept = [len(picture.jpeg) for picture in door.recorder._ring]
        assert sum(kept) == door.recorder._ring_bytes <= 60_000
    assert len(kept) >= 3
    door.recorder.rest()
    assert not door.recorder._ring and door.recorder._ring_bytes == 0


def test_where_only_alerts_have_clips_pictures_are_kept_while_the_camera_has_rules(
    camera: Callable[..., Camera],
) -> None:
    door = camera(None, alerts_s=2.0)
    channel = cast(Any, SimpleNamespace(config=PUSHED))
    for records_all, rules, num_kept in ((False, (), 0), (False, (Rule("dark", "it is dark"),), 1), (True, (), 1)):
        channel.config = replace(PUSHED, rules=rules)
        _record(channel, door.recorder, records_all, Frame(picture(), 0, 0.0, 0.0, "cam"))
        assert len(door.recorder._ring) == num_kept


def test_a_recording_that_jumps_back_ends_its_clip(camera: Callable[..., Camera]) -> None:
    door = camera()
    door.play(0, 5, {4.0: remark(8)})
    door.play(0, 4, {2.0: remark(4)})
    first, second = (found.clip for found in door.end())
    assert first is not None and second is not None and first.uid != second.uid
    assert (first.start_s, second.start_s, second.end_s) == (3.0, 1.0, 3.0)


def test_what_nobody_may_see_is_never_recorded(camera: Callable[..., Camera], tmp_path: Path) -> None:
    door = camera(keep_s=1.0)
    masks = Masks([MaskRegion.rectangle(0.5, 0.0, 0.5, 1.0)])
    with MaskedSource(Noise(), masks) as source:
        source.open()
        for item in source.frames():
            assert isinstance(item, Frame)
            door.recorder.add_frame(item)
            if item.pts_s == 2.0:
                door.sink.append(remark(4))
    (found,) = door.end()
    assert found.clip is not None
    with av.open(str(tmp_path / "data" / found.clip.path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    hidden = np.stack([image[:, image.shape[1] // 2 + 8 :] for image in pictures]).astype(int)
    seen = np.stack([image[:, : image.shape[1] // 2 - 8] for image in pictures]).astype(int)
    assert len(pictures) == 21 and abs(hidden - 128).max() <= 6 < abs(seen - 128).max()


def test_a_clip_can_be_taken_out_whole_or_in_part(camera: Callable[..., Camera], tmp_path: Path) -> None:
    door = camera(keep_s=3.0)
    door.play(0, 12, {5.0: remark(10)})
    folder = door.timeline.folder.root
    door.end()
    with Timeline(folder, clock=SystemClock()) as timeline:
        assert "event 1" in export_clip(timeline.reader, 1, tmp_path / "all.mp4", None)
        export_clip(timeline.reader, 1, tmp_path / "part.mp4", 1.0)
    assert shown_seconds(tmp_path / "all.mp4") == [2, 3, 4, 5, 6, 7, 8]
    assert shown_seconds(tmp_path / "part.mp4") == [4, 5, 6]


def test_a_clip_that_cannot_be_written_is_said_and_its_event_stays(
    camera: Callable[..., Camera], tmp_path: Path
) -> None:
    door = camera()
    (tmp_path / "data" / "clips").write_text("in the way")
    door.play(0, 6, {3.0: remark(6)})
    found = door.end()
    assert [f.event.text for f in found if not isinstance(f.event, StatusEvent)] == [remark(6).text]
    assert any("a clip could not be started" in f.event.text for f in found) and all(f.clip is None for f in found)


class Recorder:
    """Raises, or notes, what it is asked to record."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.marks: list[float] = []

    def mark(self, time_s: float, *, alert_since_s: float | None = None) -> None:
        if self.error is not None:
            raise self.error
        self.marks.append(time_s)

    def finish(self) -> None:
        self.marks.clear()


def test_a_clip_that_cannot_be_begun_costs_no_event_and_none_is_begun_after_the_end(tmp_path: Path) -> None:
    recorder: Any = Recorder(RuntimeError("the writer's thread has ended"))
    with Timeline(tmp_path) as timeline:
        sink = ChannelSink(timeline, "door", recorder=recorder)
        sink.append(remark(1, "A ball."))
        recorder.error = None
        sink.append(remark(2, "A box."))
        assert recorder.marks == [1.0]
        sink.close()
        sink.append(remark(4, "Told after the camera was stopped."))
        assert recorder.marks == [], "nobody would finish it"
        texts = [found.event.text for found in timeline.reader.search(Query(limit=50))]
    assert {"A ball.", "A box.", "Told after the camera was stopped."} <= set(texts)
    assert any("a clip could not be started: RuntimeError: the writer's thread" in text for text in texts)


@pytest.mark.parametrize("keep_s", [0.0, -1.0, 31.0, float("nan")])
def test_how_much_is_kept_lies_within_bounds(tmp_path: Path, keep_s: float) -> None:
    with Timeline(tmp_path, clock=SystemClock()) as timeline, pytest.raises(ConfigError, match="--keep-clips"):
        ClipRecorder(timeline, "door", ClipWriter(), SystemClock(), keep_s=keep_s)


RECORDING = """
import sys
from pathlib import Path
from tests.assistant.test_clips import Camera
from tests.assistant.timelines import remark
door = Camera(Path(sys.argv[1]), 5.0)
door.play(0, 8, {4.0: remark(8)})
print("recording", flush=True)
second = 8
while True:
    door.play(second, second + 1, {float(second): remark(2 * second)})
    second += 1
"""


def test_sigkill_while_a_clip_is_recorded_costs_the_clip_alone(tmp_path: Path) -> None:
    Child(RECORDING, tmp_path).kill()
    with Timeline(tmp_path, clock=SystemClock()) as timeline:
        found = timeline.search(Query(oldest_first=True))
        clips = {f.clip.uid: f.clip for f in found if f.clip is not None}
    assert found and found[0].event == remark(8) and list(tmp_path.rglob("*.part")) == []
    assert all(clip.state in ("done", "lost") for clip in clips.values())
    lost = [clip for clip in clips.values() if clip.state == "lost"]
    said = [f.event.details.get("lost_clips") for f in found if isinstance(f.event, StatusEvent)]
    assert said == ([len(lost)] if lost else [])
    assert len(lost) <= 2 and all("ended while it was recorded" in clip.reason for clip in lost)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mp4")}
    assert files == {clip.path for clip in clips.values() if clip.state == "done"}
