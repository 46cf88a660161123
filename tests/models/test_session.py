"""A session sees, says, answers and checks from one memory, which stays whole whatever happens to it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.attachments import Attachment, Clip
from models.checkpoint import Checkpoint
from models.engine import Engine
from models.errors import SessionError, SettingsError
from models.prompt import DEFAULT_SYSTEM
from models.session import Session
from models.settings import FRAME_OVERHEAD_TOKENS, StreamSettings
from models.sight import Sight
from models.spans import SpanKind, WindowSettings
from models.steps import Forward, Job, Output, Steps
from models.stream_time import StreamTime
from streaming.difffp import Kind
from tests.models.streams import (
    Script,
    check_whole,
    frame,
    last,
    moving,
    noting,
    picture,
    read,
    recomputed,
    small_settings,
)


def watch(engine: Engine, session: Session, num_frames: int, *, start_s: float = 0.0, first: int = 0) -> list[Sight]:
    numbers = range(first, first + num_frames)
    return [engine.run(session.see(frame(picture(index), index, start_s + index))) for index in numbers]


def test_memory_reads_as_the_templates_conversation(engine: Engine, checkpoint: Checkpoint) -> None:
    script = Script(checkpoint, "A red circle enters on the left.", "One.")
    session = engine.open_session(small_settings(speaking=_long()), sampler=script)
    for index in range(2):
        engine.run(session.see(frame(picture(index), index, 5.0 + index)))
    assert engine.run(session.comment()).text == "A red circle enters on the left."
    engine.run(session.see(frame(picture(2), 2, 7.04)))
    assert engine.run(session.answer("How many circles are there?")).text == "One."
    engine.run(session.see(frame(picture(3), 3, 15.55)))
    messages: list[dict[str, Any]] = [
        {"role": "stream", "content": [{"type": "image", "timestamp": 0.0}]},
        {"role": "stream", "content": [{"type": "image", "timestamp": 1.0}]},
        {"role": "assistant", "content": "A red circle enters on the left."},
        {"role": "stream", "content": [{"type": "image", "timestamp": 2.04}]},
        {"role": "user", "content": "How many circles are there?"},
        {"role": "assistant", "content": "One."},
        {"role": "stream", "content": [{"type": "image", "timestamp": 10.55}]},
    ]
    assert read(session, checkpoint) == checkpoint.prompt.render(messages)
    check_whole(session)


def _long():
    return replace(small_settings().speaking, max_comment_tokens=64, max_answer_tokens=64)


@pytest.mark.parametrize("seed", range(3))
def test_a_streamed_session_says_what_one_pass_over_it_says(engine: Engine, checkpoint: Checkpoint, seed: int) -> None:
    """Until the first eviction, in any chunking, with yes/no forks between."""
    rng = np.random.default_rng(seed)

    def chunks(total: int) -> Sequence[int]:
        sizes: list[int] = []
        while sum(sizes) < total:
            sizes.append(int(rng.integers(1, total - sum(sizes) + 1)))
        return sizes

    session = engine.open_session(small_settings(), chunks=chunks, sampler=Script(checkpoint, "A circle."))
    for index, seen in enumerate(moving(9)):
        engine.run(session.see(seen, speak_above=-1e9))
        torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)
        engine.run(session.check("Is there a circle?"))
        if index == 4:
            engine.run(session.comment())
    assert session.usage.num_evictions == 0


def test_the_decision_is_read_after_the_frame(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings())
    sight = engine.run(session.see(frame(picture(0), 0, 0.0), speak_above=-1e9))
    logits = recomputed(session, checkpoint)
    special = checkpoint.special
    assert sight.score == pytest.approx(float(logits[special.im_start] - logits[special.stream_start]), abs=1e-4)
    assert checkpoint.tokenizer is not None
    word = checkpoint.tokenizer.encode("assistant")
    with torch.inference_mode():
        memory = torch.cat([session.context.embeddings(span) for span in session.context.ledger])
        said = engine._runtime.embed([special.im_start, *word])
        rows = checkpoint.model(inputs_embeds=torch.cat([memory, said])[None]).logits[0].log_softmax(-1)
    expected = sum(float(rows[len(memory) + at, token]) for at, token in enumerate(word))
    assert sight.log_p_assistant == pytest.approx(expected, abs=1e-3)


def test_log_p_is_measured_where_it_matters_alone(engine: Engine) -> None:
    session = engine.open_session(small_settings())
    assert engine.run(session.see(frame(picture(0), 0, 0.0))).log_p_assistant is None, "a stand-in decision needs none"
    assert engine.run(session.see(frame(picture(1), 1, 1.0), speak_above=1e9)).log_p_assistant is None
    trained = small_settings(speaking=replace(_long(), decision="trained", platt_shift=100.0))
    session = engine.open_session(trained)
    assert engine.run(session.see(frame(picture(0), 0, 0.0))).log_p_assistant is not None


def test_still_frames_cost_nothing(engine: Engine) -> None:
    session = engine.open_session(small_settings())
    sights = [engine.run(session.see(frame(picture(0), index, float(index)))) for index in range(20)]
    assert sights[0].kind is Kind.WHOLE and sights[0].num_tokens > 16
    skipped = [sight for sight in sights if sight.kind is Kind.SKIPPED]
    assert len(skipped) > 10
    assert all(sight.score is None and sight.num_tokens == 0 and sight.timings["encode"] == 0 for sight in skipped)
    settling = [sight for sight in sights if sight.kind is Kind.SETTLING]
    assert [sight.time_s for sight in settling] == [1.0, 2.0]
    assert all(sight.score is not None and 13 < sight.num_tokens < 20 for sight in settling), "never deaf"


@pytest.mark.parametrize("seed", range(3))
def test_the_window_is_complete_at_every_frame(engine: Engine, checkpoint: Checkpoint, seed: int) -> None:
    """Each cell of the view has a token made from pixels within the threshold of what the camera shows now."""
    rng = np.random.default_rng(seed)
    session = engine.open_session(small_settings(max_shown_time_s=60.0, rebase_keep_s=10.0))
    ground = rng.integers(60, 120, (112, 112, 3)).astype(np.float32)
    shown: dict[int, np.ndarray] = {}
    kept_at = np.zeros(16, dtype=int)
    drift, time_s = 0.0, 0.0
    for index in range(90):
        drift += float(rng.choice([0.0, 0.4]))
        image = ground + drift
        if rng.random() < 0.5:
            for _ in range(int(rng.choice([1, 1, 8]))):
                top, left = rng.integers(0, 84, 2)
                image[top : top + 28, left : left + 28] = rng.integers(0, 255)
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        time_s += float(rng.choice([1.0, 1.0, 1.0, 7.0]))
        sight = engine.run(session.see(frame(pixels, index, time_s)))
        shown[index] = pixels.reshape(4, 28, 4, 28, 3).swapaxes(1, 2).reshape(16, 28, 28, 3).astype(np.float32)
        kept_at[sight.pruning.keep] = index
        assert not (sight.pruning.changed & ~sight.pruning.keep).any()
        _check_complete(session, shown, kept_at, index)
        if rng.random() < 0.2:
            engine.run(session.answer("What is it? " * int(rng.integers(1, 6))))
        if rng.random() < 0.1:
            engine.run(session.comment())
        _check_complete(session, shown, kept_at, index)
    check_whole(session)
    assert session.usage.num_evictions > 2 and session.usage.num_rebases > 1


def _check_complete(session: Session, shown: dict[int, np.ndarray], kept_at: np.ndarray, now: int) -> None:
    """The newest token of each cell is the one that pruning compares with, and shows about what there is now."""
    ledger = session.context.ledger
    newest = np.full(16, -1)
    for span in ledger:
        if span.is_seen_frame and span.view == ledger.view and span.cells is not None:
            newest[span.cells] = span.frame_index
    assert newest.tolist() == kept_at.tolist()
    for cell in range(16):
        difference = shown[now][cell] - shown[newest[cell]][cell]
        assert abs(difference.mean()) <= 8
        assert np.sqrt(np.square(difference).mean()) <= 16


def test_the_cache_is_bounded_however_long_it_runs(engine: Engine) -> None:
    settings = small_settings()
    session = engine.open_session(settings)
    sizes = []
    for seen in moving(120):
        engine.run(session.see(seen))
        if seen.index % 3 == 0:
            engine.run(session.comment())
        sizes.append(session.usage)
        # Bare wrappers of frames that words survive come on top of the text window.
        assert sizes[-1].num_tokens <= settings.window.capacity + sizes[-1].pinned + 200
    assert sizes[-1].num_evictions > 10
    assert max(usage.cache_bytes for usage in sizes[60:]) == sizes[60].cache_bytes
    check_whole(session)


def test_a_stream_that_starts_late_gives_the_same(engine: Engine, checkpoint: Checkpoint) -> None:
    settings = small_settings(max_shown_time_s=30.0, rebase_keep_s=8.0)
    heard = []
    for start_s in (0.0, 1e6 + 0.05):
        session = engine.open_session(settings)
        sights = []
        # Still for 2 s again and again, which is how long a scene takes to settle.
        for seen in moving(90, start_s=start_s, every_s=0.4):
            still = replace(seen, image=picture(seen.index // 8))
            sights.append(engine.run(session.see(still, speak_above=-1e9)))
            if seen.index % 20 == 3:
                engine.run(session.comment())
        assert session.usage.num_rebases > 0
        scores = [(sight.score, sight.log_p_assistant) for sight in sights]
        kinds = [(sight.kind, sight.shown_time_s, sight.rebased) for sight in sights]
        heard.append((scores, kinds, read(session, checkpoint)))
    assert heard[0] == heard[1]


def test_times_are_the_same_to_the_bit_wherever_a_stream_starts() -> None:
    found = []
    for start_s in (0.0, 1e6 + 0.05):
        time = StreamTime(0.5)
        entered = [time.enter(start_s + step / 3) for step in range(100)]
        found.append([(entered_s, time.shown(entered_s)) for entered_s in entered])
    assert found[0] == found[1]


def test_shown_time_stays_in_its_range_and_the_rest_is_told_anew(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(max_shown_time_s=20.0, rebase_keep_s=6.0), instruction="Tell me all.")
    rebased = []
    for seen in moving(60):
        sight = engine.run(session.see(seen))
        assert sight.shown_time_s <= 20.0
        if sight.rebased:
            rebased.append(seen.index)
            anew = recomputed(session, checkpoint)
            torch.testing.assert_close(last(session), anew, atol=1e-4, rtol=0)
            times = [float(time) for time in re.findall(r"Time ([\d.]+)s", read(session, checkpoint))]
            assert times == [float(step) for step in range(7)]
            assert any("older" in eviction.reason for eviction in sight.evictions)
        check_whole(session)
    assert rebased == [21, 36, 51]
    assert read(session, checkpoint).count("Tell me all.") == 1


def test_a_still_scene_is_whole_again_after_a_rebase(engine: Engine) -> None:
    """What only frames from before the rebase held is kept anew."""
    session = engine.open_session(small_settings(max_shown_time_s=20.0, rebase_keep_s=2.0))
    for index in range(50):
        engine.run(session.see(frame(picture(0), index, float(index))))
        assert session.context.ledger.cells_in_view(16).all()
    assert session.usage.num_rebases > 1


def test_asking_leaves_no_trace(engine: Engine, checkpoint: Checkpoint) -> None:
    def run(asking: bool) -> tuple[list[Any], Session]:
        session = engine.open_session(small_settings(max_shown_time_s=30.0, rebase_keep_s=8.0))
        heard: list[Any] = []
        for seen in moving(40):
            sight = engine.run(session.see(seen))
            heard.append((sight.score, sight.kind, sight.shown_time_s, sight.pruning.keep.tolist()))
            if asking:
                check = engine.run(session.check("Is there a red circle? " * (1 + seen.index % 7)))
                assert check.yes == (check.log_odds > 0)
            if seen.index % 7 == 0:
                job = Job(session.comment())
                engine.step([job])
                engine.step([job])
                job.cancel()
                if asking:
                    engine.run(session.check("Is it still there?"))
                heard.append(engine.run(session.cut()))
        return [heard, read(session, checkpoint), replace(session.usage, cache_bytes=0)], session

    plain, plain_session = run(False)
    asked, asked_session = run(True)
    for found, expected in zip(asked[0], plain[0], strict=True):
        if found is not None and hasattr(found, "first_token_at"):
            found, expected = (replace(said, first_token_at=None) for said in (found, expected))
        assert found == expected
    assert asked[1:] == plain[1:]
    for mine, theirs in zip(asked_session.context.cache.layers, plain_session.context.cache.layers, strict=True):
        assert torch.equal(mine.keys, theirs.keys) and torch.equal(mine.values, theirs.values)
    assert plain_session.usage.num_evictions > 0


def test_a_check_reads_yes_against_no(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 2)
    outputs: list[Output] = []
    check = engine.run(noting(session.check("Is it red?"), outputs))
    row = outputs[-1].logits[-1].log_softmax(-1)
    yes, no = engine._runtime.codec.yes_no
    odds = row[yes].exp().sum().log() - row[no].exp().sum().log()
    assert check.log_odds == pytest.approx(float(odds), abs=1e-4)


def test_instructions_are_pinned_and_replaced(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(), instruction="Tell me when a circle enters.")
    watch(engine, session, 3)
    engine.run(session.instruct("Tell me when it leaves."))
    text = read(session, checkpoint)
    assert "circle enters" not in text
    assert text.endswith("<|stream_end|><|im_start|>user\nTell me when it leaves.<|im_end|>\n")
    for seen in moving(60):
        engine.run(session.see(replace(seen, pts_s=seen.pts_s + 3)))
    assert session.usage.num_evictions > 0
    system = f"<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>\n"
    assert read(session, checkpoint).startswith(f"{system}<|im_start|>user\nTell me when it leaves.")
    engine.run(session.instruct(None))
    assert "Tell me" not in read(session, checkpoint)
    check_whole(session)


def test_an_instruction_whose_prefill_failed_comes_with_the_next_frame(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.open_session(small_settings(), instruction="Tell me when a circle enters.")
    watch(engine, session, 2)

    def failing(request: Forward) -> Output:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_forward", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.run(session.instruct("Tell me when it leaves."))
    engine.run(session.see(frame(picture(2), 2, 2.0)))
    text = read(session, checkpoint)
    assert text.count("Tell me when it leaves.") == 1 and "circle enters" not in text
    check_whole(session)


def test_nothing_goes_on_from_words_that_were_taken_out(engine: Engine) -> None:
    session = engine.open_session(small_settings(), instruction="Watch.")
    watch(engine, session, 1)
    engine.run(session.instruct(None))
    with pytest.raises(SessionError, match="append one before going on"):
        engine.run(session.continue_text(1))


@pytest.mark.parametrize("fps", [1.0, 2.0, 5.0])
def test_dense_vision_covers_sixteen_seconds_where_every_cell_changes(checkpoint: Checkpoint, fps: float) -> None:
    """The worst case: with the least windows that are not refused, whole frames alone, and talk between them."""
    least = math.ceil(16 * fps * (16 + FRAME_OVERHEAD_TOKENS))
    window = WindowSettings(vision_low=least, vision_high=least + 40, text_low=160, text_high=240)
    engine = Engine(replace(checkpoint, stream=small_settings()))
    rng = np.random.default_rng(0)
    lower = engine.open_session(small_settings(fps=fps, window=replace(window, vision_low=least - 1)))
    with pytest.raises(SettingsError, match=f"need at least {least} tokens"):
        engine.run(lower.see(frame(picture(0), 0, 0.0)))
    session = engine.open_session(small_settings(fps=fps, window=window))
    for index in range(int(40 * fps)):
        noise = rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)
        sight = engine.run(session.see(frame(noise, index, index / fps)))
        assert sight.pruning.keep.all(), "every cell changed"
        if index % 9 == 0:
            engine.run(session.answer("What is it?"))
        times = [span.time_s for span in session.context.ledger if span.is_seen_frame]
        assert len(times) >= min(index + 1, 16 * fps)
        assert times == [step / fps for step in range(index + 1 - len(times), index + 1)]
    assert session.usage.num_evictions > 2
    engine.close()


def test_windows_beyond_what_was_trained_are_refused_unless_chosen(checkpoint: Checkpoint) -> None:
    image = np.random.default_rng(0).integers(0, 255, (252, 448, 3), dtype=np.uint8)
    engine = Engine(replace(checkpoint, stream=StreamSettings()))
    with pytest.raises(SettingsError, match="fps 20 with 144 cells: .* lower fps or max_cells"):
        engine.run(engine.open_session(StreamSettings(fps=20.0)).see(frame(image, 0, 0.0)))
    chosen = StreamSettings(fps=20.0, window=WindowSettings(vision_low=60_000, vision_high=70_000))
    assert engine.run(engine.open_session(chosen).see(frame(image, 0, 0.0))).appended
    engine.close()


def test_long_talk_between_frames_takes_no_cell_of_a_still_view(engine: Engine, checkpoint: Checkpoint) -> None:
    """More text than the whole vision window between two frames, again and again."""
    script = Script(checkpoint, *["A red circle enters on the left. " * 6] * 200)
    session = engine.open_session(small_settings(speaking=replace(_long(), max_answer_tokens=100)), sampler=script)
    for index in range(12):
        engine.run(session.see(frame(picture(0), index, float(index))))
        for _ in range(6 * (index % 3)):
            engine.run(session.answer("What is it? " * 4))
            assert session.context.ledger.cells_in_view(16).all()
    assert session.context.ledger.num_appended > 10 * 512
    assert session.usage.text <= 240 + 60
    check_whole(session)


def test_gaps_are_told(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 2)
    engine.run(session.note_gap(12.34))
    assert "12.3 seconds" in read(session, checkpoint).rpartition("<|im_start|>user")[2]
    check_whole(session)


def test_forgetting_leaves_pinned_text_as_if_nothing_else_had_been(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(), instruction="Watch.")
    watch(engine, session, 4)
    engine.run(session.comment())
    engine.run(session.instruct("Watch the door."))
    engine.run(session.forget())
    fresh = engine.open_session(small_settings(), instruction="Watch the door.")
    for opened in (session, fresh):
        opened_sight = engine.run(opened.see(frame(picture(9), 9, 100.0)))
        assert opened_sight.kind is Kind.WHOLE and opened_sight.shown_time_s == 0.0
    assert read(session, checkpoint) == read(fresh, checkpoint)
    torch.testing.assert_close(last(session), last(fresh), atol=1e-5, rtol=0)


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
    """At each of its forward passes: a failure, or somebody's cancelling. Cache and ledger agree afterwards."""
    forward = engine._forward
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
            monkeypatch.setattr(engine, "_forward", failing)
            while not job.done:
                engine.step([job])
            monkeypatch.setattr(engine, "_forward", forward)
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


