"""Pictures of real things for the encoder, with the labels of their cells. Data workers run this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.training.cell_targets import OWNED_SHARE, UNSURE
from models.vision import VisionSettings
from streaming.difffp.live import CellGrid
from streaming.scenes.closeups import CloseUp, CloseUps, Part
from streaming.scenes.footage import OTHER, Named
from streaming.scenes.object_names import GROUPS, NAMES

GROUP_ANSWERS = ("nothing", *GROUPS)
WORD_ANSWERS = ("nothing", *NAMES, OTHER)
NAME_SIZES = (len(GROUP_ANSWERS), len(WORD_ANSWERS))
"""Number of answers to the questions about a cell and about a picture's main thing: its group, and its word."""
PICTURES_PER_GROUP = 8
CLOSE_UP_SIZES = ((84, 84), (84, 84), (112, 84), (84, 112), (112, 112), (140, 112), (112, 140), (168, 112))
_WIDE_SHARE = 0.06
"""Share of groups whose pictures have the size of a whole view; each costs as much as several others."""
_INNER = 0.72
"""Width and height of the inner part of a box in which the named thing fills a cell, except in corners."""


@dataclass(frozen=True, slots=True)
class NamedPictures:
    """Pictures of one grid with the names of what is on their cells."""

    frames: np.ndarray
    """uint8 `[num_frames, height, width, 3]`, as the encoder sees them."""
    cell_names: np.ndarray
    """int8 `[num_frames, num_cells, 2]` by `NAME_SIZES`; `UNSURE` where the truth is uncertain."""
    mains: np.ndarray
    """int8 `[num_frames, 2]` by `NAME_SIZES`: the name of each picture's main thing."""
    main_cells: np.ndarray
    """bool `[num_frames, num_cells]`: the main thing's cells; all cells where there is no main thing."""
    grid: CellGrid


def make_named(
    seed: int,
    close_ups: CloseUps,
    vision: VisionSettings,
    max_cells: int,
    wide_sizes: tuple[tuple[int, int], ...] = (),
    *,
    count: int = PICTURES_PER_GROUP,
) -> NamedPictures:
    """Close-ups of one size, drawn from a seed. wide_sizes: sizes of groups that show a whole view."""
    rng = np.random.default_rng([seed, 0x4A3E])
    sizes = wide_sizes if wide_sizes and rng.random() < _WIDE_SHARE else CLOSE_UP_SIZES
    width, height = sizes[int(rng.integers(len(sizes)))]
    grid = vision.fit_grid(width, height, max_cells=max_cells)
    side = grid.patch_px * grid.merge
    drawn = [close_ups.draw(rng, grid.cols * side, grid.rows * side) for _ in range(count)]
    labelled = [names_on(one, grid) for one in drawn]
    return NamedPictures(
        frames=np.stack([vision.fitted(one.picture, grid) for one in drawn]),
        cell_names=np.stack([cells for cells, _ in labelled]),
        mains=np.array([main_of(one) for one in drawn], dtype=np.int8),
        main_cells=np.stack([main for _, main in labelled]),
        grid=grid,
    )


def main_of(shown: CloseUp) -> tuple[int, int]:
    """The name of a close-up's main thing, by `NAME_SIZES`."""
    if shown.main is None:
        clear = shown.seen_whole and not any(_overlap(part, 1, 1).any() for part in shown.parts)
        return (0, 0) if clear else (UNSURE, UNSURE)
    return answers_for(shown.parts[shown.main].box.named)


def answers_for(named: Named | None) -> tuple[int, int]:
    """A name as answers by `NAME_SIZES`: `UNSURE` for `None`; only the word is `UNSURE` where the word is empty."""
    if named is None:
        return UNSURE, UNSURE
    return GROUP_ANSWERS.index(named.group), WORD_ANSWERS.index(named.word) if named.word else UNSURE


def names_on(shown: CloseUp, grid: CellGrid) -> tuple[np.ndarray, np.ndarray]:
    """Names on each cell, int8 `[num_cells, 2]`, and whether the main thing is on it, bool `[num_cells]`."""
    names = np.zeros((grid.num_cells, 2), dtype=np.int8) if shown.seen_whole else _unsure(grid)
    main = np.zeros(grid.num_cells, dtype=bool)
    for number, part in enumerate(shown.parts):
        touched, owned = _cells(part, grid)
        answers = answers_for(part.box.named)
        told = names[:, 0] > 0
        # Where two boxes share a cell, it is unknown which thing is in front, unless one is a cut-out.
        crowded = owned & told & (names != answers).any(axis=1) & (part.alpha is None)
        names[touched & ~owned & ~told] = UNSURE
        if part.alpha is not None:  # what it hides in part is told of no more
            names[touched & ~owned & (names != answers).any(axis=1)] = UNSURE
        names[owned] = answers
        names[crowded] = UNSURE
        if number == shown.main:
            main = owned if owned.any() else touched
        elif part.alpha is not None:
            main &= ~owned
    return names, main if main.any() else np.ones(grid.num_cells, dtype=bool)


def _unsure(grid: CellGrid) -> np.ndarray:
    return np.full((grid.num_cells, 2), UNSURE, dtype=np.int8)


def _cells(part: Part, grid: CellGrid) -> tuple[np.ndarray, np.ndarray]:
    """The cells that a part touches, and those that it fills enough to name them."""
    if part.alpha is None:
        touched = _overlap(part, grid.rows, grid.cols)
        owned = _overlap(part, grid.rows, grid.cols, inner=_INNER)
        return (touched > 0.04).ravel(), (owned > 0.5).ravel() | _most_of(part, touched)
    side_h, side_w = part.alpha.shape[0] // grid.rows, part.alpha.shape[1] // grid.cols
    share = part.alpha.reshape(grid.rows, side_h, grid.cols, side_w).mean(axis=(1, 3))
    of_thing = share / max(float(share.sum()), 1e-9)
    return (share > 0.04).ravel(), ((share >= OWNED_SHARE) | ((of_thing >= OWNED_SHARE) & (share > 0.04))).ravel()


def _most_of(part: Part, share: np.ndarray) -> np.ndarray:
    """The cells that hold a large share of a thing smaller than a cell."""
    area = (part.box.right - part.box.left) * (part.box.bottom - part.box.top) * share.size
    return (share.ravel() > 0.6 * area) & (area > 0.1)


def _overlap(part: Part, rows: int, cols: int, *, inner: float = 1.0) -> np.ndarray:
    """The share of each cell inside the inner part of a box: float64 `[rows, cols]`."""
    box = part.box
    shares = []
    for low, high, count in ((box.top, box.bottom, rows), (box.left, box.right, cols)):
        middle, half = (low + high) / 2 * count, (high - low) / 2 * count * inner
        edges = np.arange(count + 1)
        inside = np.minimum(edges[1:], middle + half) - np.maximum(edges[:-1], middle - half)
        shares.append(np.clip(inside, 0, 1))
    return np.outer(*shares)
