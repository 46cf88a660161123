"""Turns of a session end properly, and attachments leave the memory again."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from models.checkpoint.loader import Checkpoint
from models.engine import Engine
from models.errors import SessionError
from models.session.media_turns import Attachment, Clip
from models.session.session import Session
from models.session.steps import Forward, Job, Output, StepGenerator, Steps, as_steps
from models.session.token_sampling import Choice, TokenSampler
from models.spans import SpanKind
from streaming.difffp.live import Kind
from tests.models.streams import (
    Script,
    check_whole,
    each,
    frame,
    last,
    moving,
    picture,
    read,
    recomputed,
    single,
    small_settings,
    watch,
)


def test_a_remark_that_nobody_heard_is_taken_back(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, "One.", "A red circle", "Two."))
    watch(engine, session, 2)
    engine.run(session.answer("How many?"))
    before = read(session, checkpoint)
    assert engine.run(session.comment()).text == "A red circle"
    engine.run(session.retract())
    assert read(session, checkpoint) == before
    engine.run(session.retract())
    assert read(session, checkpoint) == before, "what was said before it stays"
    check_whole(session)
    watch(engine, session, 1, first=2, start_s=0.0)
    engine.run(session.comment())
    watch(engine, session, 1, first=3)
    engine.run(session.retract())
    assert "Two." in read(session, checkpoint), "a frame came after it: too late"
    torch.testing.assert_close(
        engine.run(session.feed_text([5]))[-1], recomputed(session, checkpoint), atol=1e-4, rtol=0
    )


def test_silence_has_nothing_to_take_back(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, "A red circle", ""))
    watch(engine, session, 1)
    engine.run(session.comment())
    before = read(session, checkpoint)
    assert engine.run(session.comment()).text == ""
    engine.run(session.retract())
    assert read(session, checkpoint) == before


@pytest.mark.parametrize("num_steps", range(1, 7))
def test_a_comment_cut_anywhere_is_closed_properly(engine: Engine, checkpoint: Checkpoint, num_steps: int) -> None:
    text = "A red circle"
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, text, "Yes."))
    watch(engine, session, 2)
    job = Job(session.comment(max_tokens=40))
    for _ in range(num_steps):
        engine.step([job])
    job.cancel()
    assert job.done
    cut = engine.run(session.cut())
    said = "".join(job.take_pieces())
    if cut is not None:
        assert cut.cut and cut.text == said.strip() and text.startswith(said)
        assert read(session, checkpoint).endswith(f"<|im_start|>assistant\n{said}<|im_end|>\n")
    check_whole(session)
    answer = engine.run(session.answer("Is it red?"))
    assert answer.text == "Yes." and not answer.cut
    assert read(session, checkpoint).endswith("Is it red?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n")
    torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)


def test_the_next_frame_closes_what_was_left_open(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, "A red circle"))
    watch(engine, session, 1)
    job = Job(session.comment())
    for _ in range(3):
        engine.step([job])
    job.cancel()
    engine.run(session.see(frame(picture(5), 1, 1.0)))
    assert re.search(r"assistant\nA[^<]*<\|im_end\|>\n<\|stream_start\|>stream\nTime 1.0s", read(session, checkpoint))
    assert engine.run(session.cut()) is None


def test_long_turns_are_cut_at_their_limit_and_silent_ones_leave_nothing(
    engine: Engine, checkpoint: Checkpoint
) -> None:
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, "A red circle enters on the left", ""))
    watch(engine, session, 1)
    before = read(session, checkpoint)
    long = engine.run(session.comment(max_tokens=4))
    assert long.truncated and len(long.token_ids) == 4
    assert read(session, checkpoint).endswith("<|im_end|>\n")
    longer = read(session, checkpoint)
    silent = engine.run(session.comment())
    assert silent.text == "" and not silent.truncated
    assert read(session, checkpoint) == longer != before
    check_whole(session)


class _Tired(TokenSampler):
    """Would end every turn at once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._end = checkpoint.special.im_end

    def choose(self, logits: torch.Tensor, said: Sequence[int], *, barred: Collection[int] = ()) -> Choice:
        logits = logits.clone()
        logits[:, self._end] = 1e4
        return super().choose(logits, said, barred=barred)


@pytest.mark.parametrize("aside", [False, True])
@pytest.mark.parametrize("with_picture", [False, True])
def test_who_asks_is_owed_a_word_and_a_remark_may_end_at_once(
    engine: Engine, checkpoint: Checkpoint, aside: bool, with_picture: bool
) -> None:
    session = engine.open_session(small_settings(), sampler=_Tired(checkpoint))
    watch(engine, session, 1)
    assert engine.run(session.comment()).token_ids == ()
    attachments: tuple[Attachment, ...] = (picture(3),) if with_picture else ()
    answer = engine.run(session.answer("What is this?", attachments, aside=aside))
    assert len(answer.token_ids) == 1 and not set(answer.token_ids) & checkpoint.stop
    assert not answer.truncated
    assert ("What is this?" in read(session, checkpoint)) != aside
    check_whole(session)


def test_one_thing_at_a_time(engine: Engine) -> None:
    session = engine.open_session(small_settings())
    job = Job(session.see(frame(picture(0), 0, 0.0)))
    engine.step([job])
    assert not job.done
    with pytest.raises(SessionError, match="check while see is under way"):
        engine.run(session.check("Is it?"))
    while not job.done:
        engine.step([job])
    assert engine.run(session.check("Is it?")) is not None


