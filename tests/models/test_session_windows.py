"""A session's window is complete and bounded for any input, and refused where it cannot be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint.loader import Checkpoint
from models.checkpoint.settings import SpeakingSettings, StreamSettings
from models.engine import Engine
from models.errors import SettingsError, VisionError
from models.eviction import WindowSettings
from models.session.context import PREFILL_TOKENS_CPU, chunks_on
from models.session.session import Session
from models.session.steps import Forward, Output
from streaming.difffp.live import Kind
from streaming.difffp.refresh import FRAME_OVERHEAD_TOKENS
from tests.models.streams import (
    Script,
    check_whole,
    each,
    frame,
    moving,
    picture,
    read,
    single,
    small_settings,
    watch,
)


@pytest.mark.parametrize("seed", range(3))
def test_the_window_is_complete_at_every_frame(engine: Engine, checkpoint: Checkpoint, seed: int) -> None:
    """Each cell of the view has a token made from pixels within the threshold of the current picture."""
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
    """The newest token of each cell is the one that pruning compares with, and shows about the current picture."""
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
        # Bare wrappers of frames before surviving turns count in addition to the text window.
        assert sizes[-1].num_tokens <= settings.window.capacity + sizes[-1].pinned + 200
    assert sizes[-1].num_evictions > 10
    assert max(usage.cache_bytes for usage in sizes[60:]) == sizes[60].cache_bytes
    check_whole(session)


def test_prefills_come_in_passes_that_a_processor_has_room_for(engine: Engine) -> None:
    """A pass needs memory for its tokens times the cache's; passes of 1,024 changed memory by 17 MiB."""
    sizes: list[int] = []
    forward = single(engine)

    def noted(request: Forward) -> Output:
        sizes.append(len(request.embeddings))
        return forward(request)

    session = engine.open_session(small_settings(window=WindowSettings(1000, 1200, 1000, 1200)))
    engine._forward = each(noted)  # type: ignore[assignment, method-assign]
    engine.run(session.feed_text([5] * 700))
    assert max(sizes) == PREFILL_TOKENS_CPU and sum(sizes) > 700
    sizes.clear()
    engine.run(session.forget())
    assert sum(sizes) < PREFILL_TOKENS_CPU
    assert chunks_on(torch.device("cuda"))(2500) == [1024, 1024, 452]


def test_windows_that_grow_with_the_rate_are_told_once(checkpoint: Checkpoint) -> None:
    engine = Engine(replace(checkpoint, stream=small_settings()))
    quick = engine.open_session(replace(small_settings(), fps=4.0))
    sights = watch(engine, quick, 2)
    assert sights[0].widened == quick.context.ledger.window != small_settings().window and sights[1].widened is None
    assert watch(engine, engine.open_session(), 1)[0].widened is None
    engine.close()


def test_another_rate_in_the_middle_widens_the_window_and_keeps_the_memory(checkpoint: Checkpoint) -> None:
    engine = Engine(replace(checkpoint, stream=small_settings()))
    session, asked_for = engine.open_session(), engine.open_session(replace(small_settings(), fps=4.0))
    watch(engine, session, 3)
    num_tokens = session.usage.num_tokens
    engine.run(session.expect(4.0))
    assert session.usage.num_tokens == num_tokens
    sight = engine.run(session.see(frame(picture(3), 3, 3.0)))
    watch(engine, asked_for, 1)
    assert sight.widened == session.context.ledger.window == asked_for.context.ledger.window
    assert sight.pruning.keep.all(), "the view begins anew"
    with pytest.raises(SettingsError, match="lower fps"):
        engine.run(session.expect(30.0))
    assert session.settings.fps == 4.0
    check_whole(session)
    engine.close()


@pytest.mark.parametrize(
    ("size_px", "changes", "rule"),
    [
        ((27, 100), {}, "27 x 100 px: each side needs at least 28 px"),
        ((4000, 100), {}, "one side may be at most 16 times the other"),
        ((112, 112), {"window": WindowSettings(100, 120, 160, 240)}, "need at least 512 tokens"),
    ],
)
def test_what_a_first_picture_would_be_refused_for_is_known_before_it(
    checkpoint: Checkpoint, size_px: tuple[int, int], changes: dict[str, Any], rule: str
) -> None:
    engine = Engine(replace(checkpoint, stream=small_settings()))
    session = engine.open_session(small_settings(**changes))
    with pytest.raises((SettingsError, VisionError), match=rule):
        session.check_size(*size_px)
    engine.open_session(small_settings()).check_size(448, 28)
    assert session.grid is None and session.usage.num_tokens == 0
    engine.close()


@pytest.mark.parametrize("fps", [1.0, 2.0, 5.0])
def test_dense_vision_covers_sixteen_seconds_where_every_cell_changes(checkpoint: Checkpoint, fps: float) -> None:
    """The worst case: the smallest windows that are accepted, whole frames only, and turns between them."""
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
    """More text than the whole vision window between two frames, several times."""
    script = Script(checkpoint, *["A red circle enters on the left. " * 6] * 200)
    speaking = SpeakingSettings(max_comment_tokens=64, max_answer_tokens=100)
    session = engine.open_session(small_settings(speaking=speaking), sampler=script)
    for index in range(12):
        engine.run(session.see(frame(picture(0), index, float(index))))
        for _ in range(6 * (index % 3)):
            engine.run(session.answer("What is it? " * 4))
            assert session.context.ledger.cells_in_view(16).all()
    assert session.context.ledger.num_appended > 10 * 512
    assert session.usage.text <= 240 + 60
    check_whole(session)


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


def test_only_live_streams_get_pictures_that_are_resized_in_two_steps(checkpoint: Checkpoint) -> None:
    engine = Engine(checkpoint)
    assert [engine.open_session(pruning=mode).fitter.is_exact for mode in ("live", "paper", "none")] == [
        False,
        True,
        True,
    ]
