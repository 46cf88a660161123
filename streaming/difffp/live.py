"""DiffFP frame by frame: decides which merged cells of a frame become tokens. Each object belongs to one thread."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from streaming.difffp.cells import NUM_CHANNELS, CellGrid, Kind, LiveSettings, Pruning
from streaming.difffp.exposure import Exposure
from streaming.difffp.noise import Difference, NoiseFloor
from streaming.difffp.refresh import RefreshClock
from streaming.errors import OptionError

__all__ = ["CellGrid", "Kind", "LiveDiffFP", "LiveSettings", "PaperDiffFP", "Pruning", "clip_mask"]

PAPER_THRESHOLD = 0.1
"""Threshold of the published DiffFP: mean absolute difference of normalised pixels, times 255."""
STALE_STRAIN = 0.5
"""A cell whose brightness is half-way to its threshold is refreshed when a frame is appended anyway."""
MOSTLY_CHANGED = 0.5
"""Where more than this share of the cells changed, those that only the exposure made brighter or darker are refreshed
too, so that the window does not show a few cells in the light of before."""
STALE_RENEWAL_S = 16.0
"""Time over which the refreshing of a whole view is spread."""
HOT_SPAN_S = 60.0
"""Time over which `hot_cells` counts changes."""
HOT_SHARE = 0.9
"""A hot cell changed in more than this share of the frames."""
HOT_LEAST_FRAMES = 30
"""No cell is hot before this many frames."""
HOT_LARGEST_SHARE = 0.5
"""No cell is hot if more than this share of all cells would be: then the camera moves."""


def clip_mask(patches: torch.Tensor, grid: CellGrid, num_frames: int) -> torch.Tensor:
    """The cells that the published DiffFP keeps of a whole clip at once.

    `patches` is `[num_frames * num_patches, patch_dim]`; returns `[num_frames * num_cells]` bool. After
    DAMO-NLP-SG/VideoLLaMA3, `_get_compression_mask`: threshold 0.1, at least one token a frame.
    """
    grid.check(patches.shape, num_frames)
    pixels = patches.view(num_frames, grid.num_cells, -1)
    difference = (pixels[1:] - pixels[:-1]).abs().mean(dim=-1) * 255
    keep = torch.cat([torch.ones_like(pixels[:1, :, 0], dtype=torch.bool), difference > PAPER_THRESHOLD])
    keep[~keep.any(dim=1), 0] = True
    return keep.flatten()


class PaperDiffFP:
    """The published DiffFP, one frame at a time: compares each frame with the previous one (`reference: previous`)."""

    def __init__(self, grid: CellGrid) -> None:
        self._grid = grid
        self._previous: torch.Tensor | None = None

    def push(self, patches: torch.Tensor) -> torch.Tensor:
        """The cells kept of the next frame, `[num_cells]` bool, from its `[num_patches, patch_dim]` patches."""
        self._grid.check(patches.shape)
        pixels = patches.reshape(self._grid.num_cells, -1)
        if self._previous is None:
            keep = torch.ones(self._grid.num_cells, dtype=torch.bool, device=patches.device)
        else:
            keep = (pixels - self._previous).abs().mean(dim=-1) * 255 > PAPER_THRESHOLD
            if not bool(keep.any()):
                keep[0] = True
        self._previous = pixels.clone()
        return keep

    def reset(self) -> None:
        """Forget the previous frame: the next one is kept whole."""
        self._previous = None


class LiveDiffFP:
    """Live pruning: compares each cell with its last *kept* pixels (`reference: kept`).

    So slow drift is noticed once it passes the threshold, and the window always holds, for each cell, a token made from
    pixels within the threshold of its present ones. `push` assumes that its decision is carried out: a frame that it
    reports as appended must be appended to the stream, starting at `tokens_before`. If that fails, call
    `keep_next_whole`.
    """

    def __init__(self, grid: CellGrid, settings: LiveSettings, std: Sequence[float]) -> None:
        """`std`: the checkpoint's standard deviation by channel, which converts normalised pixels to grey levels."""
        if len(std) != NUM_CHANNELS or min(std) <= 0:
            raise OptionError(f"std={tuple(std)}", "it must be three positive numbers", "read it from the checkpoint")
        self._settings = settings
        self._std = tuple(float(s) for s in std)
        self.reset_grid(grid)

    def reset_grid(self, grid: CellGrid) -> None:
        """Start anew with another grid, after the picture's size or rotation changed.

        The next frame is kept whole, and the noise is estimated afresh. Raises `OptionError` for too small a window.
        """
        self._settings.check(grid)
        self._grid = grid
        self._views = _Views(grid.patch_px, self._std)
        self._reference: _View | None = None
        self._previous: _View | None = None
        self._since_kept: Difference | None = None
        """How the last frame differs from the kept pixels; `None` once others are kept."""
        self._seen_at_s = 0.0
        self._appended_at_s = 0.0
        self._changed_at_s = 0.0
        self._whole_next = True
        settings = self._settings
        self._noise = NoiseFloor(grid.num_patches, settings.contrast_levels, settings.detail_levels)
        self._exposure = Exposure(grid.num_patches, settings.brightness_levels / 3, settings.exposure_levels)
        self._refresh = RefreshClock(grid.num_cells, self._settings.window_low_tokens)
        self._activity = _Activity(grid.num_cells)

    def keep_next_whole(self) -> None:
        """Keep every cell of the next frame, for a cache that has lost its frames."""
        self._whole_next = True

    def push(
        self,
        patches: torch.Tensor,
        pts_s: float,
        *,
        tokens_before: int,
        must_keep: np.ndarray | None = None,
        is_repeated: bool = False,
        is_equal: bool = False,
    ) -> Pruning:
        """Decide which cells of the next frame are kept, and whether the frame is appended.

        `patches` is `[num_patches, patch_dim]`, `pts_s` its media time. `tokens_before` counts every token appended to
        the stream so far, text included. `must_keep`, `[num_cells]` bool, marks cells whose tokens the caller is about
        to lose: they are refreshed, in a heartbeat if nothing else appends the frame. `is_equal` says that the pixels
        are those of the previous frame, which spares their comparison; `is_repeated` that it is the same picture, still
        shown, which tells nothing about the camera's noise.
        """
        self._grid.check(patches.shape)
        view = self._previous if is_equal or is_repeated else None
        view = self._views.of(patches) if view is None else view
        changed, strain = self._compare(view, pts_s, is_repeated=is_repeated)
        self._previous, self._seen_at_s = view, pts_s
        urgent = self._refresh.endangered(tokens_before)
        if must_keep is not None:
            urgent = urgent | must_keep
        kind = self._kind(changed, urgent, pts_s)
        refreshed = np.zeros_like(changed)
        if kind is Kind.WHOLE:
            changed = np.ones_like(changed)
        else:
            self._activity.add(changed, pts_s)
        if kind is not Kind.SKIPPED:
            due = urgent | self._refresh.due(tokens_before) | self._stale(strain, pts_s)
            if changed.mean() > MOSTLY_CHANGED:
                due |= self._shifted(view)
            refreshed = due & ~changed
        keep = changed | refreshed
        if kind is not Kind.SKIPPED:
            self._commit(view, keep, kind, pts_s, tokens_before)
        return Pruning(keep, changed, refreshed, kind, self.noise_levels)

    @property
    def noise_levels(self) -> float:
        """The source's estimated noise: the standard deviation of one frame's pixels, in grey levels."""
        return self._noise.levels

    def ages_tokens(self, tokens_now: int) -> np.ndarray:
        """Age of each cell's newest token, in tokens since its frame began, `[num_cells]` int64."""
        return self._refresh.ages(tokens_now)

    def hot_cells(self) -> np.ndarray:
        """Cells that changed in more than nine tenths of the last minute's frames, `[num_cells]` bool.

        They are candidates for a mask, as a burnt-in clock or a flag. No cell is marked before 30 frames were seen, nor
        if more than half of the view would be: then the camera moves.
        """
        return self._activity.hot()

    def _compare(self, view: _View, pts_s: float, *, is_repeated: bool) -> tuple[np.ndarray, np.ndarray]:
        """Which cells changed, `[num_cells]` bool, and each one's change of brightness as a share of its threshold.

        The exposure of the whole picture is estimated from the patches whose texture is unchanged, so that a camera
        that adjusts its exposure does not count as a change of every cell.
        """
        num_cells = self._grid.num_cells
        if self._previous is None or self._reference is None:
            return np.ones(num_cells, dtype=bool), np.zeros(num_cells)
        if view is not self._previous:
            since_frame, self._since_kept = view.differences(self._previous, self._reference)
        else:
            since_frame = Difference(*np.zeros((4, self._grid.num_patches), dtype=np.float32))
        since_kept = self._since_kept
        if since_kept is None:
            (since_kept,) = view.differences(self._reference)
        self._since_kept = since_kept
        if not is_repeated:
            self._noise.learn(since_frame, pts_s - self._seen_at_s)
        settings, shift = self._settings, since_kept.shift
        passed = self._noise.passed(since_kept) | (since_kept.colour > settings.colour_levels)
        self._exposure.update(shift, view.levels(), stayed=~passed)
        local = np.abs(shift - self._exposure.expected) / settings.brightness_levels
        strain = np.maximum(local, np.abs(shift) / settings.exposure_levels).reshape(num_cells, -1).max(axis=1)
        return (strain > 1) | passed.reshape(num_cells, -1).any(axis=1), strain

    def _kind(self, changed: np.ndarray, urgent: np.ndarray, pts_s: float) -> Kind:
        if self._whole_next:
            return Kind.WHOLE
        if changed.any():
            return Kind.CHANGED
        if 0 <= pts_s - self._changed_at_s <= self._settings.settle_s:
            return Kind.SETTLING
        still_s = pts_s - self._appended_at_s
        if urgent.any() or not 0 <= still_s < self._settings.heartbeat_s:
            return Kind.HEARTBEAT
        return Kind.SKIPPED

    def _stale(self, strain: np.ndarray, pts_s: float) -> np.ndarray:
        """The cells whose brightness drifted furthest, `[num_cells]` bool, at most the quota of a steady renewal."""
        elapsed_s = max(pts_s - self._appended_at_s, 0.0)
        quota = math.ceil(len(strain) * min(elapsed_s / STALE_RENEWAL_S, 1.0))
        worst = np.zeros(len(strain), dtype=bool)
        worst[np.argsort(-strain, kind="stable")[:quota]] = True
        return worst & (strain > STALE_STRAIN)

    def _shifted(self, view: _View) -> np.ndarray:
        """The cells whose brightness is another than when they were kept, whatever the reason, `[num_cells]` bool."""
        if self._reference is None:
            return np.zeros(self._grid.num_cells, dtype=bool)
        (since_kept,) = view.differences(self._reference)
        shifted = np.abs(since_kept.shift) > self._settings.brightness_levels
        cells: np.ndarray = shifted.reshape(self._grid.num_cells, -1).any(axis=1)
        return cells

    def _commit(self, view: _View, keep: np.ndarray, kind: Kind, pts_s: float, tokens_before: int) -> None:
        patches = keep.repeat(self._grid.merge**2)
        self._since_kept = None
        if self._reference is None:
            self._reference = view.copy()
        else:
            self._reference.overwrite(view, patches)
        self._exposure.reset_patches(patches)
        self._refresh.record_frame(keep, tokens_before)
        self._whole_next = False
        if kind in (Kind.WHOLE, Kind.CHANGED):
            self._changed_at_s = pts_s
        elif pts_s < self._changed_at_s:
            self._changed_at_s = -math.inf
        self._appended_at_s = pts_s


