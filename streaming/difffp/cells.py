"""The cells of a view, the settings of live pruning and its decisions. Any thread may hold them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from streaming.difffp.refresh import least_window_tokens
from streaming.errors import OptionError

NUM_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The merged cells of one view."""

    rows: int
    """Merged cells from top to bottom."""
    cols: int
    """Merged cells from left to right."""
    merge: int = 2
    """A cell is `merge` x `merge` patches: 2 for video, 1 for still images."""
    patch_px: int = 14

    def __post_init__(self) -> None:
        for name in ("rows", "cols", "merge", "patch_px"):
            value = getattr(self, name)
            if value < 1:
                raise OptionError(f"grid with {name}={value}", "it must be at least 1", "give the view a larger size")

    @property
    def num_cells(self) -> int:
        return self.rows * self.cols

    @property
    def num_patches(self) -> int:
        return self.num_cells * self.merge**2

    @property
    def patch_dim(self) -> int:
        """Values in one patch: channels x pixels."""
        return NUM_CHANNELS * self.patch_px**2

    def check(self, shape: tuple[int, ...], num_frames: int = 1) -> None:
        """Raises ConfigError where `shape` is not `[num_frames * num_patches, patch_dim]`."""
        expected = (num_frames * self.num_patches, self.patch_dim)
        if tuple(shape) != expected:
            raise OptionError(
                f"patches of shape {tuple(shape)}",
                f"{num_frames} frame(s) of {self.rows} x {self.cols} cells have {expected}",
                "cut the frame by the same grid, or announce the new grid first",
            )


class Kind(StrEnum):
    """Why a frame is appended to the stream, or is not."""

    WHOLE = "whole"
    CHANGED = "changed"
    SETTLING = "settling"
    HEARTBEAT = "heartbeat"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Pruning:
    """The decision about one frame. The arrays are `[num_cells]` bool, row-major; readers never write to them."""

    keep: np.ndarray
    """The cells that become tokens: changed or refreshed."""
    changed: np.ndarray
    """Cells that look different from their last kept pixels. All of them in a whole frame."""
    refreshed: np.ndarray
    """Unchanged cells kept because their token is about to leave the window, or to go stale."""
    kind: Kind
    noise_levels: float
    """The source's estimated noise floor: the standard deviation of one frame's pixels, grey levels."""

    @property
    def appended(self) -> bool:
        """Whether the frame goes into the stream; a skipped one costs no tokens and no encoder pass."""
        return self.kind is not Kind.SKIPPED


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How live pruning behaves. Checked here, and against the grid where the two meet.

    A cell changes when any of its patches passes any of the five thresholds, all in grey levels.
    """

    window_low_tokens: int
    """L, the low watermark of the vision window: what eviction leaves. At least eight whole frames of cells."""
    settle_s: float = 2.0
    """For how long after a change empty frames are still appended: something has stopped."""
    heartbeat_s: float = 4.0
    """How often an empty frame is appended after that."""
    brightness_levels: float = 9.0
    """The patch's mean, beside what the exposure of the whole picture did since the cell was kept."""
    exposure_levels: float = 16.0
    """The patch's mean, whatever the cause: no token is further than this from what the camera shows."""
    colour_levels: float = 6.0
    """The mean of a channel, beside that of all three."""
    contrast_levels: float = 6.0
    """The mean of a quarter patch, beside that of the patch. The least; noise raises it up to 8."""
    detail_levels: float = 4.0
    """The rms inside the quarter patches. The least; noise raises it as far as it goes."""

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
        """Raises ConfigError where the window is too small for the grid."""
        least = least_window_tokens(grid.num_cells)
        if self.window_low_tokens < least:
            raise OptionError(
                f"window_low_tokens={self.window_low_tokens}",
                f"a view of {grid.rows} x {grid.cols} cells needs at least {least}",
                "raise the vision window, or give a frame fewer tokens",
            )
