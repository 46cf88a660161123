"""Resize a frame's picture to the model's grid ahead of time, on another thread than the engine's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.errors import VisionError
from models.vision import VisionSettings
from streaming.types import Frame


@dataclass(frozen=True, slots=True)
class Fitter:
    """Does the resizing of `Session.see` in advance, with identical pixels. Any thread; holds no session."""

    vision: VisionSettings
    max_cells: int
    """The session's budget of merged cells per frame."""

    def __call__(self, frame: Frame) -> Frame:
        """The frame with `on_grid` filled in; unchanged where no grid fits, which `see` then refuses."""
        height_px, width_px = frame.image.shape[:2]
        try:
            grid = self.vision.fit_grid(width_px, height_px, max_cells=self.max_cells)
        except VisionError:
            return frame
        return replace(frame, on_grid=self.vision.fitted(frame.image, grid))
