"""Faults of what a channel works with, its source, model, sinks and listeners, and its end."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import Future
from typing import Any

import numpy as np

from assistant.events import StatusKind, StreamEvent
from assistant.evidence import EvidenceKeeper
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig, ChannelState
from assistant.serving.contracts import CapacityExceeded
from assistant.stream.question_queue import Unanswered
from tests.assistant.channel_stage import PUSHED
from tests.assistant.fakes import FakeModel, FakeSink


def test_a_step_that_raises_is_told_and_the_memory_is_given_up_after_three(stages: Any) -> None:
    first, second = FakeModel(), FakeModel()
    stage = stages(PUSHED, first, second)
    stage.channel.start()
    stage.push(1)
    for number in range(1, 4):
        stage.engine.failing.append(MemoryError("no room"))
        stage.clock.advance(1.0)
        stage.channel.push(np.zeros((8, 8, 3), np.uint8))
        stage.until(lambda number=number: stage.shot.counts.num_faults == number)
        assert stage.shot.health != "ok"
        stage.clock.advance(60)
    texts = [status.text for status in stage.sink.statuses() if status.kind is StatusKind.FAULT]
    assert ["given up" in text for text in texts] == [False, False, True] and "MemoryError" in texts[0]
    stage.push(2)
    assert len(second.calls) == 2 and stage.shot.health == "ok"


def test_a_fault_is_followed_by_a_pause(stages: Any) -> None:
    stage = stages(PUSHED)
    stage.channel.start()
    stage.push(1)
    stage.engine.failing.append(MemoryError("no room"))
    stage.clock.advance(1.0)
    stage.channel.push(np.zeros((8, 8, 3), np.uint8))
    stage.until(lambda: stage.shot.counts.num_faults == 1)
    future: Future[None] = stage.channel.forget()
    for _ in range(50):
        stage.host.turn()
    assert not future.done()
    stage.clock.advance(0.6)
    stage.until(future.done)


def test_stop_ends_threads_memory_and_questions(stages: Any) -> None:
    model = FakeModel()
    memory = weakref.ref(model)
    stage = stages(PUSHED, model, ready=False, real=True)
    stage.host.start()
    stage.channel.start()
    del model
    while "opened" not in stage.kinds():
        time.sleep(0.01)
    asked = stage.channel.ask("Never?")
    assert stage.channel.stop()
    assert isinstance(asked.future.exception(5), Unanswered)
    assert "ended" in stage.kinds() and stage.shot.state is ChannelState.ENDED and stage.host.streams == ()
    stage.engine.models.clear()
    gc.collect()
    assert memory() is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("capture")]
    late = stage.channel.ask("Still there?")
    assert isinstance(late.future.exception(0), Unanswered) and not stage.channel.push(np.zeros((8, 8, 3), np.uint8))


def test_a_source_that_is_not_there_says_so_and_hides_its_password(stages: Any) -> None:
    config = ChannelConfig("door", "rtsp://me:s3cret@127.0.0.1:9/live")
    stage = stages(config)
    stage.channel.start()
    stage.until(lambda: stage.channel.failure is not None)
    shot = stage.shot
    assert shot.state is ChannelState.FAILED and "cannot be reached" in shot.state_reason and shot.health == "down"
    assert "s3cret" not in f"{config} {shot} {stage.sink.events} {stage.channel.failure!r}"
    assert stage.kinds() == ["broken"]


def test_one_channel_too_many_fails_with_what_would_fit(stages: Any) -> None:
    stage = stages(PUSHED, max_memory_bytes=1000)
    stage.channel.start()
    stage.host.turn()
    assert isinstance(stage.channel.failure, CapacityExceeded) and stage.shot.state is ChannelState.FAILED


def test_a_sink_that_fails_is_counted_and_stops_nobody(stages: Any) -> None:
    class Full(FakeSink):
        def append(self, event: StreamEvent) -> None:
            raise OSError("no space left on device")

    stage = stages(PUSHED)
    stage.channel = Channel(PUSHED, stage.host, clock=stage.clock, sinks=[Full(), stage.sink])
    stage.channel.subscribe(lambda event: 1 / 0)
    stage.channel.start()
    stage.push(1)
    assert stage.shot.counts.num_unstored == len(stage.sink.events) > 0


def test_listeners_that_raise_are_counted_as_themselves_and_cost_no_memory(stages: Any) -> None:
    class Blind(EvidenceKeeper):
        def add(self, *args: Any, **kwargs: Any) -> None:
            raise OSError("no thumbnail")

    stage = stages(PUSHED, FakeModel(answers={"What?": "A red ball."}))
    stage.channel = Channel(PUSHED, stage.host, clock=stage.clock, sinks=[stage.sink], evidence=Blind())
    stage.channel.add_viewer(lambda frame: 1 / 0)
    stage.channel.start()
    stage.push(2)
    for _ in range(4):
        asked = stage.channel.ask("What?", on_piece=lambda piece: 1 / 0)
        stage.until(lambda asked=asked: asked.done)
        assert asked.future.result(0).text == "A red ball.", "the answer is there, though nobody heard its words"
    stage.push(1)
    assert "fault" not in stage.kinds() and len(stage.engine.opened) == 1
    assert stage.shot.counts.num_faults == 0 and stage.shot.health == "ok"
    assert stage.shot.counts.num_listener_faults == 4 * 3 + 2 * 3, "each word; each frame for the keeper and the viewer"
