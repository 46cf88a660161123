"""Streams for tests of sessions: small pictures with something moving, and small windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from models.settings import SpeakingSettings, StreamSettings
from models.spans import WindowSettings
from models.steps import Output, Steps
from streaming.types import Frame

T = TypeVar("T")

SIDE_PX = 112
"""Four by four merged cells of 28 px."""


def small_settings(**changes: object) -> StreamSettings:
    """Sixteen cells, one frame a second, and windows that fill within twenty frames."""
    values: dict[str, object] = {
        "max_cells": 16,
        "fps": 1.0,
        "window": WindowSettings(vision_low=512, vision_high=640, text_low=160, text_high=240),
        "speaking": SpeakingSettings(max_comment_tokens=6, max_answer_tokens=8),
    }
    return StreamSettings(**(values | changes))  # type: ignore[arg-type]


def picture(step: int, size_px: tuple[int, int] = (SIDE_PX, SIDE_PX), seed: int = 0) -> np.ndarray:
    """A textured ground with a bright square at a place that depends on `step`; RGB uint8."""
    height, width = size_px
    image = np.random.default_rng(seed).integers(60, 120, (height, width, 3), dtype=np.uint8)
    top, left = (step * 23) % (height - 28), (step * 17) % (width - 28)
    image[top : top + 28, left : left + 28] = 230
    return image


def frame(image: np.ndarray, index: int, pts_s: float) -> Frame:
    return Frame(image=image, index=index, pts_s=pts_s, captured_at_s=0.0, source="test")


def moving(num_frames: int, *, start_s: float = 0.0, every_s: float = 1.0) -> Iterator[Frame]:
    """A square that is somewhere else in every frame."""
    for index in range(num_frames):
        yield frame(picture(index), index, start_s + index * every_s)


def noting(steps: Steps[T], outputs: list[Output]) -> Steps[T]:
    """The same steps, with what each forward pass gave noted on the way."""
    output: Output | None = None
    while True:
        try:
            request = steps.send(output)
        except StopIteration as stop:
            return stop.value
        output = yield request
        if output is not None:
            outputs.append(output)
