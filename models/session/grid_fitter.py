"""Resize a frame's picture to the model's grid ahead of time, on another thread than the engine's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.errors import VisionError
from models.vision import VisionSettings
from streaming.thumbnails import reduced
from streaming.types import Frame

GAP = 3
"""A reduced picture is at least so many times as large as the grid."""


@dataclass(frozen=True, slots=True)
class Fitter:
    """Does the resizing of `Session.see` in advance. Any thread; holds no session."""

    vision: VisionSettings
    max_cells: int
    """The session's budget of merged cells per frame."""
    is_exact: bool = True
    """Whether pixels are identical to those of `Session.see`; otherwise large pictures are reduced first, which changes
    single pixels by a few grey levels and takes a quarter of the time."""

    def __call__(self, frame: Frame) -> Frame:
        """The frame with `on_grid` filled in; unchanged where no grid fits, which `see` then refuses."""
        height_px, width_px = frame.image.shape[:2]
        try:
            grid = self.vision.fit_grid(width_px, height_px, max_cells=self.max_cells)
        except VisionError:
            return frame
        image = frame.image
        if not self.is_exact:
            side = GAP * grid.patch_px * grid.merge
            image = reduced(image, grid.cols * side, grid.rows * side, frame.reduced)
        return replace(frame, on_grid=self.vision.fitted(image, grid), reduced=None)
