"""Zones: parts of the picture where something must change for a remark. The engine's thread owns a gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from streaming.masks import MaskRegion, Masks

if TYPE_CHECKING:
    from models.session.results import Sight
    from streaming.types import Frame

HOLD_S = 2.0
"""A remark may come so long after its change: a thing that stops is remarked on once it stands still."""


class ZoneGate:
    """Notes when something last changed in a zone."""

    def __init__(self, regions: Sequence[MaskRegion]) -> None:
        self._masks = Masks(regions)
        self._shape: tuple[int, int, int, int] | None = None
        self._cells = np.zeros(0, bool)
        self._changed_at_s = float("-inf")

    def lets_through(self, frame: Frame, sight: Sight) -> bool:
        """Note a frame. Returns whether a remark on it would be about a zone."""
        if not self._masks.regions:
            return True
        height_px, width_px = frame.image.shape[:2]
        shape = (height_px, width_px, sight.grid.rows, sight.grid.cols)
        if shape != self._shape:
            self._shape = shape
            self._cells = cells_of(self._masks.hidden(width_px, height_px), sight.grid.rows, sight.grid.cols)
        if (sight.pruning.changed & self._cells).any():
            self._changed_at_s = frame.pts_s
        return 0 <= frame.pts_s - self._changed_at_s <= HOLD_S


def cells_of(pixels: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Bool `[rows * cols]`: cells that hold a pixel of bool `[height, width]`.

    >>> cells_of(np.eye(4, dtype=bool), 2, 2).astype(int).tolist()
    [1, 0, 0, 1]
    """
    ys, xs = np.nonzero(pixels)
    height_px, width_px = pixels.shape
    cells = np.zeros(rows * cols, bool)
    cells[(ys * rows // height_px) * cols + xs * cols // width_px] = True
    return cells
