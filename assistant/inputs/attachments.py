"""Pictures and clips that come with a question, read into memory as RGB. Any thread may read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assistant.errors import AssistantError, NothingToSee
from assistant.spreading import FrameSpread
from assistant.stream.damage_report import DamageReport
from streaming.size_fitting import fit_to_largest

if TYPE_CHECKING:
    from streaming.sources.base import Jumps, SourceOptions
    from streaming.types import Frame

MOST_FRAMES = 180
"""Frames of one clip, as the published processors take at most; a longer clip is sampled more coarsely."""
MOST_PIXELS = 100_000_000
"""Of one picture; a larger one is a mistake or an attack."""


class BadPicture(AssistantError):
    """A file is no picture."""


def read_picture(path: Path, warn: Callable[[str], None] = lambda line: None, *, shown: str = "") -> np.ndarray:
    """A still picture as screens show it (`streaming.sources.still_photos`), uint8 RGB `[height, width, 3]`.

    warn: told, in a line, where only the first of several pictures is seen. shown: its name there, in place of `path`.
    Raises `BadPicture`.
    """
    from PIL import Image, UnidentifiedImageError

    from streaming.sources.file_signatures import kind_of
    from streaming.sources.still_photos import photo_to_rgb

    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise BadPicture(
                    f"{path}: {opened.width} x {opened.height}; at most {MOST_PIXELS:,} pixels are read; scale it down"
                )
            image, num_pictures = photo_to_rgb(opened), getattr(opened, "n_frames", 1)
    except UnidentifiedImageError as error:
        kind = kind_of(path)
        reason, remedy = (kind.description, kind.remedy) if kind else ("not a picture", "give a JPEG, PNG or WebP file")
        raise BadPicture(f"{path}: {reason}, so it cannot be read; {remedy}") from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadPicture(f"{path}: {reason}; a picture file is wanted; check its name and that it is whole") from error
    if num_pictures > 1:
        warn(f"{shown or path}: the first of its {num_pictures} pictures was seen; give it as a clip to have all seen")
    return image


def is_animated(path: Path) -> bool:
    """Whether a GIF, a PNG or a WebP holds several pictures, to be shown one after another; False for what is none."""
    from PIL import Image

    try:
        with Image.open(path, formats=("GIF", "PNG", "WEBP")) as opened:
            return bool(getattr(opened, "is_animated", False))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def read_clip(
    spec: str,
    fps: float,
    warn: Callable[[str], None] = lambda line: None,
    *,
    jumps: Jumps = "follow",
    shown: str = "",
) -> tuple[list[np.ndarray], list[float]]:
    """Frames of a recording and their times, seconds, at `fps` or as coarsely as `MOST_FRAMES` asks.

    Frames of several sizes are fitted into the largest. warn: told, in a line each, where the recording breaks off,
    lost frames, changes its size, or is sampled more coarsely. jumps: what becomes of one whose timestamps jump back.
    shown: its name in those lines, in place of `spec`.

    Where the length is not known beforehand, every other frame goes whenever there are too many, so memory stays
    bounded; a recording whose pictures are far fewer than its length says is read again, each of them. Raises a
    `StreamingError` where it cannot be opened and `NothingToSee` where it gives no frame.
    """
    from streaming.sources.base import SourceOptions

    options = SourceOptions(sample_fps=fps, jumps=jumps)
    spread, report, stride, name = _read(spec, options, None)
    true_stride = max(1, math.ceil(spread.num_pictures / MOST_FRAMES))
    if true_stride < stride:
        spread, report, _, _ = _read(spec, options, true_stride)
    taken = spread.frames()
    images = fit_to_largest([frame.image for frame in taken])
    for line in [*report.warnings(), *_tell_sizes(taken, images[0]), *_tell_stride(spread.stride, fps)]:
        warn(f"{shown or name}: {line}")
    return images, [frame.pts_s for frame in taken]


def _read(spec: str, options: SourceOptions, stride: int | None) -> tuple[FrameSpread, DamageReport, int, str]:
    """One pass over a recording: of so many frames one, by its length where `stride` is None. Gives the stride, too."""
    from streaming.open_source import open_source
    from streaming.types import Frame

    source = open_source(spec, options=options)
    if source.is_live:
        raise BadPicture(f"{source.name}: live, so it has no end; a clip is a recording; record some of it first")
    with source:
        info = source.open()
        if stride is None:
            num_frames = (info.duration_s_declared or 0.0) * (options.sample_fps or 0.0)
            stride = max(1, math.ceil(num_frames / MOST_FRAMES))
        spread, report = FrameSpread(MOST_FRAMES, stride), DamageReport()
        for item in source.frames():
            if not isinstance(item, Frame):
                report.note(item)
            else:
                spread.add(item)
    if not spread.num_pictures:
        raise NothingToSee(f"{source.name}: no frame could be read; the file holds no picture that decodes")
    return spread, report, stride, source.name


def _tell_sizes(taken: Sequence[Frame], fitted: np.ndarray) -> list[str]:
    """What is to be said of frames of several sizes."""
    changed = next((frame for frame in taken if frame.image.shape != taken[0].image.shape), None)
    if changed is None:
        return []
    old, new, final = (f"{image.shape[1]} x {image.shape[0]}" for image in (taken[0].image, changed.image, fitted))
    change = f"its picture changes from {old} to {new} at {changed.pts_s:.2f} s"
    return [f"{change}; all frames were seen, fitted into {final}"]


def _tell_stride(stride: int, fps: float) -> list[str]:
    """What is to be said of a clip that is sampled more coarsely than was asked for."""
    if stride == 1:
        return []
    return [
        f"at {fps:g} frames a second it has more than {MOST_FRAMES}, the most that are taken, so one every "
        f"{stride / fps:g} s was seen; ask about a part of it to see more"
    ]
