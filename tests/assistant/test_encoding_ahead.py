"""A question with pictures: encoded in turns before it is put, while cameras go on at their rates."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from assistant.stream.question_queue import Unanswered
from models.errors import SessionError
from models.session.steps import Pause
from tests.assistant.channel_stage import PUSHED, Stage
from tests.assistant.fakes import FakeModel
from tests.assistant.host_fakes import FakeServedStream, passes
from tests.assistant.test_scheduler import Stage as Seats

PICTURES = [np.zeros((4, 4, 3), np.uint8)] * 40
"""Each takes a turn of a fake model."""


@pytest.fixture
def watched() -> Iterator[Stage]:
    """A channel that has seen a frame."""
    stage = Stage(PUSHED, FakeModel())
    stage.channel.start()
    stage.push(1)
    yield stage
    assert stage.host.stop() and stage.channel.stop()


def see_one(stage: Stage) -> None:
    """Push a frame and give turns until it was seen, and no longer."""
    before = stage.shot.counts.num_sampled
    stage.clock.advance(1.0)
    assert stage.channel.push(np.full((8, 8, 3), before, np.uint8))
    stage.until(lambda: stage.shot.counts.num_sampled > before)


def calls(stage: Stage) -> list[str]:
    return stage.channel.served.worker.stream._model.calls  # type: ignore[union-attr]


def test_frames_are_seen_while_pictures_are_encoded_and_then_it_is_answered(
    watched: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[bool] = []

    def long(model: FakeModel, attachments: Any) -> Any:
        while not encoded:
            yield Pause()
        return attachments

    monkeypatch.setattr(FakeModel, "encode", long)
    asked = watched.channel.ask("What is this?", PICTURES)
    for _ in range(5):
        see_one(watched)
    assert sum(call.startswith("see") for call in calls(watched)) == 6
    assert not asked.done and not any(call.startswith("answer") for call in calls(watched))
    encoded.append(True)
    watched.until(lambda: asked.done)
    assert asked.future.result(0).text == "Yes." and calls(watched)[-1] == "answer What is this? with 40"


def test_called_off_while_pictures_are_encoded_it_is_never_put(watched: Stage) -> None:
    asked = watched.channel.ask("What is this?", PICTURES)
    watched.host.turn()
    asked.cancel()
    assert isinstance(asked.future.exception(0), Unanswered)
    assert not all(watched.host.turn() for _ in range(4)), "left off within a turn"
    assert not any(call.startswith("answer") for call in calls(watched))


def test_a_channel_that_ends_meanwhile_says_so(watched: Stage) -> None:
    asked = watched.channel.ask("What is this?", PICTURES)
    watched.host.turn()
    watched.channel.stop(0.1)
    watched.until(lambda: asked.done)
    assert isinstance(asked.future.exception(0), Unanswered)


def test_pictures_that_are_refused_are_told_to_who_asked_and_to_nobody_else(
    watched: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: FakeModel, attachments: Any) -> Any:
        yield Pause()
        raise SessionError("40 pictures for 100 visual tokens: at least 4 each; attach fewer")

    monkeypatch.setattr(FakeModel, "encode", refuse)
    asked = watched.channel.ask("What is this?", PICTURES)
    watched.until(lambda: asked.done)
    assert isinstance(asked.future.exception(0), SessionError)
    see_one(watched)
    assert watched.shot.counts.num_faults == 0


def test_answering_is_no_overload() -> None:
    """Nor is it that frames are lost while the model encodes what somebody sent."""
    asked, other = FakeServedStream("asked", always=1, is_answering=True), FakeServedStream("other")
    stage = Seats(asked, other, forward_s=0.5)
    stage.turns(60)
    assert stage.host.rate_factor == 1.0
    asked.is_answering = False
    stage.turns(60)
    assert stage.host.rate_factor < 1.0


def test_frames_lost_to_what_was_submitted_are_no_overload() -> None:
    camera = FakeServedStream("camera", counts=(1, 1), jobs=deque([passes(1)]))
    stage = Seats(camera, forward_s=0.5)
    stage.host.submit(lambda engine: passes(60))
    stage.turns(60)
    assert stage.host.rate_factor == 1.0
    for _ in range(30):
        stage.clock.advance(1.0)
        stage.host.turn()
    assert stage.host.rate_factor < 1.0
