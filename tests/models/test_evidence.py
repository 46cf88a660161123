"""Which visual tokens an answer rests on that speaks of something in view."""

from __future__ import annotations

import numpy as np

from models.training.evidence import with_looks
from models.training.examples import Asides, StreamExample
from models.training.sight import CELL_SIZES, COLOURS, SHAPES
from streaming.difffp import CellGrid

IMAGE = 9
CELLS = 4


def _example(after: int) -> StreamExample:
    """Three frames of four cells: the first with all of its tokens, the others with the second and the last."""
    ids = np.array([1, IMAGE, IMAGE, IMAGE, IMAGE, 2, IMAGE, IMAGE, 3, IMAGE, IMAGE, 4], dtype=np.int32)
    nothing = np.zeros(1, dtype=np.int32)
    evidence = np.array([[0, 0, 1]], dtype=np.int32)
    asides = Asides(nothing, nothing, nothing, nothing, np.array([after], dtype=np.int32), evidence)
    picks = np.array([0, 1, 2, 3, 5, 7, 9, 11], dtype=np.int32)
    frames = np.zeros((3, 1, 1, 3), dtype=np.uint8)
    grid = CellGrid(rows=2, cols=2, merge=2, patch_px=14)
    return StreamExample(ids, ids, ids, frames, nothing, nothing, picks, grid, asides)


def _cells(*things: tuple[int, int, str, str]) -> np.ndarray:
    """things: frame, cell, colour, shape."""
    labels = np.zeros((3, CELLS, len(CELL_SIZES)), dtype=np.int8)
    for frame, cell, colour, shape in things:
        labels[frame, cell, 2:4] = COLOURS.index(colour), SHAPES.index(shape)
    return labels


def _found(labels: np.ndarray, look: tuple[str | None, str | None] | None, after: int = 11) -> list[tuple[int, int]]:
    asides = with_looks(_example(after), labels, [look], IMAGE).asides
    assert asides.evidence[0].tolist() == [0, 0, 1], "what was there stays"
    return [(first, end) for _, first, end in asides.evidence[1:].tolist()]


def test_the_newest_tokens_of_a_look_are_found_by_colour_and_shape() -> None:
    labels = _cells((0, 1, "red", "circle"), (1, 1, "red", "circle"), (1, 3, "blue", "star"), (2, 3, "red", "star"))
    assert _found(labels, ("red", "circle")) == [(6, 7)]
    assert _found(labels, (None, "star")) == [(10, 11)]
    assert _found(labels, ("blue", None)) == [(7, 8)]
    assert _found(labels, ("green", "star")) == []
    assert _found(labels, None) == []


def test_nothing_later_than_the_question_is_found() -> None:
    labels = _cells((0, 1, "red", "circle"), (0, 2, "red", "circle"), (1, 1, "red", "circle"))
    assert _found(labels, ("red", "circle"), after=5) == [(2, 3), (3, 4)]


def test_textured_things_and_cells_in_doubt_are_told_apart() -> None:
    labels = _cells((0, 0, "textured", "textured"), (0, 1, "red", "circle"))
    labels[2, 3, 2:4] = -1
    assert _found(labels, (None, None)) == [(1, 2)]
