"""Evidence of questions on forks: the visual tokens a question is about, and words it shares with the stream. Pure;
data workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.session.tokenizer import StreamTokenizer
from models.training.cell_targets import COLOURS, SHAPES
from models.training.examples import StreamExample

Look = tuple[str | None, str | None]
"""A colour and a shape, `None` for either that is left open; both `None` for a textured thing."""


def with_looks(
    example: StreamExample,
    cell_labels: np.ndarray,
    looks: Sequence[Look | None],
    image: int,
    attached_labels: Sequence[np.ndarray] = (),
) -> StreamExample:
    """The example with the visual tokens of each fork question's subject added to the question's evidence.

    In the stream these are the tokens of the newest frame that shows the subject; in attached pictures, where there are
    some, all of its tokens, or the very first token where none shows it. cell_labels: int8 `[num_frames, num_cells, …]`
    by `cell_targets.CELL_SIZES`; attached_labels: the same for each group of attached pictures. looks: one for each
    question, `None` for no subject. image: the image token's id.
    """
    asides = example.asides
    positions = np.flatnonzero(example.ids == image)
    frames, colours, shapes = _seen(example, cell_labels, attached_labels)
    is_attached = np.arange(len(positions)) >= len(example.picks)
    found = [asides.evidence]
    for number, look in enumerate(looks):
        if look is None:
            continue
        textured = look == (None, None)
        fits = colours == COLOURS.index("textured") if textured else colours > 0
        for values, names, name in ((colours, COLOURS, look[0]), (shapes, SHAPES, look[1])):
            fits &= True if name is None else values == names.index(name)
        fits &= positions <= asides.after[number]
        about_attached = bool(is_attached.any()) and asides.after[number] > positions[is_attached][0]
        fits &= is_attached == about_attached
        if fits.any():
            there = positions[fits if about_attached else fits & (frames == frames[fits].max())]
        elif about_attached:
            there = np.zeros(1, dtype=np.int64)
        else:
            continue
        found.append(np.stack([np.full(len(there), number), there, there + 1], axis=1).astype(np.int32))
    return replace(example, asides=replace(asides, evidence=np.concatenate(found)))


@dataclass(frozen=True, slots=True)
class Words:
    """Which tokens name a colour or a shape: int16 `[vocabulary]` each, index into `COLOURS` or `SHAPES`; 0 for
    none."""

    colours: np.ndarray
    shapes: np.ndarray

    @classmethod
    def of(cls, codec: StreamTokenizer) -> Words:
        """The words of a tokenizer in which each word is one token."""
        tables = [np.zeros(len(codec.tokenizer), dtype=np.int16) for _ in range(2)]
        for table, names in zip(tables, (COLOURS[1:-1], SHAPES[1:-1]), strict=True):
            for number, name in enumerate(names):
                for spelt in (name, " " + name, name.capitalize(), " " + name.capitalize()):
                    ids = codec.encode(spelt)
                    if len(ids) == 1:
                        table[ids[0]] = number + 1
        return cls(*tables)


def with_matches(
    example: StreamExample,
    cell_labels: np.ndarray,
    alone: Sequence[bool],
    words: Words,
    image: int,
    attached_labels: Sequence[np.ndarray] = (),
) -> StreamExample:
    """The example with matches: for each colour and shape in a fork question, the places where the same is named or
    seen.

    A shape after a colour means both: "red circle" matches only a red circle, and within the question "circle" where no
    colour stands before it. Matches within the question come first; a question that is independent of the stream
    (`alone`) has only those. Other arguments as in `with_looks`.
    """
    asides = example.asides
    _, seen_colours, seen_shapes = _seen(example, cell_labels, attached_labels)
    ids = np.concatenate([example.ids, asides.ids])
    known = ids < len(words.colours)
    colours, shapes = (np.where(known, table[np.where(known, ids, 0)], 0) for table in (words.colours, words.shapes))
    before = np.concatenate([[0], colours[:-1]])
    """The colour named directly before each shape; 0 for none."""
    visual = np.flatnonzero(ids == image)
    colours[visual], shapes[visual], before[visual] = seen_colours, seen_shapes, seen_colours
    found = []
    stream = len(example.ids)
    for token in np.flatnonzero((colours[stream:] > 0) | (shapes[stream:] > 0)):
        at, number = stream + int(token), asides.numbers[token]
        same = colours == colours[at] if colours[at] > 0 else shapes == shapes[at]
        if colours[at] <= 0 and before[at] > 0:
            same &= (before == before[at]) | ((before <= 0) & (np.arange(len(ids)) >= stream))
        own = np.flatnonzero(same[stream:] & (asides.numbers == number) & (np.arange(len(asides.ids)) < token)) + stream
        there = np.flatnonzero(same[: asides.after[number] + 1])
        places = own if len(own) or alone[number] else there
        places = places if len(places) else np.zeros(1, dtype=np.int64)
        found.append(np.stack([np.full(len(places), token), places], axis=1))
    matches = np.concatenate([np.zeros((0, 2), dtype=np.int64), *found]).astype(np.int32)
    return replace(example, asides=replace(asides, matches=matches))


def _seen(
    example: StreamExample, cell_labels: np.ndarray, attached_labels: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame, colour and shape of the cell of each visual token, those of attached pictures last."""
    groups = [(cell_labels, example.picks, example.grid)]
    groups += [(labels, of.picks, of.grid) for labels, of in zip(attached_labels, example.attached, strict=True)]
    frames, colours, shapes = [], [], []
    for labels, picks, grid in groups:
        which, cells = np.divmod(picks, grid.num_cells)
        frames.append(which)
        colours.append(labels[which, cells, 2])
        shapes.append(labels[which, cells, 3])
    return np.concatenate(frames), np.concatenate(colours), np.concatenate(shapes)
