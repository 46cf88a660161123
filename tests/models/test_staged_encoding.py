"""Pictures of a question are encoded in steps of bounded work that can be cancelled, beside all other work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint.loader import Checkpoint
from models.engine import Engine
from models.errors import SessionError
from models.network.network import VisionEncoder
from models.network.work import PART_PATCHES, PART_PATCHES_CPU, part_cost, picture_cost
from models.session.media_turns import Attached, Attachment, Clip, Encoded, attach, lay_out
from models.session.session import Session
from models.session.steps import Forward, Job, Pause
from tests.models.streams import (
    check_whole,
    each,
    frame,
    last,
    moving,
    picture,
    recomputed,
    single,
    small_settings,
    watch,
)

NUM_FRAMES = 30


def clip() -> Clip:
    return Clip([picture(step) for step in range(NUM_FRAMES)], [float(step) for step in range(NUM_FRAMES)])


@pytest.mark.parametrize("merge", [1, 2])
def test_a_picture_in_pieces_is_the_whole_picture(checkpoint: Checkpoint, merge: int) -> None:
    encoder = VisionEncoder.of(checkpoint.model)
    grid = checkpoint.vision.fit_grid(420, 280, merge=merge)
    patches = checkpoint.vision.patches(picture(3, (280, 420)), grid)
    with torch.inference_mode():
        whole = encoder.encode(patches, grid)
        for most in (picture_cost(len(patches), 24) / 7, picture_cost(len(patches), 24) / 2):
            pieces, costs = encoder.pieces(patches, grid, most), []
            while True:
                try:
                    costs.append(next(pieces))
                except StopIteration as done:
                    tokens = done.value
                    break
            assert len(costs) > 2 and max(costs) <= most
            torch.testing.assert_close(tokens, whole, atol=1e-5, rtol=0)
        (cost,) = list(encoder.pieces(patches, grid, picture_cost(len(patches), 24)))
        assert cost == picture_cost(len(patches), 24)


def driven(engine: Engine, job: Job[Any]) -> int:
    """The number of steps that a job takes."""
    num_turns = 0
    while not job.done:
        engine.step([job])
        num_turns += 1
    return num_turns


def test_what_is_encoded_in_turns_is_what_is_encoded_at_once(engine: Engine, checkpoint: Checkpoint) -> None:
    items: list[Attachment] = [picture(40, (300, 400)), clip()]
    made: Attached = engine.run(attach(engine._runtime, "What is it?", items, 2048))
    laid = lay_out(engine._runtime.codec, checkpoint.vision, checkpoint.special.image, "What is it?", items, 2048)
    assert made.ids == laid.ids and np.array_equal(made.offsets, laid.offsets)
    with torch.inference_mode():
        whole = [
            engine._runtime.encoder.encode(checkpoint.vision.patches(laid_one.frame, laid_one.grid), laid_one.grid)[
                torch.from_numpy(laid_one.keep)
            ]
            for laid_one in laid.pictures
        ]
    torch.testing.assert_close(made.embeddings, torch.cat(whole), atol=1e-5, rtol=0)
    assert torch.equal(made.embeddings[-len(whole[-1]) :], whole[-1]), "small ones to the bit"


def test_a_turn_is_a_few_pictures_and_never_a_pass_as_well(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = engine.open_session(small_settings(window=small_settings().fitted(64, 1.0).window))
    watch(engine, session, 2)
    work: list[list[str]] = []
    encode, forward = engine._runtime.encoder.encode, single(engine)

    def counted(*given: Any) -> torch.Tensor:
        work[-1].append("picture")
        return encode(*given)

    def passed(request: Forward) -> Any:
        work[-1].append("pass")
        return forward(request)

    monkeypatch.setattr(engine._runtime.encoder, "encode", counted)
    monkeypatch.setattr(engine, "_forward", each(passed))
    job = Job(session.answer("What is it?", [clip()]))
    while not job.done:
        work.append([])
        engine.step([job])
    turns = [turn for turn in work if "picture" in turn]
    assert sum(len(turn) for turn in turns) == NUM_FRAMES
    most = part_cost(torch.device("cpu")) // 16
    assert all(set(turn) == {"picture"} and len(turn) <= most for turn in turns) and len(turns) > 1
    assert all(turn.count("pass") <= 1 for turn in work)


def test_a_processor_does_less_in_a_turn() -> None:
    assert part_cost(torch.device("cpu")) == PART_PATCHES_CPU < PART_PATCHES == part_cost(torch.device("cuda"))


def test_a_large_picture_takes_many_turns(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other jobs run in between."""
    monkeypatch.setattr("models.session.media_turns.part_cost", lambda device: 4000)
    job = Job(engine.ask("What is it?", [picture(3, (900, 1200))], max_tokens=2))
    other, seen = engine.open_session(small_settings()), 0
    for shown in moving(120):
        if job.done:
            break
        engine.step([job])
        engine.run(other.see(shown))
        seen += isinstance(job.request, Pause)
    assert job.done and job.error is None and seen > 40


@pytest.mark.parametrize("num_turns", [1, 2, 4])
def test_encoding_is_called_off_within_a_turn(engine: Engine, monkeypatch: pytest.MonkeyPatch, num_turns: int) -> None:
    session, num_encoded = engine.open_session(small_settings()), 0
    watch(engine, session, 3)
    before, encode = session.usage, engine._runtime.encoder.encode

    def counted(*given: Any) -> torch.Tensor:
        nonlocal num_encoded
        num_encoded += 1
        return encode(*given)

    monkeypatch.setattr("models.session.media_turns.part_cost", lambda device: 70)
    monkeypatch.setattr(engine._runtime.encoder, "encode", counted)
    job = Job(session.answer("What is it?", [clip()]))
    for _ in range(num_turns):
        engine.step([job])
    job.cancel()
    assert num_turns - 1 <= num_encoded <= 3 * (num_turns - 1), "the first turn begins nothing"
    assert engine.run(session.cut()) is None and session.usage == before
    check_whole(session)
    engine.run(session.see(frame(picture(9), 9, 9.0)))
    torch.testing.assert_close(last(session), recomputed(session, engine.checkpoint), atol=1e-4, rtol=0)


def test_encoded_beforehand_gives_the_same_answer_while_frames_go_on(engine: Engine) -> None:
    def watched() -> Session:
        session = engine.open_session(small_settings())
        watch(engine, session, 3)
        return session

    items: list[Attachment] = [picture(7, (60, 80)), Clip([picture(step) for step in range(3)], [0.0, 1.0, 2.0])]
    plain, ahead = watched(), watched()
    job, step = Job(ahead.encode(items)), 3
    while not job.done:
        engine.step([job])
        if step < 5:
            for session in (plain, ahead):
                engine.run(session.see(frame(picture(step), step, float(step))))
            step += 1
    encoded = job.outcome()
    assert all(isinstance(item, Encoded) for item in encoded)
    said = engine.run(ahead.answer("What is it?", encoded, aside=True))
    assert said.token_ids == engine.run(plain.answer("What is it?", items, aside=True)).token_ids
    assert said.logprob == pytest.approx(engine.run(plain.answer("What is it?", items, aside=True)).logprob, abs=1e-4)
    with pytest.raises(SessionError, match="already encoded"):
        lay_out(engine._runtime.codec, engine.checkpoint.vision, 0, "What?", encoded, 100)


def test_too_many_pictures_are_refused_before_anything_is_encoded(engine: Engine) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 1)
    job = Job(session.encode([picture(0)] * 60))
    assert driven(engine, job) <= 2
    assert isinstance(job.error, SessionError) and "60 pictures for 128 visual tokens" in str(job.error)
