"""Test scenes, encodings and a window ledger for pruning: they make pictures and cut them into patches."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import av
import numpy as np
import torch

from streaming.difffp.live import CellGrid, LiveDiffFP, LiveSettings, Pruning

STD = (0.5, 0.5, 0.5)
WRAPPER_TOKENS = 13
CODED_FPS = 25
SAMPLED_FPS = 2.0
WARM_UP = 20
"""Frames of the first ten seconds."""


def patches_of(picture: np.ndarray, grid: CellGrid) -> torch.Tensor:
    """Patches `[num_patches, patch_dim]` of an RGB uint8 picture, by merged cell, normalised with mean and std 0.5."""
    size, merge = grid.patch_px, grid.merge
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
    cut = ((pixels - 0.5) / 0.5).view(3, grid.rows, merge, size, grid.cols, merge, size)
    return cut.permute(1, 4, 2, 5, 0, 3, 6).reshape(grid.num_patches, -1)


def size_px(grid: CellGrid) -> tuple[int, int]:
    """Height and width of the picture that fills the grid."""
    cell = grid.merge * grid.patch_px
    return grid.rows * cell, grid.cols * cell


def flat(grid: CellGrid, level: float = 120.0) -> np.ndarray:
    """A plain background, `[height, width, 3]` float64 grey levels."""
    return np.full((*size_px(grid), 3), level)


def textured(grid: CellGrid, rng: np.random.Generator, contrast: float = 30.0) -> np.ndarray:
    """A background with a 1/f spectrum, like natural pictures; `contrast` is its standard deviation."""
    height, width = size_px(grid)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    planes = np.fft.ifft2(np.exp(2j * np.pi * rng.random((3, height, width))) / frequency).real
    shared = 0.8 * planes[:1] + 0.2 * planes
    shared = (shared - shared.mean()) / shared.std()
    return np.clip(120 + contrast * shared.transpose(1, 2, 0), 24, 231)


def sensor(scene: np.ndarray, sigma: float, rng: np.random.Generator, by_signal: bool = False) -> np.ndarray:
    """The scene as a camera with Gaussian noise sees it, uint8; `by_signal` makes the noise grow with the light."""
    scale = sigma * np.sqrt(scene / 128) if by_signal else sigma
    noise = rng.standard_normal(scene.shape, dtype=np.float32)
    return np.clip(np.rint(scene + scale * noise), 0, 255).astype(np.uint8)


def coverage(shape: Sequence[int], top: float, left: float, size: float = 28.0) -> np.ndarray:
    """The share of each pixel that a square at a fractional position covers, `[height, width]`, 0 to 1."""
    sides = []
    for length, start in zip(shape[:2], (top, left), strict=True):
        edges = np.arange(length)
        sides.append(np.clip(np.minimum(edges + 1, start + size) - np.maximum(edges, start), 0, 1))
    return sides[0][:, None] * sides[1][None, :]


def cells_of(touched: np.ndarray, grid: CellGrid) -> np.ndarray:
    """The cells that contain a marked pixel, `[num_cells]` bool, from `[height, width]` bool."""
    cell = grid.merge * grid.patch_px
    return touched.reshape(grid.rows, cell, grid.cols, cell).any(axis=(1, 3)).ravel()


def h264(pictures: Iterable[np.ndarray], gop: int = 50, crf: int = 28) -> Iterator[np.ndarray]:
    """The pictures after libx264 at 25 frames a second."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="matroska") as out:
        options = {"crf": str(crf), "g": str(gop), "threads": "1"}
        stream: Any = out.add_stream("libx264", rate=CODED_FPS, options=options)
        stream.pix_fmt = "yuv420p"
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory, "r") as coded:
        for frame in coded.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def sampled(pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Two pictures a second, from pictures at 25 a second."""
    wanted = 0.0
    for index, picture in enumerate(pictures):
        if index >= wanted:
            wanted += CODED_FPS / SAMPLED_FPS
            yield picture


def live(grid: CellGrid, window_frames: int = 32) -> LiveDiffFP:
    return LiveDiffFP(grid, LiveSettings(window_low_tokens=window_frames * grid.num_cells), STD)


def watch(pruner: LiveDiffFP, grid: CellGrid, pictures: Iterable[np.ndarray], since_s: float = 0.0) -> list[Pruning]:
    """The decisions of live pruning about pictures at two a second."""
    decisions, tokens = [], 0
    for index, picture in enumerate(pictures):
        pts_s = since_s + index / SAMPLED_FPS
        decision = pruner.push(patches_of(picture, grid), pts_s, tokens_before=tokens)
        if decision.appended:
            tokens += int(decision.keep.sum()) + WRAPPER_TOKENS
        decisions.append(decision)
    return decisions


def share_changed(decisions: Sequence[Pruning]) -> float:
    """The mean share of changed cells after the first ten seconds."""
    return float(np.mean([decision.changed.mean() for decision in decisions[WARM_UP:]]))


class Ledger:
    """A window like a session's: whole frames and turns are evicted from its front, between two watermarks."""

    def __init__(self, num_cells: int, low: int) -> None:
        self.total = 0
        self._low, self._high = low, low * 5 // 4
        self._num_cells = num_cells
        self._units: list[tuple[int, int, np.ndarray]] = []

    def append_frame(self, index: int, keep: np.ndarray) -> None:
        self._append(index, int(keep.sum()) + WRAPPER_TOKENS, keep)

    def append_text(self, num_tokens: int) -> None:
        self._append(-1, num_tokens, np.zeros(self._num_cells, dtype=bool))

    def newest(self) -> np.ndarray:
        """The frame of each cell's newest token, `[num_cells]` int; -1 if the window has none."""
        found = np.full(self._num_cells, -1)
        for index, _, keep in self._units:
            found[keep] = index
        return found

    def _append(self, index: int, num_tokens: int, keep: np.ndarray) -> None:
        self.total += num_tokens
        self._units.append((index, num_tokens, keep))
        held = sum(tokens for _, tokens, _ in self._units)
        if held > self._high:
            while held > self._low:
                held -= self._units.pop(0)[1]
