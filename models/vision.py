"""Any-resolution tokenization (AVT): pictures to grids and patches. Pure functions; any thread may call.

Source of the grid rule and the patch order: VideoLLaMA 3 (arXiv 2501.13106, section 2.1) and its published image
processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from models.errors import VisionError
from streaming.difffp.live import CellGrid

MAX_ASPECT = 200.0
"""Largest ratio of sides that the published processors accept."""
MOST_ASPECT = 16.0
"""Largest ratio of sides for pictures a user asks about: above it a budget of a hundred cells distorts the picture too
much."""


@dataclass(frozen=True, slots=True)
class VisionSettings:
    """A checkpoint's picture settings, from its own preprocessor configuration."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    patch_px: int = 14
    image_merge: int = 1
    video_merge: int = 2
    min_tokens: int = 16
    """Fewest tokens of a picture, counted in cells of its own merge size."""
    max_tokens: int = 16384
    border_px: int = 0
    """Width of the black border drawn around the resized picture."""

    def check_picture(self, width_px: int, height_px: int, *, merge: int | None = None) -> None:
        """Raise `VisionError` for a picture that is too small, or too long and thin, for the model to see anything in
        it.

        For pictures that a user gives. A camera whose picture takes such a shape in the middle of a stream goes on.
        """
        side = self.patch_px * (self.video_merge if merge is None else merge)
        given = f"a picture of {width_px} x {height_px} px"
        if min(width_px, height_px) < side:
            raise VisionError(f"{given}: each side needs at least {side} px, one cell of the grid; give a larger one")
        if max(width_px, height_px) > MOST_ASPECT * min(width_px, height_px):
            raise VisionError(
                f"{given}: one side may be at most {MOST_ASPECT:g} times the other, or the grid shows it squeezed; "
                "crop it, or add a margin"
            )

    def fit_grid(
        self, width_px: int, height_px: int, *, max_cells: int | None = None, merge: int | None = None
    ) -> CellGrid:
        """The largest grid within the budget of merged cells, in the picture's aspect ratio.

        Raises `VisionError` for pictures more than 200 times as wide as high, or as high as wide.
        """
        merge = self.video_merge if merge is None else merge
        budget = min(self.max_tokens, max_cells or self.max_tokens)
        if width_px < 1 or height_px < 1 or max(width_px, height_px) / min(width_px, height_px) > MAX_ASPECT:
            raise VisionError(
                f"a picture of {width_px} x {height_px} px: sides must be at least 1 px and within a ratio of "
                f"{MAX_ASPECT:g}; crop the picture first"
            )
        factor = self.patch_px * merge
        rows, cols = max(1, round(height_px / factor)), max(1, round(width_px / factor))
        if rows * cols > budget:
            # The order of these operations matters for rounding; it is that of the published processors.
            beta = math.sqrt(height_px * width_px / (budget * factor**2))
            rows = max(1, math.floor(height_px / beta / factor))
            cols = max(1, math.floor(width_px / beta / factor))
            rows, cols = min(rows, budget // cols or 1), min(cols, budget)
        elif rows * cols < self.min_tokens:
            beta = math.sqrt(self.min_tokens * factor**2 / (height_px * width_px))
            rows, cols = math.ceil(height_px * beta / factor), math.ceil(width_px * beta / factor)
            rows, cols = min(rows, budget), min(cols, max(1, budget // min(rows, budget)))
        return CellGrid(rows=rows, cols=cols, merge=merge, patch_px=self.patch_px)

    def patches(self, image: np.ndarray, grid: CellGrid) -> torch.Tensor:
        """Resize (bicubic, antialiased), normalise and cut a picture into patches.

        image: uint8 `[height, width, 3]`. Returns float32 `[num_patches, 3 * patch_px ** 2]`, ordered by merged cell.
        """
        return self.cut(torch.from_numpy(self.fitted(image, grid)), grid)

    def fitted(self, image: np.ndarray, grid: CellGrid) -> np.ndarray:
        """The picture resized to the grid, with a black border where the checkpoint asks for one; uint8, contiguous."""
        side = grid.patch_px * grid.merge
        height, width = grid.rows * side, grid.cols * side
        if image.shape[:2] != (height, width):
            image = _resize(image, width, height)
        if self.border_px:
            image = _framed(image, self.border_px)
        # torch warns about read-only arrays, and frames may be read-only: such a picture is copied.
        return np.require(image, requirements=["C_CONTIGUOUS", "WRITEABLE"])

    def cut(self, image: torch.Tensor, grid: CellGrid) -> torch.Tensor:
        """Normalise and cut uint8 pictures `[..., height, width, 3]` that already have the grid's size into patches."""
        mean = torch.tensor(self.mean, dtype=torch.float32, device=image.device)[:, None]
        std = torch.tensor(self.std, dtype=torch.float32, device=image.device)[:, None]
        merge, patch = grid.merge, grid.patch_px
        cells = image.view(*image.shape[:-3], grid.rows, merge, patch, grid.cols, merge, patch, 3)
        ordered = cells.movedim((-7, -4, -6, -3, -1, -5, -2), (-7, -6, -5, -4, -3, -2, -1))
        # Ordered as bytes first: then a channel's values lie side by side, which takes half of the time.
        patches = ordered.reshape(*image.shape[:-3], grid.num_patches, 3, patch * patch).float()
        return patches.div_(255.0).sub_(mean).div_(std).flatten(-2)


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _framed(image: np.ndarray, border_px: int) -> np.ndarray:
    framed = np.zeros_like(image)
    inner = (slice(border_px, -border_px), slice(border_px, -border_px))
    framed[inner] = image[inner]
    return framed
