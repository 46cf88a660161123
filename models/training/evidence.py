"""Which visual tokens an answer rests on that speaks of something in view. Pure; data workers run this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.training.examples import StreamExample
from models.training.sight import COLOURS, SHAPES

Look = tuple[str | None, str | None]
"""A colour and a shape, None for either that is left open; both None for something textured."""


def with_looks(
    example: StreamExample, cell_labels: np.ndarray, looks: Sequence[Look | None], image: int
) -> StreamExample:
    """The example with the newest visual tokens of what each question on a fork speaks of among its evidence.

    cell_labels: int8 `[num_frames, num_cells, …]` by `sight.CELL_SIZES`. looks: one for each question, None for none.
    image: the image token's id.
    """
    asides, num_cells = example.asides, example.grid.num_cells
    positions = np.flatnonzero(example.ids == image)[: len(example.picks)]
    frames, cells = np.divmod(example.picks, num_cells)
    colours, shapes = (cell_labels[frames, cells, question] for question in (2, 3))
    found = [asides.evidence]
    for number, look in enumerate(looks):
        if look is None:
            continue
        textured = look == (None, None)
        fits = colours == COLOURS.index("textured") if textured else colours > 0
        for values, names, name in ((colours, COLOURS, look[0]), (shapes, SHAPES, look[1])):
            fits &= True if name is None else values == names.index(name)
        fits &= positions <= asides.after[number]
        if fits.any():
            newest = positions[fits & (frames == frames[fits].max())]
            found.append(np.stack([np.full(len(newest), number), newest, newest + 1], axis=1).astype(np.int32))
    return replace(example, asides=replace(asides, evidence=np.concatenate(found)))
