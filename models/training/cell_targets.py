"""Labels for every cell of a picture, and still pictures to train the encoder on. Data workers run this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.vision import VisionSettings
from streaming.difffp.live import CellGrid
from streaming.scenes.rendering import Renderer
from streaming.scenes.scenario import Scenario, SceneSettings, Thing
from streaming.scenes.scenery import DETAILED
from streaming.scenes.stills import close_ups, still_lifes

UNSURE = -1
COLOURS = ("none", "red", "green", "blue", "yellow", "white", "black", "orange", "purple", "textured")
SHAPES = ("none", "circle", "square", "triangle", "star", "textured")
MAX_SIDE_CELLS = 16
LUMAS = 8
OFFSETS = 12
OFFSET_STEP = 0.25
CELL_SIZES = (MAX_SIDE_CELLS, MAX_SIDE_CELLS, len(COLOURS), len(SHAPES), 5, 5, LUMAS, 2, 2, OFFSETS, OFFSETS)
"""Number of answers to each question about a cell: its row and column; colour and shape of the thing on it (0 for
none); how many cells the thing's centre lies to the right and below (−2 to 2, plus 2); brightness; covered; blurred;
and the same two distances in quarters of a cell (−1.5 to 1.5), which show the first movement of a thing."""
_PLACES = [4, 5, 9, 10]
"""Indices of the questions about the place of a thing's centre."""
NOBODY, IN_DOUBT = -1, -2
OWNED_SHARE = 0.25
"""A thing counts as on a cell if it fills this share of the cell, or if this share of the thing is on the cell."""
_TRACE_SHARE = 0.04
STILLS_PER_GROUND = 8
MASK_SIDE = 7
"""Rows and columns of a patch's mask."""


def cell_labels(scenario: Scenario, t_s: float, picture: np.ndarray, grid: CellGrid) -> np.ndarray:
    """int8 `[num_cells, 11]`: labels by `CELL_SIZES`; `UNSURE` where the truth is uncertain.

    picture: uint8 `[rows * side, cols * side, 3]`, the frame resized to the grid.
    """
    return _labels(scenario, t_s, picture, grid)[0]


def cell_owners(scenario: Scenario, t_s: float, grid: CellGrid) -> np.ndarray:
    """int16 `[num_cells]`: index of the scenario's thing on each cell, `NOBODY`, or `IN_DOUBT`."""
    labels, owners = _labels(scenario, t_s, None, grid)
    return np.where(labels[:, 2] == UNSURE, IN_DOUBT, owners)