@dataclass(frozen=True, slots=True)
class _View:
    """One frame's pixels in grey levels, and their means over the quarters of its patches."""

    pixels: torch.Tensor
    """`[num_patches, patch_dim]`"""
    blocks: torch.Tensor
    """`[num_patches, 3, 4]`"""

    def differences(self, *others: _View) -> list[Difference]:
        """How this frame's patches differ from each of the others'."""
        found = torch.stack([self._statistics(other) for other in others]).cpu().numpy()
        return [Difference(*rows) for rows in found]

    def levels(self) -> np.ndarray:
        """The mean of each patch, relative to the checkpoint's mean, `[num_patches]`."""
        return self.blocks.mean(dim=(1, 2)).cpu().numpy()

    def _statistics(self, other: _View) -> torch.Tensor:
        """`[4, num_patches]`, in the order of `Difference`."""
        blocks = self.blocks - other.blocks
        power = torch.linalg.vector_norm(self.pixels - other.pixels, dim=1).square() / self.pixels.shape[1]
        detail = (power - blocks.square().mean(dim=(1, 2))).clamp_min(0).sqrt()
        grey = blocks.mean(dim=1)
        shift = grey.mean(dim=1, keepdim=True)
        colour = (blocks.mean(dim=2) - shift).abs().amax(dim=1)
        return torch.stack([shift[:, 0], colour, (grey - shift).abs().amax(dim=1), detail])

    def overwrite(self, other: _View, patches: np.ndarray) -> None:
        """Overwrite the patches marked in `[num_patches]` bool with those of `other`."""
        marked = torch.from_numpy(np.flatnonzero(patches)).to(self.pixels.device)
        self.pixels[marked] = other.pixels[marked]
        self.blocks[marked] = other.blocks[marked]

    def copy(self) -> _View:
        return _View(self.pixels.clone(), self.blocks.clone())


