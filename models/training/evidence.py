"""Which visual tokens an answer rests on that speaks of something in view. Pure; data workers run this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.training.examples import StreamExample
from models.training.sight import COLOURS, SHAPES
from streaming.difffp import CellGrid

Look = tuple[str | None, str | None]
"""A colour and a shape, None for either that is left open; both None for something textured."""


def with_looks(
    example: StreamExample,
    cell_labels: np.ndarray,
    looks: Sequence[Look | None],
    image: int,
    attached_labels: Sequence[np.ndarray] = (),
) -> StreamExample:
    """The example with the visual tokens of what each question on a fork speaks of among its evidence.

    Of the stream those of the newest frame that shows it; of attached pictures, where there are some, all that do, and
    the very first token where none does. cell_labels: int8 `[num_frames, num_cells, …]` by `sight.CELL_SIZES`;
    attached_labels: the same for each group of attached pictures. looks: one for each question, None for none.
    image: the image token's id.
    """
    asides = example.asides
    positions = np.flatnonzero(example.ids == image)
    groups = [(cell_labels, example.picks, example.grid)]
    groups += [(labels, of.picks, of.grid) for labels, of in zip(attached_labels, example.attached, strict=True)]
    frames, colours, shapes = (np.concatenate(parts) for parts in zip(*map(_told_by, groups), strict=True))
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


def _told_by(group: tuple[np.ndarray, np.ndarray, CellGrid]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each visual token its frame, and the colour and the shape on its cell."""
    labels, picks, grid = group
    frames, cells = np.divmod(picks, grid.num_cells)
    return frames, labels[frames, cells, 2], labels[frames, cells, 3]