def _labels(
    scenario: Scenario, t_s: float, picture: np.ndarray | None, grid: CellGrid
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and owners of the cells; without a picture their brightness is `UNSURE`."""
    rows, cols = grid.rows, grid.cols
    labels = np.zeros((rows * cols, len(CELL_SIZES)), dtype=np.int8)
    labels[:, 0], labels[:, 1] = np.divmod(np.arange(rows * cols), cols)
    labels[:, _PLACES] = UNSURE
    filled, owners = np.zeros(rows * cols), np.full(rows * cols, NOBODY, dtype=np.int16)
    for index, thing in enumerate(scenario.things):
        if thing.born_s <= t_s < thing.gone_s:
            owners[_put(labels, filled, _Cells(scenario, thing, t_s, grid))] = index
    labels[:, 6] = UNSURE if picture is None else _brightness(picture, grid)
    cover = max((cover.ramp.at(t_s) for cover in scenario.covers), default=0.0)
    gain, blur = scenario.gain.at(t_s), scenario.blur_px.at(t_s) / scenario.scale
    labels[:, 7] = 1 if cover >= 0.7 else 0 if cover < 0.3 else UNSURE
    detailed = scenario.shots[scenario.shot_at(t_s)].ground.kind in DETAILED
    plain = cover < 0.02 and gain > 0.4 and detailed
    labels[:, 8] = UNSURE if not plain or 1.0 < blur <= 2.5 else blur > 2.5
    if cover > 0.02:
        labels[:, 2:4] = 0 if cover >= 0.9 else UNSURE
        labels[:, _PLACES] = UNSURE
        owners[:] = NOBODY
    if gain < 0.35 or blur > 2.5:
        labels[:, [2, 3, *_PLACES]] = UNSURE
    return labels, owners


def _brightness(picture: np.ndarray, grid: CellGrid) -> np.ndarray:
    """Brightness of each cell, from 0 to `LUMAS` − 1."""
    side = grid.patch_px * grid.merge
    grey = picture.astype(np.float32).mean(axis=2).reshape(grid.rows, side, grid.cols, side).mean(axis=(1, 3))
    levels: np.ndarray = np.clip(grey.ravel() * LUMAS / 256, 0, LUMAS - 1)
    return levels


class _Cells:
    """The place of one thing on a grid."""

    def __init__(self, scenario: Scenario, thing: Thing, t_s: float, grid: CellGrid) -> None:
        x, y = thing.way.at(t_s)
        camera_x, camera_y = scenario.camera.at(t_s)
        places = (thing.points + np.array([x - camera_x, y - camera_y])) / (scenario.width_px, scenario.height_px)
        inside = places[((places >= 0) & (places < 1)).all(axis=1)] * (grid.cols, grid.rows)
        cells = np.floor(inside).astype(np.int64)
        counts = np.bincount(cells[:, 1] * grid.cols + cells[:, 0], minlength=grid.num_cells)
        area = thing.area_px * grid.num_cells / (scenario.width_px * scenario.height_px)
        self.of_thing = counts / len(thing.points)
        self.of_cell = self.of_thing * area
        self.share_in = float(self.of_thing.sum()) / thing.full_share
        middle = inside.mean(axis=0) if len(inside) else np.zeros(2)
        row, col = np.divmod(np.arange(grid.num_cells), grid.cols)
        self.places = np.zeros((grid.num_cells, len(_PLACES)), dtype=np.int8)
        for axis, away in enumerate((middle[0] - col - 0.5, middle[1] - row - 0.5)):
            self.places[:, axis] = np.clip(np.round(away), -2, 2) + 2
            step = np.floor(away / OFFSET_STEP) + OFFSETS // 2
            self.places[:, 2 + axis] = np.where((step >= 0) & (step < OFFSETS), step, UNSURE)
        self.colour = COLOURS.index(thing.colour_at(t_s) or "textured")
        self.shape = SHAPES.index(thing.shape or "textured")


def _put(labels: np.ndarray, filled: np.ndarray, cells: _Cells) -> np.ndarray:
    """Write a thing's labels over those of things behind it; returns the cells that it takes."""
    owned = ((cells.of_cell >= OWNED_SHARE) | (cells.of_thing >= OWNED_SHARE)) & (cells.of_cell > filled - 0.2)
    touched = (cells.of_cell > _TRACE_SHARE) & ~owned
    labels[touched & (labels[:, 2] == 0), 2:4] = UNSURE
    contested = owned & (filled > 0.5 * cells.of_cell)
    labels[owned, 2], labels[owned, 3] = cells.colour, cells.shape if cells.share_in > 0.6 else UNSURE
    labels[np.ix_(owned, np.array(_PLACES))] = cells.places[owned]
    labels[np.ix_(contested, np.array([2, 3, *_PLACES]))] = UNSURE
    np.maximum(filled, cells.of_cell, out=filled)
    return owned


@dataclass(frozen=True, slots=True)
class Stills:
    """Pictures of one grid with the labels of their cells."""

    frames: np.ndarray
    """uint8 `[num_frames, height, width, 3]`, as the encoder sees them."""
    cell_labels: np.ndarray
    """int8 `[num_frames, num_cells, 11]`."""
    masks: np.ndarray
    """int8 `[num_frames, num_patches, 49]`: which parts of each patch show a thing; `UNSURE` for covered pictures."""
    grid: CellGrid


def make_stills(seed: int, settings: SceneSettings, vision: VisionSettings, max_cells: int, *, close: bool) -> Stills:
    """Eight pictures with one background. close: one plain shape each, on a plain background (`still_lifes`)."""
    scenario = close_ups(seed, settings, STILLS_PER_GROUND) if close else still_lifes(seed, settings, STILLS_PER_GROUND)
    renderer = Renderer(scenario)
    grid = vision.fit_grid(scenario.width_px, scenario.height_px, max_cells=max_cells)
    frames, labels, masks = [], [], []
    for number in range(STILLS_PER_GROUND):
        picture = vision.fitted(renderer.frame(number + 0.5), grid)
        frames.append(picture)
        labels.append(cell_labels(scenario, number + 0.5, picture, grid))
        masks.append(patch_masks(scenario, number + 0.5, grid))
    return Stills(np.stack(frames), np.stack(labels), np.stack(masks), grid)


def patch_masks(scenario: Scenario, t_s: float, grid: CellGrid) -> np.ndarray:
    """Masks of things, with seven by seven points per patch: int8 `[num_patches, 49]`, in the order of the encoder's
    patches.

    Moving limbs are drawn at rest, which is right for still lifes.
    """
    rows, cols, side = grid.rows, grid.cols, grid.merge * MASK_SIDE
    if max((cover.ramp.at(t_s) for cover in scenario.covers), default=0.0) > 0.02:
        return np.full((grid.num_patches, MASK_SIDE**2), UNSURE, dtype=np.int8)
    ys = (np.arange(rows * side) + 0.5) / (rows * side) * scenario.height_px
    xs = (np.arange(cols * side) + 0.5) / (cols * side) * scenario.width_px
    shown = np.zeros((len(ys), len(xs)), dtype=bool)
    camera = np.asarray(scenario.camera.at(t_s))
    for thing in scenario.things:
        if thing.born_s <= t_s < thing.gone_s:
            x, y = np.asarray(thing.way.at(t_s)) - camera
            half = thing.size_px / 2
            near_y, near_x = np.flatnonzero(np.abs(ys - y) <= half), np.flatnonzero(np.abs(xs - x) <= half)
            if len(near_y) and len(near_x):
                u, v = np.meshgrid((xs[near_x] - x) / half, (ys[near_y] - y) / half)
                shown[near_y[0] : near_y[-1] + 1, near_x[0] : near_x[-1] + 1] |= thing.outline.inside(u, v)
    cells = shown.reshape(rows, grid.merge, MASK_SIDE, cols, grid.merge, MASK_SIDE)
    return cells.transpose(0, 3, 1, 4, 2, 5).reshape(grid.num_patches, -1).astype(np.int8)
