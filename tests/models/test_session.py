"""A session sees, speaks, answers and checks from one memory, which stays consistent in every case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint.loader import Checkpoint
from models.checkpoint.settings import SpeakingSettings
from models.engine import Engine
from models.errors import SessionError, SettingsError
from models.prompt import DEFAULT_SYSTEM
from models.session.session import Session
from models.session.steps import Forward, Job, Output
from models.session.stream_time import StreamTime
from models.spans import SpanKind
from streaming.difffp.live import Kind
from tests.models.streams import (
    Script,
    check_whole,
    each,
    frame,
    last,
    moving,
    noting,
    picture,
    read,
    recomputed,
    single,
    small_settings,
    watch,
)


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
    """Until the first eviction, in any chunking, with yes/no forks in between."""
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


def test_a_stream_that_starts_late_gives_the_same(engine: Engine, checkpoint: Checkpoint) -> None:
    settings = small_settings(max_shown_time_s=30.0, rebase_keep_s=8.0)
    heard = []
    for start_s in (0.0, 1e6 + 0.05):
        session = engine.open_session(settings)
        sights = []
        # Still for 2 s repeatedly, which is how long a scene takes to settle.
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


def test_a_rebase_that_failed_is_told_with_the_next_frame(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = engine.open_session(small_settings(max_shown_time_s=20.0, rebase_keep_s=6.0))
    watch(engine, session, 20)
    forward = single(engine)

    def failing(request: Forward) -> Output:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine, "_forward", each(failing))
    with pytest.raises(RuntimeError):
        engine.run(session.see(frame(picture(21), 21, 21.0)))
    monkeypatch.setattr(engine, "_forward", each(forward))
    sights = watch(engine, session, 2, first=22)
    assert [sight.rebased for sight in sights] == [True, False] and session.usage.num_rebases == 1
    assert any("older" in eviction.reason for eviction in sights[0].evictions)


def test_a_still_scene_is_whole_again_after_a_rebase(engine: Engine) -> None:
    """Cells that only frames from before the rebase held are kept again."""
    session = engine.open_session(small_settings(max_shown_time_s=20.0, rebase_keep_s=2.0))
    for index in range(50):
        engine.run(session.see(frame(picture(0), index, float(index))))
        assert session.context.ledger.cells_in_view(16).all()
    assert session.usage.num_rebases > 1


def test_what_a_rebase_would_take_is_kept_anew_before_it_little_by_little(engine: Engine) -> None:
    """If one frame were all that is left, an unchanged scene would look like another one."""
    session = engine.open_session(small_settings(max_shown_time_s=40.0, rebase_keep_s=20.0))
    sights = []
    for index in range(120):
        sights.append(engine.run(session.see(frame(picture(0), index, float(index)))))
        assert session.context.ledger.cells_in_view(16).all()
    rebased = [index for index, sight in enumerate(sights) if sight.rebased]
    kept = np.array([int(sight.pruning.keep.sum()) for sight in sights])
    assert len(rebased) >= 3 and kept[0] == 16
    assert (kept[rebased] == 0).all()
    assert kept[1:].max() <= 4
    for index in rebased:
        assert 16 <= kept[index - 17 : index].sum() <= 24


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
    row = outputs[-1].branches[0][-1].log_softmax(-1)
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


def test_a_checkpoint_that_judges_its_drafts_is_not_shown_instructions(engine: Engine) -> None:
    settings = small_settings()
    judging = replace(settings, speaking=replace(settings.speaking, remark_check="{instruction} {remark}"))
    session = engine.open_session(judging, instruction="Tell me all.")
    engine.run(session.see(frame(picture(0), 0, 0.0)))
    engine.run(session.instruct("Tell me nothing."))
    assert not any(span.kind is SpanKind.INSTRUCTION for span in session.context.ledger)


@pytest.mark.parametrize("template", ["{instruction}", "{remark} {instruction} {more}", "{", "{}"])
def test_a_remark_check_names_the_instruction_and_the_remark(template: str) -> None:
    with pytest.raises(SettingsError, match="remark_check"):
        SpeakingSettings(remark_check=template)


def test_an_instruction_whose_prefill_failed_comes_with_the_next_frame(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.open_session(small_settings(), instruction="Tell me when a circle enters.")
    watch(engine, session, 2)

    def failing(request: Forward) -> Output:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_forward", each(failing))
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


def test_gaps_are_told(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 2)
    engine.run(session.note_gap(12.34))
    assert "12.3 seconds" in read(session, checkpoint).rpartition("<|im_start|>user")[2]
    check_whole(session)


def test_memory_outlives_an_hour_without_a_picture(engine: Engine, checkpoint: Checkpoint) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 4)
    before = session.usage.vision
    engine.run(session.note_gap(3600.0))
    sight = watch(engine, session, 1, start_s=3599.0, first=4)[0]
    assert not sight.rebased and sight.shown_time_s == 13.0, "three seconds, and ten of the gap"
    assert session.usage.vision > before
    assert "3600.0 seconds" in read(session, checkpoint)
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


def test_unknown_pruning_is_refused(engine: Engine) -> None:
    with pytest.raises(SettingsError, match="nonsense"):
        small_settings(pruning={"settle_s": 1.0, "nonsense": 3.0})
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
