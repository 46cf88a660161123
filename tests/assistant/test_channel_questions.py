"""Questions to a channel: answered in pieces, waiting, stopped, and refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assistant.events import StatusKind
from assistant.serving.channel import Channel
from assistant.stream.question_queue import PendingQuestion, Unanswered
from assistant.stream.stream_session import LOOK_FIRST_S
from models.errors import SessionError
from tests.assistant.channel_stage import PUSHED
from tests.assistant.fakes import FakeModel


def test_an_answer_comes_in_pieces_and_whole(stages: Any) -> None:
    model = FakeModel(answers={"What?": "A red ball."})
    stage = stages(PUSHED, model)
    stage.channel.start()
    stage.push(1)
    pieces: list[str] = []
    asked = stage.channel.ask("What?", [np.zeros((4, 4, 3), np.uint8)], pieces.append, aside=True)
    stage.until(lambda: asked.done)
    assert pieces == ["A", " red", " ball."] and asked.future.result(0).text == "A red ball."
    assert model.calls[-1] == "answer What? aside with 1"
    assert [answer.question for answer in stage.sink.answers()] == ["What?"]


def test_a_question_to_a_camera_waits_for_a_picture_of_now_but_not_long(stages: Any) -> None:
    model = FakeModel(answers={"What?": "A blue square."})
    stage = stages(PUSHED, model)
    stage.channel.start()
    stage.push(1)
    stage.clock.advance(0.1)
    asked = stage.channel.ask("What?")
    while stage.host.turn():
        pass
    assert not asked.done
    stage.clock.advance(0.1)
    assert stage.channel.push(np.full((8, 8, 3), 9, np.uint8))
    stage.until(lambda: asked.done)
    assert asked.future.result(0).frame_index == 1 and model.calls[2:] == ["answer What?"]
    stage.clock.advance(0.1)
    asked = stage.channel.ask("What?")
    stage.clock.advance(LOOK_FIRST_S)
    while stage.host.turn():
        pass
    assert asked.done and model.calls[3:] == ["answer What?"]


def test_a_question_to_a_camera_that_is_paused_is_answered_at_once(stages: Any) -> None:
    stage = stages(PUSHED, FakeModel())
    stage.channel.start()
    stage.push(1)
    stage.channel.pause()
    stage.clock.advance(0.1)
    asked = stage.channel.ask("What?")
    while stage.host.turn():
        pass
    assert asked.done


def test_a_question_that_waits_is_stopped_at_once_and_never_asked(stages: Any) -> None:
    model = FakeModel(answers={"What?": "one", "Who?": "two"})
    stage = stages(PUSHED, model, ready=False)
    stage.channel.start()
    early = stage.channel.ask("What?")
    early.cancel()
    assert early.done
    stage.host.open()
    stage.host.turn()
    unseen = stage.channel.ask("Who?")
    unseen.cancel()
    assert unseen.done, "nothing was seen yet that it could be asked about"
    stage.push(1)
    with pytest.raises(Unanswered, match="stopped"):
        unseen.future.result(0)
    assert not any("?" in call for call in model.calls)


def test_an_answer_can_be_stopped_and_keeps_what_was_said(stages: Any) -> None:
    stage = stages(PUSHED, FakeModel(answers={"What?": "one two three four five six"}))
    stage.channel.start()
    stage.push(1)

    def stop_at_two(piece: str) -> None:
        if piece == " two":
            asked.cancel()

    asked: PendingQuestion = stage.channel.ask("What?", on_piece=stop_at_two)
    waiting = stage.channel.ask("And then?")
    waiting.cancel()
    stage.until(lambda: asked.done and waiting.done)
    assert (asked.future.result(0).text, asked.future.result(0).reason) == ("one two", "cut_short")
    assert isinstance(waiting.future.exception(0), Unanswered)
    assert stage.engine.models == [] and stage.sink.answers()[0].text == "one two"
    stage.push(1)


def test_a_question_waits_for_the_model_and_for_a_frame(stages: Any) -> None:
    stage = stages(PUSHED, ready=False)
    stage.channel.start()
    asked = stage.channel.ask("Hello?")
    assert "being opened" in stage.shot.state_reason or "loaded" in stage.shot.state_reason
    stage.host.open()
    stage.push(1)
    stage.until(lambda: asked.done)
    assert asked.future.result(0).text == "Yes."


def test_a_question_the_model_refuses_is_told_to_who_asked(stages: Any) -> None:
    class Strict(FakeModel):
        def answer(self, question: str, attachments: Any = (), *, aside: bool = False) -> Any:
            raise SessionError("question of 900 tokens: at most 300 fit; shorten it")

    stage = stages(PUSHED, Strict())
    stage.channel.start()
    stage.push(1)
    asked = stage.channel.ask("A very long one")
    stage.until(lambda: asked.done)
    assert isinstance(asked.future.exception(0), SessionError)
    assert stage.sink.statuses()[-1].kind is StatusKind.UNASKED
    stage.push(1)
    assert stage.shot.counts.num_faults == 0


def test_a_timeline_that_cannot_be_looked_up_in_leaves_the_question_to_the_model(stages: Any) -> None:
    class Torn:
        def answer(self, question: str, **times: Any) -> None:
            raise RuntimeError("a page of the database is torn")

    recall: Any = Torn()
    stage = stages(PUSHED)
    stage.channel = Channel(PUSHED, stage.host, clock=stage.clock, sinks=[stage.sink], recall=recall)
    stage.channel.start()
    stage.push(1)
    asked = stage.channel.ask("What was there yesterday?")
    stage.until(lambda: asked.done)
    assert asked.future.result(0).text == "Yes." and stage.shot.counts.num_faults == 0
    assert "torn" in next(status.text for status in stage.sink.statuses() if status.kind is StatusKind.STORE)
