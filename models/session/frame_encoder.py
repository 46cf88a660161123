"""Turn one session's frames into visual tokens: the grid, the pruning, the encoding.

The engine's thread owns it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from models.checkpoint.settings import StreamSettings
from models.checkpoint.types import VisualTokens
from models.errors import SettingsError
from models.session.steps import Encode, EncodeOutput, StepGenerator, as_steps
from models.vision import VisionSettings
from streaming.difffp.live import CellGrid, Kind, LiveDiffFP, PaperDiffFP, Pruning

PruningMode = Literal["live", "paper", "none"]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A picture and its patches."""

    image: np.ndarray
    on_grid: np.ndarray
    """The picture resized to the grid, a copy."""
    patches: torch.Tensor


class FrameEncoder:
    """Grid, pruning and encoding of one stream."""

    def __init__(self, vision: VisionSettings, mode: PruningMode) -> None:
        if mode not in ("live", "paper", "none"):
            raise SettingsError(f"pruning {mode!r}: live, paper or none; live suits cameras")
        self._vision = vision
        self._mode = mode
        self._size: tuple[int, int] | None = None
        self._grid: CellGrid | None = None
        self._live: LiveDiffFP | None = None
        self._paper: PaperDiffFP | None = None
        self._seen: _Seen | None = None
        """The last picture."""
        self._is_repeated = False
        """Whether it is the one before, shown again."""
        self._pruned: torch.Tensor | None = None
        """The last pruned patches."""
        self._encoded: tuple[torch.Tensor, torch.Tensor] | None = None
        """The last encoded patches, and the tokens of all their cells."""
        self.elapsed_ms = 0.0
        """Total time spent encoding."""

    @property
    def grid(self) -> CellGrid | None:
        """The current grid; `None` before the first picture."""
        return self._grid

    def new_grid(self, image: np.ndarray, max_cells: int) -> CellGrid | None:
        """The grid for a picture of a new size; `None` where the current grid still fits."""
        size = image.shape[0], image.shape[1]
        if size == self._size:
            return None
        return self._vision.fit_grid(size[1], size[0], max_cells=max_cells)

    def pruner(self, grid: CellGrid, settings: StreamSettings) -> LiveDiffFP | None:
        """Live pruning for a grid; `None` in the other modes. Raises `SettingsError`."""
        if self._mode != "live":
            return None
        try:
            return LiveDiffFP(grid, settings.live_pruning(), self._vision.std)
        except ValueError as error:
            raise SettingsError(f"pruning: {error}") from error

    def begin(self, image: np.ndarray, grid: CellGrid, settings: StreamSettings) -> None:
        """Use `grid` from this picture on: the next frame is kept whole and the noise floor is estimated again."""
        self._live, self._paper = self.pruner(grid, settings), PaperDiffFP(grid)
        self._size, self._grid = (image.shape[0], image.shape[1]), grid
        self._seen = self._pruned = self._encoded = None

    def restart(self, settings: StreamSettings) -> None:
        """Start again with other settings and the same grid; does nothing where there is no grid yet."""
        if self._grid is not None:
            self._live, self._paper = self.pruner(self._grid, settings), PaperDiffFP(self._grid)

    def patches(
        self, image: np.ndarray, on_grid: np.ndarray | None = None, *, is_repeated: bool = False
    ) -> torch.Tensor:
        """Float32 `[num_patches, values]` of a picture; the same tensor as last time where its pixels are the same.

        on_grid: the picture already resized by `VisionSettings.fitted`.
        """
        grid, seen = self._grid, self._seen
        assert grid is not None, "patches before begin"
        self._is_repeated = is_repeated and seen is not None and seen.image is image
        if seen is not None and self._is_repeated:
            return seen.patches
        side = grid.patch_px * grid.merge
        if on_grid is None or on_grid.shape[:2] != (grid.rows * side, grid.cols * side):
            on_grid = self._vision.fitted(image, grid)
        if seen is not None and np.array_equal(on_grid, seen.on_grid):
            self._seen = replace(seen, image=image)
        else:
            self._seen = _Seen(image, on_grid.copy(), self._vision.cut(torch.from_numpy(on_grid), grid))
        return self._seen.patches

    def prune(self, patches: torch.Tensor, time_s: float, tokens_before: int, must_keep: np.ndarray) -> Pruning:
        """Decide which cells become tokens, and whether the frame is appended at all."""
        assert self._grid is not None and self._paper is not None, "prune before begin"
        if self._live is not None:
            is_equal, self._pruned = patches is self._pruned, patches
            return self._live.push(
                patches,
                time_s,
                tokens_before=tokens_before,
                must_keep=must_keep,
                is_repeated=is_equal and self._is_repeated,
                is_equal=is_equal,
            )
        changed = self._paper.push(patches).cpu().numpy()
        keep = changed if self._mode == "paper" else np.ones_like(changed)
        kind = Kind.WHOLE if keep.all() else Kind.CHANGED
        return Pruning(keep=keep, changed=changed, refreshed=keep & ~changed, kind=kind, noise_levels=0.0)

    @as_steps
    def encode(self, patches: torch.Tensor, keep: np.ndarray, time_s: float) -> StepGenerator[VisualTokens]:
        """Encode the whole frame, because its patches attend to each other; returns the visual tokens of the kept
        cells.

        A repeated picture is not encoded again.
        """
        assert self._grid is not None, "encode before begin"
        if not self._is_repeated or self._encoded is None or self._encoded[0] is not patches:
            output = yield Encode(patches, self._grid)
            assert isinstance(output, EncodeOutput)
            self.elapsed_ms += output.elapsed_ms
            self._encoded = patches, output.tokens
        tokens = self._encoded[1]
        kept = torch.from_numpy(np.flatnonzero(keep)).to(tokens.device)
        return VisualTokens(embeddings=tokens[kept], keep_mask=keep, grid=self._grid, pts_s=time_s)

    def keep_next_whole(self) -> None:
        """Keep the next frame whole, because its predecessor's tokens are no longer in the cache."""
        if self._live is not None:
            self._live.keep_next_whole()
        if self._paper is not None:
            self._paper.reset()

    def hot_cells(self) -> np.ndarray:
        """Bool `[num_cells]`: cells that changed in nearly every frame of the last minute, such as a clock in the
        picture."""
        if self._live is not None:
            return self._live.hot_cells()
        return np.zeros(self._grid.num_cells if self._grid else 0, dtype=bool)
