"""What a step of the model takes beside caches stays within its computed bound, and the bound is not idle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from models.checkpoint.fake import FakeSizes, make_checkpoint
from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.engine import Engine
from models.session.context import PREFILL_TOKENS_CPU
from models.session.steps import Forward
from models.session.working_memory import pass_bytes, picture_bytes
from tests.models.streams import frame, picture, small_settings

SIZES = (
    FakeSizes(),
    FakeSizes(hidden=64, layers=2, heads=8, key_value_heads=1, vision_hidden=48, vision_layers=1, vision_heads=4),
    FakeSizes(hidden=128, layers=1, heads=4, key_value_heads=4, vision_hidden=96, vision_layers=2, vision_heads=2),
)


def peak_bytes(work: Callable[[], Any]) -> int:
    """The most memory that torch allocated on the CPU at once during `work`, beyond what it had at the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    assert profiled.profiler is not None and profiled.profiler.kineto_results is not None
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        most = max(most, total)
    assert most > 0, "the profiler counts no memory"
    return most


@pytest.fixture(params=range(len(SIZES)), ids=lambda index: f"hidden {SIZES[index].hidden}")
def sized(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoint:
    return load_checkpoint(make_checkpoint(tmp_path / "made", sizes=SIZES[request.param]), progress=False)


@pytest.mark.parametrize("num_context", [40, 300, 2000, 6000])
def test_a_forward_pass_and_an_eviction_stay_within_their_bound(sized: Checkpoint, num_context: int) -> None:
    engine, limit = Engine(sized), pass_bytes(sized, num_context)
    cache = engine._runtime.new_cache(num_context)
    hidden = sized.model.model.language_model.config.hidden_size
    with torch.inference_mode():
        embeddings = torch.randn(num_context, hidden)
        for part in embeddings.split(PREFILL_TOKENS_CPU):
            engine.serve([Forward(cache, part, "last")])
        last = min(PREFILL_TOKENS_CPU, num_context)
        cache.truncate(num_context - last)
        peak = peak_bytes(lambda: engine.serve([Forward(cache, embeddings[-last:], "last")]))
        assert peak <= limit <= 4 * peak
        assert peak_bytes(lambda: cache.keep(np.arange(1, num_context))) <= limit


@pytest.mark.parametrize("merge", [1, 2])
@pytest.mark.parametrize("side", [8, 30])
def test_encoding_a_picture_stays_within_its_bound_whole_and_in_slices(
    sized: Checkpoint, merge: int, side: int
) -> None:
    engine = Engine(sized)
    image = np.random.default_rng(0).integers(0, 256, (14 * side, 28 * side, 3), dtype=np.uint8)
    grid = sized.vision.fit_grid(28 * side, 14 * side, merge=merge)
    limit = picture_bytes(sized, grid.num_patches)

    def encode(most: float) -> None:
        pieces = engine._runtime.encoder.pieces(sized.vision.patches(image, grid), grid, most)
        while next(pieces, None) is not None:
            pass

    with torch.inference_mode():
        for most in (1e9, grid.num_patches / 3):
            peak = peak_bytes(lambda most=most: encode(most))  # type: ignore[misc]
            assert peak <= limit <= 4 * peak


def test_all_that_a_session_does_stays_within_both_bounds(sized: Checkpoint) -> None:
    engine, settings = Engine(sized), small_settings()
    limit = engine.session_bytes(settings) + engine.working_bytes(settings)

    def live() -> None:
        session = engine.open_session(settings)
        for step in range(40):
            engine.run(session.see(frame(picture(step), step, float(step)), speak_above=-1e9))
        engine.run(session.answer("What?", [picture(3, (300, 400))], max_tokens=8))
        engine.run(session.note_gap(5.0))
        assert session.usage.num_evictions > 0

    assert peak_bytes(live) <= limit


def test_a_question_outside_any_session_stays_within_both_bounds(sized: Checkpoint) -> None:
    engine = Engine(sized)
    images = [np.random.default_rng(1).integers(0, 256, (600, 800, 3), dtype=np.uint8)]
    limit = engine.ask_bytes("What?", images) + engine.ask_working_bytes("What?", images)
    assert peak_bytes(lambda: engine.run(engine.ask("What?", images, max_tokens=4))) <= limit
    assert engine.ask_working_bytes("What?", images) > engine.ask_working_bytes("What?")


def test_where_attention_is_not_fused_its_scores_count(sized: Checkpoint) -> None:
    elsewhere = replace(sized, device=torch.device("mps"))
    num_heads = sized.model.model.language_model.config.num_attention_heads
    assert pass_bytes(elsewhere, 4000) - pass_bytes(sized, 4000) >= num_heads * PREFILL_TOKENS_CPU * 4000 * 4
    assert picture_bytes(elsewhere, 4000) > picture_bytes(sized, 4000) + 4000**2
