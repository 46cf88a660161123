"""The window is complete: at any time it has, for each cell, a token that shows what the camera shows now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.difffp.live import CellGrid, LiveDiffFP, LiveSettings, PaperDiffFP
from streaming.difffp.refresh import RefreshClock, least_window_tokens
from tests.streaming.difffp_cases import (
    STD,
    WRAPPER_TOKENS,
    Ledger,
    flat,
    patches_of,
    sensor,
    size_px,
    textured,
)

GRIDS = [CellGrid(rows=5, cols=8), CellGrid(rows=6, cols=10), CellGrid(rows=2, cols=2)]


@dataclass(frozen=True)
class Scenario:
    """What the camera sees, and how much text is appended meanwhile."""

    grid: CellGrid
    seed: int
    window_frames: int
    sigma: float
    drift_levels: float
    """A frame."""
    speed_px: float
    burst_share: float
    """Of the frames, those in which the whole picture changes."""
    text_share: float
    text_tokens: int


scenarios = st.builds(
    Scenario,
    grid=st.sampled_from(GRIDS),
    seed=st.integers(0, 2**32 - 1),
    window_frames=st.integers(8, 24),
    sigma=st.sampled_from([0.0, 1.0, 4.0, 8.0]),
    drift_levels=st.sampled_from([0.0, 0.1, 1.0]),
    speed_px=st.sampled_from([0.0, 0.5, 5.0, 40.0]),
    burst_share=st.sampled_from([0.0, 0.05, 0.6]),
    text_share=st.sampled_from([0.0, 0.1, 0.5]),
    text_tokens=st.sampled_from([1, 30, 400]),
)


def pictures_of(scenario: Scenario, num_frames: int) -> list[np.ndarray]:
    grid, rng = scenario.grid, np.random.default_rng(scenario.seed)
    grounds, (height, width) = [textured(grid, rng) for _ in range(3)], size_px(grid)
    pictures, ground = [], grounds[0]
    for index in range(num_frames):
        if rng.random() < scenario.burst_share:
            ground = grounds[index % 3]
        shown = ground + 30 * np.sin(scenario.drift_levels * index / 30)
        top, left = (int(scenario.speed_px * index * side) % length for side, length in ((0.6, height), (0.8, width)))
        shown[top : top + 28, left : left + 28] += 24
        pictures.append(sensor(shown, scenario.sigma, rng))
    return pictures


def staleness(now: torch.Tensor, then: torch.Tensor) -> tuple[float, float]:
    """How far the patches of one cell are from what they were: the largest mean and the largest rms around it."""
    difference = (now - then) * 127.5
    mean = difference.mean(dim=1, keepdim=True)
    return float(mean.abs().max()), float((difference - mean).square().mean(dim=1).sqrt().max())


@pytest.mark.slow
@given(scenario=scenarios)
@settings(max_examples=12, deadline=None)
def test_every_cell_has_a_true_token_at_every_frame(scenario: Scenario) -> None:
    grid, rng = scenario.grid, np.random.default_rng(scenario.seed)
    least = least_window_tokens(grid.num_cells)
    limits = LiveSettings(window_low_tokens=max(scenario.window_frames * grid.num_cells, least))
    pruner, ledger = LiveDiffFP(grid, limits, STD), Ledger(grid.num_cells, limits.window_low_tokens)
    seen: list[torch.Tensor] = []
    for index, picture in enumerate(pictures_of(scenario, 90)):
        patches = patches_of(picture, grid)
        seen.append(patches.view(grid.num_cells, grid.merge**2, -1))
        decision = pruner.push(patches, index / 2, tokens_before=ledger.total)
        if decision.appended:
            ledger.append_frame(index, decision.keep)
        newest = ledger.newest()
        assert (newest >= 0).all(), f"cells {np.flatnonzero(newest < 0)} have no token at frame {index}"
        for cell in rng.choice(grid.num_cells, 4):
            mean, rms = staleness(seen[index][cell], seen[newest[cell]][cell])
            assert mean <= limits.exposure_levels and rms <= 13 + 1.5 * scenario.sigma, (index, cell)
        if rng.random() < scenario.text_share:
            ledger.append_text(int(rng.integers(1, scenario.text_tokens + 1)))


def test_the_published_rule_loses_a_still_background() -> None:
    """What the test above is about: the same ledger without a refresh."""
    grid = GRIDS[0]
    pruner, ledger = PaperDiffFP(grid), Ledger(grid.num_cells, 8 * grid.num_cells)
    for index in range(60):
        ledger.append_frame(index, pruner.push(patches_of(flat(grid).astype(np.uint8), grid)).numpy())
    assert (ledger.newest() < 0).sum() == grid.num_cells - 1


@given(
    num_cells=st.integers(1, 200),
    window_frames=st.integers(8, 40),
    change_share=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    burst_share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    text_tokens=st.sampled_from([0, 10, 60]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_tokens_are_renewed_well_before_they_leave(
    num_cells: int, window_frames: int, change_share: float, burst_share: float, text_tokens: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    low = max(window_frames * num_cells, least_window_tokens(num_cells))
    clock, tokens, oldest = RefreshClock(num_cells, low), 0, 0
    for index in range(200):
        changed = rng.random(num_cells) < change_share * (rng.random() < burst_share)
        keep = changed | clock.due(tokens) | (index == 0)
        clock.record_frame(keep, tokens)
        tokens += int(keep.sum()) + WRAPPER_TOKENS + int(rng.integers(0, text_tokens + 1))
        oldest = max(oldest, int(clock.ages(tokens).max()))
    assert oldest <= 0.82 * low + text_tokens


@pytest.mark.parametrize("num_cells", [40, 144])
def test_the_refresh_costs_its_share_and_no_more(num_cells: int) -> None:
    """Nothing changes: a whole view is renewed within the window, and each frame's part is even."""
    clock, tokens = RefreshClock(num_cells, 20 * num_cells), 0
    counts: list[int] = []
    clock.record_frame(np.ones(num_cells, dtype=bool), 0)
    for _ in range(300):
        tokens += (counts[-1] if counts else num_cells) + WRAPPER_TOKENS
        due = clock.due(tokens)
        clock.record_frame(due, tokens)
        counts.append(int(due.sum()))
    assert max(counts[20:]) - min(counts[20:]) <= 1
    assert max(counts[20:]) <= 3