class _Views:
    """Makes a `_View` of each frame of one grid, on the device of its patches."""

    def __init__(self, patch_px: int, std: Sequence[float]) -> None:
        self._levels = torch.tensor(std).mul(255).repeat_interleave(patch_px**2)
        half = torch.arange(patch_px) * 2 // patch_px
        quarter = (half[:, None] * 2 + half[None, :]).flatten()
        member = torch.nn.functional.one_hot(quarter, 4).float()
        self._pool = member / member.sum(dim=0).clamp_min(1)

    def of(self, patches: torch.Tensor) -> _View:
        self._levels, self._pool = self._levels.to(patches.device), self._pool.to(patches.device)
        pixels = patches.float() * self._levels
        return _View(pixels, pixels.view(len(pixels), NUM_CHANNELS, -1) @ self._pool)


class _Activity:
    """Counts how often each cell changed in the frames of the last minute."""

    def __init__(self, num_cells: int) -> None:
        self._frames: deque[tuple[float, np.ndarray]] = deque()
        self._counts = np.zeros(num_cells, dtype=np.int64)

    def add(self, changed: np.ndarray, pts_s: float) -> None:
        self._frames.append((pts_s, changed))
        self._counts += changed
        while not 0 <= pts_s - self._frames[0][0] <= HOT_SPAN_S:
            self._counts -= self._frames.popleft()[1]

    def hot(self) -> np.ndarray:
        """The cells that changed in nearly every frame, `[num_cells]` bool."""
        hot = self._counts > HOT_SHARE * len(self._frames)
        if len(self._frames) < HOT_LEAST_FRAMES or hot.sum() > HOT_LARGEST_SHARE * len(hot):
            return np.zeros_like(hot)
        return hot