def test_another_size_is_another_view_and_memory_stays(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(max_cells=32))
    watch(engine, session, 3)
    for index in range(3, 8):
        sight = engine.run(session.see(frame(picture(index, (112, 224)), index, float(index))))
        assert sight.grid_changed == (index == 3)
        assert (sight.kind is Kind.WHOLE) == (index == 3)
        assert sight.grid.cols == 8 and session.grid == sight.grid
        assert session.context.ledger.cells_in_view(32).all()
    assert read(session, checkpoint).count("<image>") == 8
    back = engine.run(session.see(frame(picture(8), 8, 8.0)))
    assert back.grid_changed and back.kind is Kind.WHOLE and back.grid.num_cells == 16
    check_whole(session)


def test_windows_that_somebody_chose_are_refused_where_they_break_the_guarantees(checkpoint: Checkpoint) -> None:
    engine = Engine(replace(checkpoint, stream=small_settings()))
    small = WindowSettings(vision_low=100, vision_high=120, text_low=160, text_high=240)
    session = engine.open_session(small_settings(window=small))
    with pytest.raises(SettingsError, match="need at least 512 tokens"):
        engine.run(session.see(frame(picture(0), 0, 0.0)))
    checkpoint_small = replace(checkpoint, stream=small_settings(window=small))
    widened = Engine(checkpoint_small).open_session()
    engine.run(widened.see(frame(picture(0), 0, 0.0)))
    assert widened.context.ledger.window.vision_low == 512
    engine.close()


