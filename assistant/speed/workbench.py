"""What the rows of the speed table share: the model, pictures of real cameras, and how long to measure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.errors import ConfigError
from assistant.inputs.sample_clips import SAMPLES, resolve_sample
from assistant.inputs.source_names import SAMPLE
from streaming.capture import Capture
from streaming.errors import StreamingError
from streaming.open_source import open_source
from streaming.sources.base import SourceOptions
from streaming.thumbnails import scaled_down
from streaming.types import Frame

if TYPE_CHECKING:
    from models.engine import Engine

PICTURE_PX = 640
"""Longer side that pictures are kept at, which is more than any grid here needs."""
CLIP_SUFFIXES = {".mp4", ".mkv", ".avi", ".webm"}
MOST_PICTURES = 120
"""Pictures of one clip: a minute at two a second."""
NOISE_BLOCKS, BLOCK_PX = (9, 16), 40
"""Rows and columns of blocks of one colour each, and their side: pictures of 640 x 360."""
NUM_NOISE = 24


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """How to measure."""

    rounds: int = 5
    """How often a row and its baseline take turns."""
    seconds: float = 20.0
    """About how long one row may measure, once what it needs is there."""
    device: str = "auto"
    clips: Path | None = None
    """Folder of more clips; `CLIPS_DIR` where `None`."""
    size: str | None = None
    """Released size whose random weights the rows for GPUs use: `2b` or `7b`."""

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= 1000:
            raise ConfigError(f"--rounds {self.rounds}: from 1 to 1000; 5 is usual")
        if not 0 < self.seconds <= 36_000:
            raise ConfigError(f"--seconds {self.seconds:g}: above 0 and at most 36,000, for each row; 20 is usual")


class Workbench:
    """Loads what rows need when the first of them needs it."""

    def __init__(self, settings: BenchSettings) -> None:
        self.settings = settings
        self.kept: dict[str, Any] = {}
        """What one row measured and another one shows, too."""

    @cached_property
    def engine(self) -> Engine:
        """The embedded model on one processor thread."""
        return self.new_engine()

    def new_engine(self) -> Engine:
        """The embedded model, loaded once more."""
        from models.checkpoint.loader import load_checkpoint
        from models.engine import Engine

        return Engine(load_checkpoint(device="cpu", threads=1, progress=False), now=time.perf_counter)

    @cached_property
    def clips(self) -> dict[str, tuple[np.ndarray, ...]]:
        """Pictures of each clip by its name, two a second, uint8 RGB: Gradio's clips, and those of a folder.

        Raises `ConfigError` where there is none.
        """
        found = {}
        for name, spec in clip_specs(self.settings.clips):
            try:
                pictures = tuple(scaled_down(frame.image, PICTURE_PX) for frame in read_frames(spec, 2.0))
            except StreamingError as error:
                raise ConfigError(f"{name}: {error}") from error
            found[name] = pictures[:MOST_PICTURES]
        return found

    @property
    def clip(self) -> tuple[np.ndarray, ...]:
        """The pictures of the longest clip."""
        return max(self.clips.values(), key=len)

    @cached_property
    def noise(self) -> tuple[np.ndarray, ...]:
        """Pictures in which every cell changes: the worst that a camera can send."""
        random = np.random.default_rng(0)
        # Coarse: fine noise is averaged away where pictures are resized, and pruning gets used to it.
        blocks = (random.integers(0, 256, (*NOISE_BLOCKS, 3), np.uint8) for _ in range(NUM_NOISE))
        return tuple(part.repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1) for part in blocks)

    def rounds(self) -> Iterator[int]:
        """The numbers of the rounds, until they are done or the time is over; at least one."""
        began_s = time.perf_counter()
        for number in range(self.settings.rounds):
            if number and time.perf_counter() - began_s > self.settings.seconds:
                return
            yield number


def clip_specs(folder: Path | None) -> list[tuple[str, str]]:
    """Name and source of each clip to measure with. Raises `ConfigError` for a folder without clips."""
    given = os.environ.get("CLIPS_DIR")
    chosen = folder or (Path(given) if given else None)
    specs = [(SAMPLE + name, resolve_sample(SAMPLE + name)) for name in SAMPLES]
    if chosen is None:
        return specs
    paths = sorted(path for path in chosen.glob("*") if path.suffix.lower() in CLIP_SUFFIXES)
    if not paths:
        raise ConfigError(f"--clips {chosen}: it has no clip ({', '.join(sorted(CLIP_SUFFIXES))}); give another folder")
    return specs + [(path.name, str(path)) for path in paths]


def read_frames(spec: str, fps: float | None, prepare: Callable[[Frame], Frame] | None = None) -> Iterator[Frame]:
    """The frames of a recording, `fps` of each second, through the capture thread."""
    capture = Capture(open_source(spec, options=SourceOptions(sample_fps=fps)))
    capture.prepare = prepare
    with capture:
        for item in capture:
            if isinstance(item, Frame):
                yield item


def endless(pictures: Sequence[np.ndarray], start: int = 0) -> Iterator[np.ndarray]:
    """The pictures forwards and backwards for ever, so that nothing jumps where a clip ends."""
    order = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    number = start
    while True:
        yield pictures[order[number % len(order)]]
        number += 1
