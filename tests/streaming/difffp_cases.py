"""Scenes, encodings and a window's ledger to try live pruning with: pictures in, patches out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from streaming.difffp import CellGrid, LiveDiffFP, LiveSettings, Pruning

MEAN = STD = (0.5, 0.5, 0.5)
WRAPPER_TOKENS = 13
CODED_FPS = 25
SAMPLED_FPS = 2


def patches_of(picture: np.ndarray, grid: CellGrid) -> torch.Tensor:
    """Normalised patches `[num_patches, patch_dim]`, by merged cell, of an RGB uint8 picture of the grid's size."""
    size, merge = grid.patch_px, grid.merge
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255
    pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    cut = pixels.view(3, grid.rows, merge, size, grid.cols, merge, size)
    return cut.permute(1, 4, 2, 5, 0, 3, 6).reshape(grid.num_patches, -1)


def size_px(grid: CellGrid) -> tuple[int, int]:
    """Height and width of the picture that fills the grid."""
    cell = grid.merge * grid.patch_px
    return grid.rows * cell, grid.cols * cell


def flat(grid: CellGrid, level: float = 120.0) -> np.ndarray:
    """A plain ground, `[height, width, 3]` float64 grey levels."""
    return np.full((*size_px(grid), 3), level)


def textured(grid: CellGrid, rng: np.random.Generator, contrast: float = 30.0) -> np.ndarray:
    """A ground whose spectrum falls as 1/f, as natural pictures' do; `contrast` is its standard deviation."""
    height, width = size_px(grid)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    phases = np.exp(2j * np.pi * rng.random((3, height, width)))
    planes = np.fft.ifft2(phases / frequency).real
    shared = 0.8 * planes[:1] + 0.2 * planes
    shared = (shared - shared.mean()) / shared.std()
    return np.clip(120 + contrast * shared.transpose(1, 2, 0), 0, 255)


def sensor(scene: np.ndarray, sigma: float, rng: np.random.Generator, by_signal: bool = False) -> np.ndarray:
    """The scene as a camera with Gaussian noise sees it, uint8; `by_signal` makes the noise grow with the light."""
    scale = sigma * np.sqrt(scene / 128) if by_signal else sigma
    return np.clip(np.rint(scene + scale * rng.standard_normal(scene.shape)), 0, 255).astype(np.uint8)


def h264(pictures: Iterable[np.ndarray], gop: int = 50, crf: int = 28, preset: str = "medium") -> Iterator[np.ndarray]:
    """The pictures after libx264 at 25 frames a second."""
    import av

    memory = io.BytesIO()
    with av.open(memory, "w", format="matroska") as out:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = out.add_stream("libx264", rate=CODED_FPS)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": str(crf), "g": str(gop), "preset": preset}
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory) as coded:
        for frame in coded.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def sampled(pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Two pictures a second out of twenty-five."""
    wanted, taken = 0.0, []
    for index, picture in enumerate(pictures):
        if index >= wanted:
            taken.append(picture)
            wanted += CODED_FPS / SAMPLED_FPS
    return taken


@dataclass
class Ledger:
    """A window as a session keeps it: whole frames leave its front between two watermarks."""

    low: int
    high: int
    total: int = 0
    held: int = 0
    frames: list[tuple[int, int, np.ndarray]] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.frames = []

    def append(self, index: int, keep: np.ndarray) -> None:
        tokens = int(keep.sum()) + WRAPPER_TOKENS
        self.frames.append((index, tokens, keep))
        self._grow(tokens)

    def say(self, tokens: int) -> None:
        """Text takes room too."""
        self.frames.append((-1, tokens, np.zeros(0, dtype=bool)))
        self._grow(tokens)

    def _grow(self, tokens: int) -> None:
        self.total += tokens
        self.held += tokens
        if self.held > self.high:
            while self.held > self.low:
                self.held -= self.frames.pop(0)[1]


def live(grid: CellGrid, window_frames: int = 32) -> LiveDiffFP:
    return LiveDiffFP(grid, LiveSettings(window_low_tokens=window_frames * grid.num_cells), STD)


def watch(
    pruner: LiveDiffFP, grid: CellGrid, pictures: Iterable[np.ndarray], fps: float = SAMPLED_FPS
) -> list[Pruning]:
    """What live pruning decides about the pictures, one after the other."""
    decisions, tokens = [], 0
    for index, picture in enumerate(pictures):
        decision = pruner.push(patches_of(picture, grid), index / fps, tokens_before=tokens)
        if decision.appended:
            tokens += int(decision.keep.sum()) + WRAPPER_TOKENS
        decisions.append(decision)
    return decisions


def clips_dir() -> Path:
    import os

    return Path(os.environ.get("CLIPS_DIR", Path(__file__).parents[2].parent / "shared" / "clips"))


def clip_pictures(path: Path, grid: CellGrid, fps: float = SAMPLED_FPS) -> Iterator[tuple[float, np.ndarray]]:
    """Media time and picture of a clip's frames at `fps`, resized to the grid."""
    import av

    height, width = size_px(grid)
    with av.open(str(path)) as clip:
        due_s = 0.0
        for frame in clip.decode(video=0):
            if frame.time + 1e-6 < due_s:
                continue
            due_s += 1 / fps
            yield frame.time, np.asarray(frame.to_image().resize((width, height), Image.Resampling.BICUBIC))
