"""The rules of DiffFP: the published one to the bit, and the frames and cells that live pruning keeps."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from streaming.difffp.live import CellGrid, Kind, LiveDiffFP, LiveSettings, PaperDiffFP, clip_mask
from streaming.errors import OptionError
from tests.streaming.difffp_cases import WRAPPER_TOKENS, flat, live, patches_of, sensor, textured, watch

GOLDEN = Path(__file__).parent.parent / "golden"
GRID = CellGrid(rows=5, cols=8)
NOTHING = np.zeros(GRID.num_cells, dtype=bool)


def paper_masks(frames: list[torch.Tensor], grid: CellGrid) -> torch.Tensor:
    pruner = PaperDiffFP(grid)
    return torch.cat([pruner.push(patches) for patches in frames])


@given(
    rows=st.integers(1, 4),
    cols=st.integers(1, 4),
    merge=st.sampled_from([1, 2]),
    num_frames=st.integers(1, 6),
    noise_levels=st.sampled_from([0.0, 0.04, 0.05, 0.06, 0.1, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_frame_by_frame_equals_the_whole_clip(
    rows: int, cols: int, merge: int, num_frames: int, noise_levels: float, seed: int
) -> None:
    grid = CellGrid(rows, cols, merge)
    generator = torch.Generator().manual_seed(seed)
    still = torch.randn(grid.num_patches, grid.patch_dim, generator=generator)
    step = noise_levels / 127.5
    frames = [still + step * torch.randn(still.shape, generator=generator) for _ in range(num_frames)]
    pieces, whole = paper_masks(frames, grid), clip_mask(torch.cat(frames), grid, num_frames)
    assert torch.equal(pieces, whole)
    per_frame = pieces.view(num_frames, -1)
    assert per_frame[0].all() and per_frame.any(dim=1).all()


@pytest.mark.parametrize("checkpoint", ["tied", "untied"])
@pytest.mark.parametrize("case", ["exact", "noisy", "static", "resized"])
def test_the_published_masks_come_out_to_the_bit(checkpoint: str, case: str) -> None:
    path = GOLDEN / checkpoint / f"stream_{case}.safetensors"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    stored = load_file(path)
    num_frames, rows, cols = stored["grid_thw"].tolist()
    merge = int(stored["merge_size"])
    grid = CellGrid(rows // merge, cols // merge, merge)
    if case == "resized":
        frames = list(stored["pixel_values"].float().split(grid.num_patches))
    else:
        frames = [patches_of(picture, grid) for picture in stored["frames"].numpy()]
    expected = stored["compression_mask"]
    assert torch.equal(paper_masks(frames, grid), expected)
    assert torch.equal(clip_mask(torch.cat(frames), grid, num_frames), expected)


def test_the_published_rule_keeps_the_first_cell_of_a_frame_where_nothing_moved() -> None:
    picture = patches_of(flat(GRID).astype(np.uint8), GRID)
    pruner = PaperDiffFP(GRID)
    assert pruner.push(picture).all()
    assert pruner.push(picture).nonzero().flatten().tolist() == [0]
    pruner.reset()
    assert pruner.push(picture).all()


def test_pushing_does_not_hold_on_to_the_callers_patches() -> None:
    patches = patches_of(flat(GRID).astype(np.uint8), GRID)
    paper, kept = PaperDiffFP(GRID), live(GRID)
    paper.push(patches)
    kept.push(patches, 0.0, tokens_before=0)
    patches += 1.0
    assert paper.push(patches).all()
    assert kept.push(patches, 0.5, tokens_before=60).changed.all()


def test_still_frames_settle_then_fall_silent_but_for_heartbeats() -> None:
    picture = flat(GRID).astype(np.uint8)
    decisions = watch(live(GRID), GRID, [picture] * 24)
    kinds = [decision.kind for decision in decisions]
    silence = [Kind.SKIPPED] * 7
    assert kinds[:5] == [Kind.WHOLE] + [Kind.SETTLING] * 4
    assert kinds[5:21] == [*silence, Kind.HEARTBEAT, *silence, Kind.HEARTBEAT]
    for decision in decisions[1:]:
        assert decision.appended == (decision.kind is not Kind.SKIPPED)
        assert decision.refreshed.any() == decision.appended and not decision.changed.any()


def test_a_change_is_followed_by_settling_frames_again() -> None:
    before = flat(GRID).astype(np.uint8)
    after = before.copy()
    after[28:56, 56:84] += 40
    decisions = watch(live(GRID), GRID, [before] * 12 + [after] * 6)
    assert decisions[12].kind is Kind.CHANGED
    assert np.flatnonzero(decisions[12].changed).tolist() == [GRID.cols + 2]
    assert [decision.kind for decision in decisions[13:]] == [Kind.SETTLING] * 4 + [Kind.SKIPPED]


def test_time_that_jumps_back_neither_silences_nor_settles_for_ever() -> None:
    picture = flat(GRID).astype(np.uint8)
    pruner = live(GRID)
    watch(pruner, GRID, [picture] * 12, since_s=1000.0)
    kinds = [decision.kind for decision in watch(pruner, GRID, [picture] * 12)]
    assert kinds == [Kind.HEARTBEAT, *[Kind.SKIPPED] * 7, Kind.HEARTBEAT, *[Kind.SKIPPED] * 3]


def test_what_is_kept_is_what_changed_or_was_refreshed() -> None:
    rng = np.random.default_rng(3)
    scene = textured(GRID, rng)
    pictures = []
    for index in range(40):
        moved = scene.copy()
        moved[40:80, 4 * index : 4 * index + 30] += 30
        pictures.append(sensor(moved, 2, rng))
    for decision in watch(live(GRID, window_frames=8), GRID, pictures):
        assert np.array_equal(decision.keep, decision.changed | decision.refreshed)
        assert not (decision.changed & decision.refreshed).any()
        assert decision.appended == bool(decision.keep.any())


def test_whole_frames_on_a_new_grid_and_on_request() -> None:
    pruner = live(GRID)
    watch(pruner, GRID, [flat(GRID).astype(np.uint8)] * 4)
    pruner.keep_next_whole()
    first, second = watch(pruner, GRID, [flat(GRID).astype(np.uint8)] * 2)
    assert first.kind is Kind.WHOLE and first.changed.all() and not first.refreshed.any()
    assert second.kind is Kind.SETTLING
    turned = CellGrid(rows=8, cols=5)
    pruner.reset_grid(turned)
    decisions = watch(pruner, turned, [flat(turned).astype(np.uint8)] * 2)
    assert [decision.kind for decision in decisions] == [Kind.WHOLE, Kind.SETTLING]
    assert decisions[0].keep.shape == (turned.num_cells,) and pruner.noise_levels == 0


def test_cells_that_the_caller_loses_are_refreshed_at_once() -> None:
    picture = patches_of(flat(GRID).astype(np.uint8), GRID)
    pruner = live(GRID)
    for index in range(6):
        decision = pruner.push(picture, index / 2, tokens_before=60)
    assert decision.kind is Kind.SKIPPED
    lost = NOTHING.copy()
    lost[17] = True
    decision = pruner.push(picture, 3.0, tokens_before=60, must_keep=lost)
    assert decision.kind is Kind.HEARTBEAT and decision.refreshed[17] and not decision.changed.any()


def test_ages_are_counted_in_tokens() -> None:
    picture = patches_of(flat(GRID).astype(np.uint8), GRID)
    pruner = live(GRID)
    pruner.push(picture, 0.0, tokens_before=100)
    assert (pruner.ages_tokens(160) == 60).all()
    decision = pruner.push(picture, 0.5, tokens_before=160)
    assert (pruner.ages_tokens(180)[decision.refreshed] == 20).all()
    assert (pruner.ages_tokens(180)[~decision.refreshed] == 80).all()


def test_a_burst_of_text_brings_the_refresh_forward() -> None:
    picture = patches_of(flat(GRID).astype(np.uint8), GRID)
    pruner = live(GRID, window_frames=8)
    tokens = 0
    for index in range(8):
        decision = pruner.push(picture, index / 2, tokens_before=tokens)
        tokens += decision.appended * (int(decision.keep.sum()) + WRAPPER_TOKENS)
    assert decision.kind is Kind.SKIPPED
    decision = pruner.push(picture, 4.0, tokens_before=tokens + 8 * GRID.num_cells)
    assert decision.kind is Kind.HEARTBEAT and decision.refreshed.all()


@pytest.mark.slow
def test_what_pruning_keeps_does_not_grow_up_to_day_three() -> None:
    rng = np.random.default_rng(4)
    scene, pruner, sizes = textured(GRID, rng), live(GRID), []
    for hour in (0, 1, 71):
        shown = [sensor(scene + 0.2 * index, 2, rng) for index in range(150)]
        watch(pruner, GRID, shown, since_s=3600.0 * hour)
        sizes.append(len(pickle.dumps(pruner)))
    assert abs(sizes[2] - sizes[1]) < 100


def test_a_clock_in_the_corner_is_found_hot_and_a_moving_camera_is_not() -> None:
    rng = np.random.default_rng(5)
    scene = textured(GRID, rng)
    clock = live(GRID)
    pictures = []
    for _ in range(60):
        picture = sensor(scene, 2, rng)
        picture[:28, -56:] = rng.integers(0, 2, (28, 56, 1)) * 255
        pictures.append(picture)
    watch(clock, GRID, pictures[:20])
    assert not clock.hot_cells().any(), "too little was seen"
    watch(clock, GRID, pictures, since_s=10.0)
    assert np.flatnonzero(clock.hot_cells()).tolist() == [GRID.cols - 2, GRID.cols - 1]
    camera = live(GRID)
    watch(camera, GRID, [np.roll(sensor(scene, 2, rng), 20 * index, axis=1) for index in range(60)])
    assert not camera.hot_cells().any()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: CellGrid(rows=0, cols=4), "rows=0"),
        (lambda: LiveSettings(window_low_tokens=0), "window_low_tokens=0"),
        (lambda: LiveSettings(window_low_tokens=1000, settle_s=-1.0), "settle_s=-1.0"),
        (lambda: LiveSettings(window_low_tokens=1000, heartbeat_s=float("nan")), "heartbeat_s=nan"),
        (lambda: LiveSettings(window_low_tokens=1000, colour_levels=0.0), "colour_levels=0.0"),
        (lambda: live(GRID, window_frames=7), "at least 320"),
        (lambda: LiveDiffFP(GRID, LiveSettings(window_low_tokens=1000), (0.5, 0.0, 0.5)), "std=(0.5, 0.0, 0.5)"),
        (lambda: live(GRID).push(torch.zeros(4, 588), 0.0, tokens_before=0), "(4, 588)"),
        (lambda: PaperDiffFP(GRID).push(torch.zeros(4, 588)), "(4, 588)"),
        (lambda: clip_mask(torch.zeros(160, 588), GRID, 2), "(160, 588)"),
    ],
)
def test_refusals_name_the_value(make: object, named: str) -> None:
    assert callable(make)
    with pytest.raises(OptionError) as refused:
        make()
    assert named in str(refused.value)


def test_std_turns_differences_into_grey_levels() -> None:
    ground = flat(GRID).astype(np.uint8)
    lighter = ground.copy()
    lighter[:28, :28] += 12
    for std, expected in ((0.5, True), (0.25, False)):
        pruner = LiveDiffFP(GRID, LiveSettings(window_low_tokens=1000), (std,) * 3)
        pruner.push(patches_of(ground, GRID), 0.0, tokens_before=0)
        decision = pruner.push(patches_of(lighter, GRID), 0.5, tokens_before=60)
        assert decision.changed.any() == expected, std


@pytest.mark.needs_gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_decides_as_the_cpu_does() -> None:
    rng = np.random.default_rng(6)
    scene = textured(GRID, rng)
    cpu, gpu = live(GRID), live(GRID)
    for index in range(20):
        shown = scene.copy()
        shown[28:56, 6 * index : 6 * index + 28] += 24
        patches = patches_of(sensor(shown, 2, rng), GRID)
        expected = cpu.push(patches, index / 2, tokens_before=50 * index)
        found = gpu.push(patches.cuda(), index / 2, tokens_before=50 * index)
        assert found.kind is expected.kind and np.array_equal(found.keep, expected.keep)
