"""The exposure estimate of live pruning: moving objects do not affect it, and it never diverges."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from streaming.difffp.exposure import Exposure
from streaming.difffp.live import CellGrid
from tests.streaming.difffp_cases import live, sensor, share_changed, size_px, textured, watch

GRID = CellGrid(rows=4, cols=8)
HEIGHT, WIDTH = size_px(GRID)
CELL_PX = GRID.merge * GRID.patch_px


def changed_of(pictures: Iterator[np.ndarray], first_col: int, first_frame: int = 1) -> int:
    """How often a cell of the columns from `first_col` on was called changed."""
    decisions = list(watch(live(GRID), GRID, pictures))[first_frame:]
    return sum(int(decision.changed.reshape(GRID.rows, GRID.cols)[:, first_col:].sum()) for decision in decisions)


def swept(num_cols: int, period: int, num_frames: int, depth: float = 60.0) -> Iterator[np.ndarray]:
    """Light that falls off softly behind its edge goes across the leftmost columns, again and again."""
    rng = np.random.default_rng(31)
    scene = textured(GRID, rng)
    across = np.arange(WIDTH) / (num_cols * CELL_PX)
    for index in range(num_frames):
        phase = (across - index / period) % 1.0
        light = np.where(phase < 0.9, phase / 0.9, (1 - phase) / 0.1)
        yield sensor(scene + depth * np.where(across < 1, light, 0)[None, :, None], 1, rng)


@pytest.mark.slow
@pytest.mark.parametrize(("num_cols", "period"), [(6, 30), (6, 100), (5, 60)])
def test_light_that_sweeps_over_most_of_a_view_changes_no_still_cell(num_cols: int, period: int) -> None:
    assert changed_of(swept(num_cols, period, 150), num_cols) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["saw", "flicker", "noise"])
def test_what_happens_in_half_a_view_changes_nothing_in_the_other(kind: str) -> None:
    rng = np.random.default_rng(32)
    scene, half = textured(GRID, rng), WIDTH // 2

    def pictures() -> Iterator[np.ndarray]:
        for index in range(120):
            shown = scene.copy()
            if kind == "noise":
                shown[:, :half] = rng.uniform(0, 255, (HEIGHT, half, 3))
            else:
                shown[:, :half] += (index % 40) * 7 / 4 if kind == "saw" else 30 * (index % 2)
            yield sensor(shown, 1, rng)

    assert changed_of(pictures(), GRID.cols // 2) == 0


def test_a_gain_is_no_change_though_it_moves_the_bright_parts_more() -> None:
    rng = np.random.default_rng(33)
    scene = 0.3 * (textured(GRID, rng) - 120) + 60
    scene[:, : 2 * CELL_PX] += 130
    gains = [1.0] * 22 + [1.03, 1.06] + [1.08] * 30
    assert share_changed(watch(live(GRID), GRID, (sensor(gain * scene, 1, rng) for gain in gains))) == 0


@pytest.mark.parametrize("swing", [4.0, 6.0])
def test_flicker_of_the_whole_picture_is_no_change(swing: float) -> None:
    rng = np.random.default_rng(34)
    scene = textured(GRID, rng)
    pictures = (sensor(scene + swing * (-1) ** index, 1, rng) for index in range(100))
    assert share_changed(watch(live(GRID), GRID, pictures)) == 0


def test_a_white_balance_that_moves_once_is_told_once() -> None:
    rng = np.random.default_rng(35)
    scene, cast = textured(GRID, rng), np.array([1.0, 0.0, -1.0])
    pictures = [sensor(scene + 12 * cast * (index >= 30), 1, rng) for index in range(120)]
    decisions = watch(live(GRID), GRID, pictures)
    assert decisions[30].changed.mean() > 0.9
    assert sum(int(decision.changed.sum()) for decision in decisions[31:]) == 0


def test_an_exposure_is_followed_by_the_steady_part_alone_and_not_at_all_by_too_little() -> None:
    num = 100
    level = np.linspace(20, 220, num)
    followed = Exposure(num, agreed_levels=3.0, most_levels=16.0)
    stayed = np.arange(num) < 40
    followed.update(np.where(stayed, 7.0, -50.0), level, stayed)
    assert followed.expected == pytest.approx(7.0)
    for too_few in (np.arange(num) < 20, np.zeros(num, bool)):
        stands = Exposure(num, agreed_levels=3.0, most_levels=16.0)
        stands.update(np.full(num, 7.0), level, too_few)
        assert not stands.expected.any()


@pytest.mark.slow
def test_an_exposure_stays_bounded_and_finds_home_however_long_it_wanders() -> None:
    rng = np.random.default_rng(36)
    num = 160
    level = rng.uniform(20, 230, num)
    exposure, stayed = Exposure(num, agreed_levels=3.0, most_levels=16.0), np.ones(num, bool)
    for index in range(10_000):
        shift = 5 * np.sin(index / 7) + rng.normal(0, 0.3, num)
        shift[: num // 2 + 30 * (index % 3)] -= index % 12  # falls softly and comes back at once
        exposure.update(shift, level + shift, stayed)
        assert np.abs(exposure.expected).max() <= 16
    for _ in range(3):
        exposure.update(np.zeros(num), level, stayed)
    assert np.abs(exposure.expected).max() < 1


def test_what_the_exposure_shifted_is_kept_with_the_rest_where_most_of_a_view_changes() -> None:
    rng = np.random.default_rng(37)
    scene, other = textured(GRID, rng), textured(GRID, rng)
    other[:, 5 * CELL_PX :] = scene[:, 5 * CELL_PX :]
    pictures = [*[sensor(scene, 1, rng) for _ in range(30)], *[sensor(other - 12, 1, rng) for _ in range(2)]]
    decisions = list(watch(live(GRID), GRID, pictures))
    steady = decisions[30].changed.reshape(GRID.rows, GRID.cols)[:, 5:]
    assert not steady.any() and decisions[30].keep.all()
    assert not decisions[31].changed.any() and decisions[31].refreshed.sum() <= 4
