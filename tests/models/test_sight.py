"""Cell labels for the encoder: every cell that a thing covers is labelled, and uncertain cells are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.training.cell_targets import (
    CELL_SIZES,
    COLOURS,
    MASK_SIDE,
    SHAPES,
    UNSURE,
    cell_labels,
    make_stills,
    patch_masks,
)
from models.vision import VisionSettings
from streaming.difffp.live import CellGrid
from streaming.scenes.rendering import Renderer
from streaming.scenes.scenario import Ramp, Scenario, SceneSettings
from streaming.scenes.stills import close_ups

VISION = VisionSettings(border_px=2, min_tokens=4, max_tokens=1024)
GRID = CellGrid(rows=3, cols=3, merge=2, patch_px=14)
SETTINGS = SceneSettings(view_sizes=((84, 84),), noise_sigma=(0.0, 0.0))


def _labels(scenario: Scenario, number: int) -> np.ndarray:
    picture = VISION.fitted(Renderer(scenario).frame(number + 0.5), GRID)
    return cell_labels(scenario, number + 0.5, picture, GRID)


def test_labels_name_the_thing_on_its_cells_and_point_to_its_middle() -> None:
    scenario = close_ups(1, SETTINGS, 8)
    for thing in scenario.things:
        labels = _labels(scenario, int(thing.born_s))
        on_it = labels[:, 2] > 0
        assert set(labels[on_it, 2]) <= {COLOURS.index(thing.colour or "")}
        assert set(labels[on_it, 3]) <= {SHAPES.index(thing.shape or ""), UNSURE}
        if thing.points.min() + 42 > 0:
            x, y = np.array(thing.way.at(0.0)) / 28
            row, col = np.divmod(np.flatnonzero(on_it), 3)
            offset_x = labels[on_it, 5 - 1].astype(int) - 2
            offset_y = labels[on_it, 5].astype(int) - 2
            assert np.abs(col + 0.5 + offset_x - x).max() <= 1.01 and np.abs(row + 0.5 + offset_y - y).max() <= 1.01


def test_rows_columns_and_brightness_hold_for_every_cell() -> None:
    labels = _labels(close_ups(2, SETTINGS, 8), 0)
    assert labels[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and labels[:, 1].tolist() == [0, 1, 2] * 3
    assert (labels[:, 6] >= 0).all() and (labels < np.array(CELL_SIZES)).all()


def test_in_the_dark_nothing_is_asked_about_things() -> None:
    scenario = replace(close_ups(1, SETTINGS, 8), gain=Ramp((0.0,), (0.2,)))
    assert (_labels(scenario, 0)[:, 2:6] == UNSURE).all()


@pytest.mark.parametrize("close", [False, True])
def test_stills_fit_their_grid(close: bool) -> None:
    stills = make_stills(5, SETTINGS, VISION, 32, close=close)
    assert stills.frames.shape == (8, 84, 84, 3) and stills.cell_labels.shape == (8, 9, len(CELL_SIZES))
    assert stills.masks.shape == (8, 36, MASK_SIDE**2)


def test_masks_follow_the_order_of_the_encoders_patches() -> None:
    """A mask drawn as a picture and cut by the encoder's own function agrees with the patches' masks."""
    import torch

    scenario = close_ups(3, SETTINGS, 8)
    masks = patch_masks(scenario, 0.5, GRID)
    thing = next(thing for thing in scenario.things if thing.born_s == 0)
    picture = Renderer(scenario).frame(0.5).astype(np.float32)
    near = np.abs(picture - np.asarray(thing.rgb)).max(axis=2) < 25
    painted = np.repeat(near[..., None] * np.uint8(255), 3, axis=2)
    cut = VisionSettings().cut(torch.from_numpy(painted), GRID).numpy() > 0
    share = cut.reshape(36, -1).mean(axis=1)
    assert np.abs(share - masks.mean(axis=1)).max() < 0.2 and masks.mean() > 0.02
