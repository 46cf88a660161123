"""Live pruning tells noise from change: still scenes, exposure, H.264, and moving objects."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from streaming.difffp.live import CellGrid, Kind
from tests.streaming.difffp_cases import (
    CODED_FPS,
    SAMPLED_FPS,
    WARM_UP,
    WRAPPER_TOKENS,
    cells_of,
    coverage,
    flat,
    h264,
    live,
    patches_of,
    sampled,
    sensor,
    share_changed,
    size_px,
    textured,
    watch,
)

GRID = CellGrid(rows=5, cols=8)
GRIDS = [GRID, CellGrid(rows=9, cols=16)]
MOST_CHANGED = 0.01
"""The requirement is 5 %; this tighter limit leaves room for other seeds."""


def ground_of(name: str, grid: CellGrid, rng: np.random.Generator) -> np.ndarray:
    if name == "flat":
        return flat(grid)
    ground = textured(grid, rng, contrast=40)
    if name == "half":
        ground[:, : ground.shape[1] // 2] = 120
    return ground


@pytest.mark.slow
@pytest.mark.parametrize("ground", ["flat", "textured"])
@pytest.mark.parametrize("sigma", [1, 2, 4, 8])
@pytest.mark.parametrize("grid", GRIDS, ids=["40 cells", "144 cells"])
def test_gaussian_noise_is_not_change(grid: CellGrid, sigma: float, ground: str) -> None:
    rng = np.random.default_rng(11)
    scene = ground_of(ground, grid, rng)
    pruner = live(grid)
    decisions = watch(pruner, grid, (sensor(scene, sigma, rng) for _ in range(50)))
    assert share_changed(decisions) <= MOST_CHANGED
    assert pruner.noise_levels == pytest.approx(sigma, rel=0.15)


def test_noise_that_grows_with_the_light_is_not_change() -> None:
    rng = np.random.default_rng(12)
    scene = textured(GRID, rng, contrast=50)
    decisions = watch(live(GRID), GRID, (sensor(scene, 6, rng, by_signal=True) for _ in range(60)))
    assert share_changed(decisions) <= MOST_CHANGED


def test_the_second_frame_already_knows_the_noise() -> None:
    rng = np.random.default_rng(13)
    for sigma in (1, 2, 4, 8):
        scene = textured(GRID, rng)
        decisions = watch(live(GRID), GRID, (sensor(scene, sigma, rng) for _ in range(4)))
        assert sum(int(decision.changed.sum()) for decision in decisions[1:]) <= 1, sigma


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ground", "sigma", "gop"),
    [("half", 1, 50), ("half", 2, 50), ("half", 4, 50), ("half", 8, 50), ("textured", 4, 50), ("textured", 2, 250)],
)
def test_h264_of_a_still_scene_is_not_change(ground: str, sigma: float, gop: int) -> None:
    rng = np.random.default_rng(14)
    scene = ground_of(ground, GRID, rng)
    pictures = h264((sensor(scene, sigma, rng) for _ in range(16 * CODED_FPS)), gop=gop)
    assert share_changed(watch(live(GRID), GRID, sampled(pictures))) <= 2 * MOST_CHANGED


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["added", "gain"])
@pytest.mark.parametrize("sigma", [0, 8])
def test_slow_exposure_is_not_change_and_its_tokens_stay_fresh(kind: str, sigma: float) -> None:
    """Ten grey levels over a minute, for two minutes."""
    rng = np.random.default_rng(15)
    scene = 0.8 * textured(GRID, rng)
    pruner, tokens = live(GRID), 0
    kept_drift, changed = np.zeros(GRID.num_cells), []
    for index in range(240):
        drift = 10 * index / 120
        shown = scene + drift if kind == "added" else scene * (1 + drift / 96)
        decision = pruner.push(patches_of(sensor(shown, sigma, rng), GRID), index / 2, tokens_before=tokens)
        tokens += decision.appended * (int(decision.keep.sum()) + WRAPPER_TOKENS)
        kept_drift[decision.keep] = drift
        changed.append(decision.changed.mean())
        assert np.abs(drift - kept_drift).max() <= 16
    assert np.mean(changed[WARM_UP:]) <= MOST_CHANGED


def test_a_camera_that_adjusts_its_exposure_is_not_change_but_a_lamp_is() -> None:
    rng = np.random.default_rng(16)
    scene = textured(GRID, rng)
    adjusted = [sensor(scene + level, 2, rng) for level in (0,) * 12 + (3, 7, 11) + (12,) * 12]
    assert share_changed(watch(live(GRID), GRID, adjusted)[-WARM_UP - 15 :]) <= MOST_CHANGED
    lamp = watch(live(GRID), GRID, [sensor(scene + level, 2, rng) for level in (0,) * 12 + (40,) * 2])
    assert lamp[12].changed.all() and not lamp[13].changed.any()


def test_a_cell_that_brightens_slowly_alone_never_outruns_its_token() -> None:
    """Each step is far below any threshold, so a comparison with the previous frame would never see it."""
    rng = np.random.default_rng(17)
    scene, pruner, tokens, kept = textured(GRID, rng), live(GRID), 0, 0.0
    for index in range(200):
        level = 0.3 * index
        shown = scene.copy()
        shown[56:84, 56:84] = 60 + level
        decision = pruner.push(patches_of(sensor(shown, 1, rng), GRID), index / 2, tokens_before=tokens)
        tokens += decision.appended * (int(decision.keep.sum()) + WRAPPER_TOKENS)
        if decision.keep[2 * GRID.cols + 2]:
            kept = level
        assert abs(level - kept) <= 9.5


def wandering(grid: CellGrid, rng: np.random.Generator, least_px: float, most_px: float) -> Iterator[tuple[float, ...]]:
    """Places of a 28 x 28 object: the top and left of each, so far from the one before in any direction."""
    height, width = size_px(grid)
    place = rng.uniform((0, 0), (height - 28, width - 28))
    while True:
        yield tuple(place)
        step = rng.uniform(least_px, most_px)
        while True:
            angle = rng.uniform(0, 2 * np.pi)
            moved = place + step * np.array([np.sin(angle), np.cos(angle)])
            if (moved >= 0).all() and moved[0] <= height - 28 and moved[1] <= width - 28:
                break
        place = moved


def hits_and_trials(
    pictures: list[np.ndarray], covers: list[np.ndarray], places: list[tuple[float, ...]], grid: CellGrid
) -> tuple[int, int]:
    """How often a covered or uncovered cell changed, of the frames in which the object had moved by 4 px.

    Counted from the object's place when one of its cells was last kept as changed.
    """
    pruner, tokens, hits, trials = live(grid), 0, 0, 0
    since = WARM_UP
    for index, picture in enumerate(pictures):
        decision = pruner.push(patches_of(picture, grid), index / SAMPLED_FPS, tokens_before=tokens)
        tokens += decision.appended * (int(decision.keep.sum()) + WRAPPER_TOKENS)
        if index <= WARM_UP:
            continue
        moved = cells_of(np.abs(covers[index] - covers[since]) > 0.02, grid)
        hit = bool((decision.changed & moved).any())
        if np.hypot(*np.subtract(places[index], places[since])) >= 4:
            hits, trials = hits + hit, trials + 1
        since = index if hit else since
    return hits, trials


@pytest.mark.slow
@pytest.mark.parametrize("ground", ["flat", "textured"])
@pytest.mark.parametrize("sigma", [0, 2, 4])
def test_an_object_that_moved_by_4_px_is_seen(ground: str, sigma: float) -> None:
    rng = np.random.default_rng(18)
    grid = CellGrid(rows=6, cols=10)
    hits = trials = 0
    for contrast in (24, -24, 24):
        scene = ground_of(ground, grid, rng)
        places = [place for _, place in zip(range(80), wandering(grid, rng, 4, 7), strict=False)]
        covers = [coverage(scene.shape, *place) * (index >= WARM_UP) for index, place in enumerate(places)]
        pictures = [sensor(scene + contrast * cover[..., None], sigma, rng) for cover in covers]
        found = hits_and_trials(pictures, covers, places, grid)
        hits, trials = hits + found[0], trials + found[1]
    assert trials >= 170 and hits / trials >= 0.99


def test_an_object_that_creeps_is_seen_by_the_time_it_moved_4_px() -> None:
    rng = np.random.default_rng(19)
    hits = trials = 0
    for _ in range(3):
        places = [place for _, place in zip(range(100), wandering(GRID, rng, 1, 1), strict=False)]
        covers = [coverage(size_px(GRID), *place) * (index >= WARM_UP) for index, place in enumerate(places)]
        pictures = [sensor(flat(GRID) - 24 * cover[..., None], 2, rng) for cover in covers]
        found = hits_and_trials(pictures, covers, places, GRID)
        hits, trials = hits + found[0], trials + found[1]
    assert trials - hits <= 2


@pytest.mark.slow
def test_an_object_that_moves_is_seen_through_h264() -> None:
    rng = np.random.default_rng(20)
    scene = textured(GRID, rng, contrast=40)
    places = [place for _, place in zip(range(48), wandering(GRID, rng, 4, 7), strict=False)]
    covers = [coverage(scene.shape, *place) * (index >= WARM_UP) for index, place in enumerate(places)]

    def camera() -> Iterator[np.ndarray]:
        for index, cover in enumerate(covers):
            for _ in range(13 - index % 2):
                yield sensor(scene + 24 * cover[..., None], 2, rng)

    hits, trials = hits_and_trials(list(sampled(h264(camera())))[: len(places)], covers, places, GRID)
    assert trials >= 25 and hits / trials >= 0.95


def test_a_mover_neither_deafens_its_cells_nor_raises_the_floor() -> None:
    rng = np.random.default_rng(21)
    scene = textured(GRID, rng)
    pruner = live(GRID)
    busy = []
    for _ in range(60):
        picture = sensor(scene, 2, rng)
        picture[28:84, 56:112] = rng.integers(0, 255, (56, 56, 3))
        busy.append(picture)
    watch(pruner, GRID, busy)
    assert pruner.noise_levels == pytest.approx(2, rel=0.2)
    empty, entered = scene.copy(), scene.copy()
    entered[42:70, 70:98] += 24
    decisions = watch(pruner, GRID, [sensor(shown, 2, rng) for shown in [empty] * 4 + [entered]], since_s=30.0)
    assert decisions[-1].changed.any()


def test_cuts_and_a_covered_lens_do_not_raise_the_floor() -> None:
    rng = np.random.default_rng(22)
    pruner = live(GRID)
    first, second, covered = textured(GRID, rng), textured(GRID, rng), flat(GRID, 20.0)
    shown = [first] * 20 + [second] * 6 + [covered] * 6 + [second] * 6
    decisions = watch(pruner, GRID, (sensor(scene, 2, rng) for scene in shown))
    for index in (20, 26, 32):
        assert decisions[index].kind is Kind.CHANGED and decisions[index].changed.mean() > 0.9
    assert sum(decision.changed.any() for decision in decisions) == 4
    assert pruner.noise_levels == pytest.approx(2, rel=0.2)


@pytest.mark.slow
def test_the_floor_sinks_again_when_the_noise_does() -> None:
    rng = np.random.default_rng(23)
    scene, pruner = textured(GRID, rng), live(GRID)
    watch(pruner, GRID, (sensor(scene, 8, rng) for _ in range(20)))
    watch(pruner, GRID, (sensor(scene, 1, rng) for _ in range(300)), since_s=10.0)
    assert pruner.noise_levels < 2