def test_unknown_pruning_is_refused(engine: Engine) -> None:
    session = engine.open_session(small_settings(pruning={"settle_s": 1.0, "nonsense": 3.0}))
    with pytest.raises(SettingsError, match="nonsense"):
        engine.run(session.see(frame(picture(0), 0, 0.0)))
    with pytest.raises(SettingsError, match="live, paper or none"):
        engine.open_session(small_settings(), pruning="lively")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["paper", "none"])
def test_other_prunings_append_every_frame(engine: Engine, mode: Any) -> None:
    session = engine.open_session(small_settings(), pruning=mode)
    sights = [engine.run(session.see(frame(picture(0), index, float(index)))) for index in range(4)]
    assert [int(sight.pruning.keep.sum()) for sight in sights] == ([16, 1, 1, 1] if mode == "paper" else [16] * 4)
    assert all(sight.appended for sight in sights)


def test_a_source_that_jumps_back_goes_on(engine: Engine) -> None:
    session = engine.open_session(small_settings())
    frames = [frame(picture(step), step, pts_s) for step, pts_s in enumerate([7.0, 8.0, 9.0, 7.0, 8.0])]
    assert [engine.run(session.see(seen)).time_s for seen in frames] == [0, 1, 2, 3, 4]


def test_attachments_take_a_quarter_and_leave_their_words_alone(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, "Two.", "Three."))
    watch(engine, session, 2)
    before, length = read(session, checkpoint), session.context.cache.length
    longest = 0

    def measured(steps: Steps[Any]) -> Steps[Any]:
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
