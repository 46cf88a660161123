"""A watched stream keeps what it says, with its pictures, and answers from that about what it forgot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from assistant.events import Answer
from assistant.evidence import EvidenceKeeper
from assistant.inputs.limits import CameraPolicy, UploadLimits
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig
from assistant.serving.scheduler import Scheduler
from assistant.timeline.recall import Recall
from assistant.timeline.search import Query
from assistant.timeline.sink import ChannelSink
from assistant.timeline.store import Timeline
from assistant.viewers.backend import Backend
from streaming.clock import FakeClock
from tests.assistant.fakes import FakeModel, Look
from tests.assistant.host_fakes import FakeModelEngine, turn_until
from tests.assistant.timelines import keeper_with, remark

NOW_S = datetime(2026, 11, 22, 15, 0).timestamp()


class Door:
    """A pushed stream whose events are kept, driven by the test."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(now_s=500.0, wall_s=NOW_S)
        self.model = FakeModel(answers={"What is there?": "A wall."})
        self.model.looks = {3.0: Look(score=9.0)}
        self.host = Scheduler(lambda: FakeModelEngine(self.clock, 0.0, [self.model]), clock=self.clock)
        self.timeline = Timeline(folder, clock=self.clock)
        keeper = EvidenceKeeper()
        sink = ChannelSink(self.timeline, "door", keeper=keeper)
        recall = Recall(self.timeline.reader, self.clock, camera="door", run=sink.run)
        config = ChannelConfig("door", "push:webcam", fps=1.0)
        self.channel = Channel(config, self.host, clock=self.clock, sinks=[sink], evidence=keeper, recall=recall)
        self.host.open()
        self.channel.start()

    def push(self, number: int) -> None:
        """One frame a second."""
        for _ in range(number):
            before = self.channel.snapshot().counts.num_sampled
            self.clock.advance(1.0)
            assert self.channel.push(np.full((28, 28, 3), 20 * before % 256, np.uint8))
            turn_until(self.host, partial(self.has_seen_more_than, before))
        while self.host.turn():
            pass

    def has_seen_more_than(self, number: int) -> bool:
        return self.channel.snapshot().counts.num_sampled > number

    def ask(self, question: str) -> Answer:
        asked: Future[Answer] = self.channel.ask(question).future
        turn_until(self.host, asked.done)
        return asked.result(0)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path)
    yield made
    made.channel.stop(0.5)
    made.timeline.close()


def test_remarks_are_kept_with_the_frames_behind_them(door: Door) -> None:
    door.push(6)
    (found,) = door.timeline.search(Query(types=("comment",)))
    assert found.camera == "door" and found.frames
    picture = found.frames[-1]
    assert picture.frame_index == found.event.frame_index and picture.media_s == found.event.time_s
    assert found.wall_s == picture.wall_s and found.wall_s <= found.recorded_s
    assert (door.timeline.folder.root / picture.path).is_file() and set(picture.cells) <= set("#r.\n")


def test_what_is_forgotten_is_answered_from_the_timeline(door: Door) -> None:
    door.timeline.record(remark(0, "A red circle enters."), camera="door", wall_s=NOW_S - 3600)
    door.push(3)
    said = door.ask("What happened an hour ago?")
    assert said.reason == "timeline" and "14:00:00 A red circle enters." in said.text
    assert not any(call.startswith("answer") for call in door.model.calls)
    assert door.ask("What is there?").text == "A wall."
    kept = [found.event for found in door.timeline.search(Query(types=("answer",), oldest_first=True))]
    assert [event.reason for event in kept if isinstance(event, Answer)] == ["timeline", "asked"]


def test_a_model_that_knows_pictures_is_shown_those_of_then(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.host, "describe", lambda: SimpleNamespace(embedded=False))
    past = FakeClock(wall_s=NOW_S - 3600)
    ChannelSink(door.timeline, "door", keeper=keeper_with(6, past)).append(remark(5, "A star stops."))
    door.push(3)
    said = door.ask("What happened an hour ago?")
    assert "A star stops." in said.text and said.text.endswith("The model, shown 3 pictures kept of then: Yes.")
    (call,) = [call for call in door.model.calls if call.startswith("answer")]
    assert call.endswith("aside with 3") and "kept an hour ago" in call


def test_an_answer_from_the_timeline_shows_the_frames_of_then(door: Door) -> None:
    past = FakeClock(wall_s=NOW_S - 3600)
    keeper = keeper_with(6, past)
    ChannelSink(door.timeline, "door", keeper=keeper).append(remark(5, "A star stops."))
    door.push(3)
    answer = door.ask("What happened an hour ago?")
    shown = door.channel.evidence(answer)
    assert [frame.wall_s for frame in shown] == [frame.wall_s for frame in keeper.for_event(remark(5))]
    assert shown[0].picture == keeper.for_event(remark(5))[0].picture
    assert shown[0].cells() == keeper.for_event(remark(5))[0].cells()
    found = door.timeline.search(Query(types=("answer",)))[0]
    assert found.event == replace(answer, source="door")
    assert [frame.path for frame in found.frames] == list(answer.frames or ())
    assert door.ask("What happened two hours ago?").frames == ()
    nothing_kept = door.timeline.search(Query(types=("answer",)))[0]
    assert nothing_kept.frames == (), "what is seen now says nothing about then"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[Backend, Scheduler]]:
    model = FakeModel(answers={"What is there?": "A wall."})
    host = Scheduler(lambda: FakeModelEngine(FakeClock(), 0.0, [model]))
    host.open()
    policy = CameraPolicy.bound_to("127.0.0.1")
    backend = Backend(host, "embedded", policy=policy, uploads=UploadLimits(), folder=tmp_path)
    yield backend, host
    with ThreadPoolExecutor(1) as pool:  # rounds must go on while a stream ends
        turn_until(host, pool.submit(backend.close).done)
    host.stop()


def test_a_stream_of_the_page_is_answered_from_its_own_timeline(page: tuple[Backend, Scheduler]) -> None:
    backend, host = page
    viewer = backend.registry.of("a")
    backend.watch(viewer, backend.sample("synthetic:3"))
    turn_until(host, lambda: viewer.stream is not None and viewer.stream.snapshot().counts.num_sampled > 0)

    def answer(question: str) -> Answer:
        _, asked = backend.ask(viewer, question)
        turn_until(host, asked.future.done)
        return asked.future.result(0)

    viewer.timeline.record(remark(0, "A red circle enters."), camera="synthetic:3", wall_s=time.time() - 3600)
    past = answer("What happened an hour ago?")
    assert past.text.startswith("From the timeline") and "A red circle enters." in past.text
    assert answer("What is there?").text == "A wall."
