"""Evidence of questions on forks: visual tokens, and equal words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.training.cell_targets import CELL_SIZES, COLOURS, SHAPES
from models.training.evidence_targets import Words, with_looks, with_matches
from models.training.examples import NO_CARRIES, NO_PAIRS, ForkQuestions, StreamExample
from streaming.difffp.live import CellGrid

IMAGE = 9
CELLS = 4


def _example(after: int) -> StreamExample:
    """Three frames of four cells: the first with all tokens, the others with the second and the last."""
    ids = np.array([1, IMAGE, IMAGE, IMAGE, IMAGE, 2, IMAGE, IMAGE, 3, IMAGE, IMAGE, 4], dtype=np.int32)
    nothing = np.zeros(1, dtype=np.int32)
    evidence = np.array([[0, 0, 1]], dtype=np.int32)
    after_all = np.array([after], dtype=np.int32)
    asides = ForkQuestions(nothing, nothing, nothing, nothing, after_all, evidence, NO_PAIRS, NO_PAIRS)
    picks = np.array([0, 1, 2, 3, 5, 7, 9, 11], dtype=np.int32)
    frames = np.zeros((3, 1, 1, 3), dtype=np.uint8)
    grid = CellGrid(rows=2, cols=2, merge=2, patch_px=14)
    return StreamExample(ids, ids, ids, frames, nothing, nothing, picks, grid, asides, NO_CARRIES)


def _cells(*things: tuple[int, int, str, str]) -> np.ndarray:
    """Cell labels. things: frame, cell, colour, shape."""
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


RED, BLUE, CIRCLE, STAR, OTHER = 20, 21, 22, 23, 24
WORDS = Words(*(np.zeros(30, dtype=np.int16) for _ in range(2)))
WORDS.colours[[RED, BLUE]] = COLOURS.index("red"), COLOURS.index("blue")
WORDS.shapes[[CIRCLE, STAR]] = SHAPES.index("circle"), SHAPES.index("star")


def _matched(
    stream: list[int], question: list[int], *, alone: bool = False, labels: np.ndarray | None = None
) -> dict[int, list[int]]:
    """The places that each word of a question is matched with, counted on from the end of the stream for places in the
    question."""
    ids, own = np.array([1, *stream], dtype=np.int32), np.array(question, dtype=np.int32)
    base = _example(after=len(ids) - 1)
    asides = replace(base.asides, ids=own, numbers=np.zeros(len(own), dtype=np.int32))
    picks = base.picks[: stream.count(IMAGE)]
    cells = _cells() if labels is None else labels
    example = replace(base, ids=ids, picks=picks, asides=asides)
    found: dict[int, list[int]] = {}
    for token, place in with_matches(example, cells, [alone], WORDS, IMAGE).asides.matches.tolist():
        found.setdefault(token, []).append(place)
    return found


def test_a_word_is_matched_by_the_same_one_and_by_what_looks_so() -> None:
    assert _matched([OTHER, RED, CIRCLE, OTHER, BLUE], [OTHER, RED]) == {1: [2]}
    assert _matched([RED, RED], [RED, OTHER, BLUE]) == {0: [1, 2], 2: [0]}
    labels = _cells((0, 0, "red", "circle"), (0, 2, "blue", "circle"), (0, 3, "red", "star"))
    assert _matched([IMAGE] * 4, [RED], labels=labels) == {0: [1, 4]}
    assert _matched([IMAGE] * 4, [CIRCLE], labels=labels) == {0: [1, 3]}


def test_a_shape_after_a_colour_is_matched_by_both_together() -> None:
    labels = _cells((0, 0, "red", "circle"), (0, 2, "blue", "circle"), (0, 3, "red", "star"))
    stream = [IMAGE, IMAGE, IMAGE, IMAGE, RED, CIRCLE, BLUE, STAR, BLUE, CIRCLE]
    assert _matched(stream, [BLUE, CIRCLE], labels=labels) == {0: [3, 7, 9], 1: [3, 10]}
    assert _matched(stream, [RED, STAR], labels=labels)[1] == [4]
    assert _matched([RED, CIRCLE, BLUE, STAR], [RED, STAR])[1] == [0], "nothing is both"


def test_a_remark_put_to_an_instruction_is_matched_by_that_alone() -> None:
    stream = [RED, CIRCLE]
    instruction_and_remark = [OTHER, RED, OTHER, RED, CIRCLE]
    assert _matched(stream, instruction_and_remark, alone=True) == {1: [0], 3: [4], 4: [0]}
    assert _matched(stream, [OTHER, CIRCLE, OTHER, RED, CIRCLE], alone=True) == {1: [0], 3: [0], 4: [4]}
    assert _matched(stream, [OTHER, BLUE, CIRCLE, OTHER, RED, CIRCLE], alone=True)[5] == [0]