def calls(session: Session) -> list[Callable[[], Steps[Any]]]:
    return [
        lambda: session.see(frame(picture(31), 31, 31.0), speak_above=-1e9),
        lambda: session.comment(),
        lambda: session.answer("What is it?"),
        lambda: session.answer("What is it?", [picture(3)]),
        lambda: session.check("Is it?"),
        lambda: session.instruct("Watch."),
        lambda: session.note_gap(3.0),
        lambda: session.forget(),
        lambda: session.see(frame(picture(2), 90, 90.0)),
    ]


@pytest.mark.parametrize("which", range(9))
@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_whatever_stops_a_job_the_session_goes_on_whole(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, which: int, how: str
) -> None:
    """At each of its forward passes: a failure or a cancellation. Cache and ledger agree afterwards."""
    forward = single(engine)
    for stop_at in range(1, 5):
        settings = small_settings(max_shown_time_s=60.0, rebase_keep_s=40.0)
        script = Script(checkpoint, *["A red circle enters"] * 4)
        session = engine.open_session(settings, sampler=script, chunks=lambda total: [1, total - 1][: min(total, 2)])
        watch(engine, session, 6)
        engine.run(session.comment())
        num_calls = 0

        def failing(request: Forward, stop_at: int = stop_at) -> Output:
            nonlocal num_calls
            num_calls += 1
            if num_calls == stop_at:
                forward(replace(request, embeddings=request.embeddings[:1]))
                raise RuntimeError("out of memory")
            return forward(request)

        job: Job[Any] = Job(calls(session)[which]())
        if how == "fails":
            monkeypatch.setattr(engine, "_forward", each(failing))
            while not job.done:
                engine.step([job])
            monkeypatch.setattr(engine, "_forward", each(forward))
        else:
            for _ in range(stop_at):
                engine.step([job])
            job.cancel()
        engine.run(session.cut())
        check_whole(session)
        sight = engine.run(session.see(frame(picture(31), 91, 91.0 if which == 8 else 31.5)))
        assert sight.appended and session.context.ledger.cells_in_view(16).all()
        check_whole(session)
        if job.error is not None:
            assert str(job.error) == "out of memory"
            assert which not in (0, 8) or sight.kind is Kind.WHOLE, "a frame that was lost is made up for"


def test_attachments_take_a_quarter_and_leave_their_words_alone(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, "Two.", "Three."))
    watch(engine, session, 2)
    before, length = read(session, checkpoint), session.context.cache.length
    longest = 0

    @as_steps
    def measured(steps: Steps[Any]) -> StepGenerator[Any]:
        nonlocal longest
        output = None
        while True:
            try:
                request = steps.send(output)
            except StopIteration as stop:
                return stop.value
            output = yield request
            longest = max(longest, session.context.cache.length)

    clip = Clip([picture(step, (60, 90)) for step in range(3)], [0.0, 0.5, 1.0])
    attachments: list[Attachment] = [picture(5, (300, 400)), clip]
    answer = engine.run(measured(session.answer("How many circles?", attachments)))
    assert answer.text == "Two."
    text = "<|im_start|>user\nHow many circles?<|im_end|>\n<|im_start|>assistant\nTwo.<|im_end|>\n"
    assert read(session, checkpoint) == before + text
    assert 512 // 4 < longest - length + 128 < 512 // 4 + 128 + 120, "pixels were there"
    check_whole(session)
    torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)


def test_kept_attachments_stay_and_age_like_frames(engine: Engine, checkpoint: Checkpoint) -> None:
    settings = small_settings(max_shown_time_s=25.0, rebase_keep_s=12.0)
    session = engine.open_session(settings, sampler=Script(checkpoint, "Two."))
    watch(engine, session, 2)
    engine.run(session.answer("How many?", [picture(5), picture(6)], keep_attachments=True))
    assert "user\n<image>\n<image>\nHow many?<|im_end|>\n<|im_start|>assistant\nTwo." in read(session, checkpoint)
    (attached,) = [span for span in session.context.ledger if span.kind is SpanKind.ATTACHMENT]
    assert 0 < attached.num_visual <= 512 // 4
    torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)
    for seen in moving(22):
        engine.run(session.see(replace(seen, pts_s=seen.pts_s + 2)))
        check_whole(session)
    assert "user\n\n\nHow many?<|im_end|>\n<|im_start|>assistant\nTwo." in read(session, checkpoint)
    for seen in moving(10):
        engine.run(session.see(replace(seen, pts_s=seen.pts_s + 24)))
    assert "How many" not in read(session, checkpoint)


def test_too_much_is_refused(engine: Engine) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 1)
    with pytest.raises(SessionError, match="pictures for 128 visual tokens"):
        engine.run(session.answer("What?", [picture(0)] * 40))
    with pytest.raises(SessionError, match="question of .* at most 160"):
        engine.run(session.answer("What? " * 200))
    with pytest.raises(SessionError, match="instruction of"):
        engine.run(session.instruct("What? " * 200))
    with pytest.raises(SessionError, match="one time each"):
        Clip([picture(0)], [])
    with pytest.raises(SessionError, match="several sizes"):
        Clip([picture(0), picture(0, (60, 60))], [0.0, 1.0])
    check_whole(session)


def test_kept_attachments_take_a_quarter_together(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, "One.", "Two.", "Three."))
    watch(engine, session, 2)
    for number in range(3):
        engine.run(session.answer(f"Number {number}?", [picture(number, (300, 400))], keep_attachments=True))
        check_whole(session)
        kept = [span for span in session.context.ledger if span.kind is SpanKind.ATTACHMENT]
        assert len(kept) == number + 1 and 0 < sum(span.num_visual for span in kept) <= 512 // 4
        assert kept[-1].num_visual > 0, "the oldest make room"
    reasons = [eviction.reason for eviction in session.take_evictions()]
    assert reasons == ["kept attachments over a quarter of the vision window"] * 2
    assert "Number 0?" in read(session, checkpoint), "words outlive pictures"
