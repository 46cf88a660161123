"""Data types of DiffFP: the grid of cells, the settings of live pruning, and its decisions. For any thread."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from streaming.difffp.refresh import least_window_tokens
from streaming.errors import OptionError

NUM_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The grid of merged cells of one picture size; each cell becomes one token."""

    rows: int
    """Merged cells from top to bottom."""
    cols: int
    """Merged cells from left to right."""
    merge: int = 2
    """A cell is `merge` x `merge` patches: 2 for video, 1 for still images."""
    patch_px: int = 14
    """Side of a patch in pixels."""

    def __post_init__(self) -> None:
        for name in ("rows", "cols", "merge", "patch_px"):
            value = getattr(self, name)
            if value < 1:
                raise OptionError(f"grid with {name}={value}", "it must be at least 1", "give the view a larger size")

    @property
    def num_cells(self) -> int:
        """Number of merged cells."""
        return self.rows * self.cols

    @property
    def num_patches(self) -> int:
        """Number of patches."""
        return self.num_cells * self.merge**2

    @property
    def patch_dim(self) -> int:
        """Number of values in one patch: channels x pixels."""
        return NUM_CHANNELS * self.patch_px**2

    def check(self, shape: tuple[int, ...], num_frames: int = 1) -> None:
        """Raise `OptionError` if `shape` is not `[num_frames * num_patches, patch_dim]`."""
        expected = (num_frames * self.num_patches, self.patch_dim)
        if tuple(shape) != expected:
            raise OptionError(
                f"patches of shape {tuple(shape)}",
                f"{num_frames} frame(s) of {self.rows} x {self.cols} cells have {expected}",
                "cut the frame by the same grid, or announce the new grid first",
            )


class Kind(StrEnum):
    """Why a frame is appended to the model's stream, or is skipped."""

    WHOLE = "whole"
    """Every cell is kept: the first frame, or one after `keep_next_whole`."""
    CHANGED = "changed"
    """Some cells changed."""
    SETTLING = "settling"
    """Nothing changed, but something did within the last `settle_s`."""
    HEARTBEAT = "heartbeat"
    """Nothing changed, and `heartbeat_s` have passed or cells must be refreshed."""
    SKIPPED = "skipped"
    """The frame is not appended."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which cells of one frame are kept. The arrays are `[num_cells]` bool, row-major; readers never write to them."""

    keep: np.ndarray
    """The cells that become tokens: changed or refreshed."""
    changed: np.ndarray
    """Cells that differ from their last kept pixels; all cells in a whole frame."""
    refreshed: np.ndarray
    """Unchanged cells that are kept because their token is about to be evicted or is going stale."""
    kind: Kind
    noise_levels: float
    """The source's estimated noise floor: the standard deviation of one frame's pixels, in grey levels."""

    @property
    def appended(self) -> bool:
        """Whether the frame is appended to the stream; a skipped frame costs no tokens and no encoder pass."""
        return self.kind is not Kind.SKIPPED


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Settings of live pruning. The constructor checks them alone, `check` against a grid.

    A cell counts as changed if any of its patches passes any of the five thresholds, all in grey levels.
    """

    window_low_tokens: int
    """L, the low watermark of the vision window: the tokens that eviction leaves. At least eight times the cells."""
    settle_s: float = 2.0
    """How long after a change empty frames are still appended, so that the model sees that something stopped."""
    heartbeat_s: float = 4.0
    """Interval between empty frames that are appended after that."""
    brightness_levels: float = 9.0
    """Threshold on a patch's mean, after subtracting what the exposure of the whole picture changed it by."""
    exposure_levels: float = 16.0
    """Threshold on a patch's mean from any cause: no token is further than this from what the camera shows."""
    colour_levels: float = 6.0
    """Threshold on a channel's mean, relative to the mean of all three channels."""
    contrast_levels: float = 6.0
    """Threshold on a quarter patch's mean, relative to the patch's mean. This is the least; noise raises it up to 8."""
    detail_levels: float = 4.0
    """Threshold on the rms inside the quarter patches. This is the least; noise raises it up to 40."""

    def __post_init__(self) -> None:
        ranges = {"settle_s": (0, 60), "heartbeat_s": (0.1, 600)}
        levels = ("brightness_levels", "exposure_levels", "colour_levels", "contrast_levels", "detail_levels")
        for name, (least, most) in (ranges | dict.fromkeys(levels, (0.1, 255))).items():
            value = getattr(self, name)
            if not least <= value <= most:
                rule = f"it must lie between {least} and {most}"
                raise OptionError(f"{name}={value}", rule, "leave it out for the default")
        if self.window_low_tokens < 1:
            raise OptionError(f"window_low_tokens={self.window_low_tokens}", "it must be at least 1", "raise it")

    def check(self, grid: CellGrid) -> None:
        """Raise `OptionError` if the vision window is too small for the grid."""
        least = least_window_tokens(grid.num_cells)
        if self.window_low_tokens < least:
            raise OptionError(
                f"window_low_tokens={self.window_low_tokens}",
                f"a view of {grid.rows} x {grid.cols} cells needs at least {least}",
                "raise the vision window, or give a frame fewer tokens",
            )
