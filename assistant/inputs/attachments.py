"""Reads pictures and clips attached to a question into memory as RGB. Any thread may call it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assistant.errors import AssistantError, NothingToSee
from assistant.inputs.frame_spread import FrameSpread
from assistant.stream.damage_report import DamageReport
from streaming.clock import Clock, SystemClock
from streaming.size_fitting import fit_to_largest

if TYPE_CHECKING:
    from streaming.sources.base import Jumps, SourceOptions
    from streaming.types import Frame

MOST_FRAMES = 180
"""Most frames of one clip, as in the published processors; a longer clip is sampled more coarsely."""
MOST_READING_S = 600.0
"""Longest time for which a clip behind a URL is read. One whose length is declared may take twice as long as it is."""
MOST_PIXELS = 100_000_000
"""Most pixels of one picture; a larger one is a mistake or an attack."""


class BadPicture(AssistantError):
    """A file is not a picture, or not one that can be read."""


def read_picture(path: Path, warn: Callable[[str], None] = lambda line: None, *, shown: str = "") -> np.ndarray:
    """Read a still picture as screens show it (`streaming.sources.still_photos`), uint8 RGB `[height, width, 3]`.

    warn: called with a line if the file holds several pictures, of which only the first is read. shown: the name in
    that line, instead of `path`. Raises `BadPicture`.
    """
    from PIL import Image, UnidentifiedImageError

    from streaming.sources.file_signatures import kind_of
    from streaming.sources.still_photos import is_high_range, photo_to_rgb

    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise BadPicture(
                    f"{path}: {opened.width} x {opened.height}; at most {MOST_PIXELS:,} pixels are read; scale it down"
                )
            num_pictures = getattr(opened, "n_frames", 1)
            image = _first_picture(path) if is_high_range(path) else photo_to_rgb(opened)
    except UnidentifiedImageError as error:
        kind = kind_of(path)
        reason, remedy = (kind.description, kind.remedy) if kind else ("not a picture", "give a JPEG, PNG or WebP file")
        raise BadPicture(f"{path}: {reason}, so it cannot be read; {remedy}") from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadPicture(
            f"{path}: {reason}; it must be a picture file; check its name and that it is complete"
        ) from error
    if num_pictures > 1:
        warn(f"{shown or path}: the first of its {num_pictures} pictures was seen; give it as a clip to have all seen")
    return image


def _first_picture(path: Path) -> np.ndarray:
    """The first picture of a file as a recording shows it: in the colours of a usual screen. Raises `BadPicture`."""
    from streaming.errors import StreamingError
    from streaming.open_source import open_source
    from streaming.types import Frame

    try:
        with open_source(str(path.absolute())) as source:
            source.open()
            for item in source.frames():
                if isinstance(item, Frame):
                    return item.image
    except StreamingError as error:
        raise BadPicture(f"{path}: its HDR or wide colours cannot be converted ({error}); save it in sRGB") from error
    raise BadPicture(f"{path}: its HDR or wide colours cannot be converted; save it in sRGB")


def is_animated(path: Path) -> bool:
    """Whether a file is an animated GIF, PNG or WebP; False for other files."""
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
    clock: Clock | None = None,
) -> tuple[list[np.ndarray], list[float]]:
    """Read frames of a recording and their times, seconds, at `fps` or more coarsely, at most `MOST_FRAMES`.

    Frames of several sizes are fitted into the largest. warn: called with a line each if the recording breaks off,
    lost frames, changes its size, or is sampled more coarsely. jumps: whether timestamps that jump back are refused
    or followed. shown: the name in those lines, instead of `spec`. clock: bounds how long a URL is read.

    If the length is not known in advance, every other frame is dropped whenever there are too many, so memory stays
    bounded; a recording with far fewer frames than its length suggests is read a second time, more finely. Raises a
    `StreamingError` if it cannot be opened and `NothingToSee` if it gives no frame.
    """
    from streaming.sources.base import SourceOptions

    options, now_s = SourceOptions(sample_fps=fps, jumps=jumps), (clock or SystemClock()).now_s
    spread, report, stride, name = _read(spec, options, None, now_s)
    true_stride = max(1, math.ceil(spread.num_pictures / MOST_FRAMES))
    if true_stride < stride:
        spread, report, _, _ = _read(spec, options, true_stride, now_s)
    taken = spread.frames()
    images = fit_to_largest([frame.image for frame in taken])
    for line in [*report.warnings(), *_size_warnings(taken, images[0]), *_stride_warnings(spread.stride, fps)]:
        warn(f"{shown or name}: {line}")
    return images, [frame.pts_s for frame in taken]


def _read(
    spec: str, options: SourceOptions, stride: int | None, now_s: Callable[[], float]
) -> tuple[FrameSpread, DamageReport, int, str]:
    """Read a recording once, every `stride`-th frame; None chooses it by the length. Returns the stride third.

    Raises `BadPicture` for a live source, and for a URL whose end does not come. Whether a URL is live is known once it
    is open, and not for sure where it comes as a recording does.
    """
    from streaming.open_source import open_source
    from streaming.types import Frame

    source = open_source(spec, options=options)
    _check_ends(source.name, is_live=source.is_live)
    with source:
        info = source.open()
        _check_ends(source.name, is_live=info.is_live)
        if stride is None:
            num_frames = (info.duration_s_declared or 0.0) * (options.sample_fps or 0.0)
            stride = max(1, math.ceil(num_frames / MOST_FRAMES))
        spread, report = FrameSpread(MOST_FRAMES, stride), DamageReport()
        most_s = max(MOST_READING_S, 2 * (info.duration_s_declared or 0.0)) if "://" in spec else math.inf
        until_s = now_s() + most_s
        for item in source.frames():
            if now_s() > until_s:
                rule = (
                    f"it was read for {most_s:g} s and its end did not come; a clip behind a URL is read for no longer"
                )
                raise BadPicture(f"{source.name}: {rule}; if it has an end, download it and give the file")
            if not isinstance(item, Frame):
                report.note(item)
            else:
                spread.add(item)
    if not spread.num_pictures:
        raise NothingToSee(f"{source.name}: no frame could be read; the file holds no picture that decodes")
    return spread, report, stride, source.name


def _check_ends(name: str, *, is_live: bool) -> None:
    if is_live:
        raise BadPicture(f"{name}: it is live, so it has no end; a clip must be a recording; record a part of it first")


def _size_warnings(taken: Sequence[Frame], fitted: np.ndarray) -> list[str]:
    """A warning if the frames have several sizes; empty otherwise."""
    changed = next((frame for frame in taken if frame.image.shape != taken[0].image.shape), None)
    if changed is None:
        return []
    old, new, final = (f"{image.shape[1]} x {image.shape[0]}" for image in (taken[0].image, changed.image, fitted))
    change = f"its picture changes from {old} to {new} at {changed.pts_s:.2f} s"
    return [f"{change}; all frames were seen, fitted into {final}"]


def _stride_warnings(stride: int, fps: float) -> list[str]:
    """A warning if a clip is sampled more coarsely than `fps`; empty otherwise."""
    if stride == 1:
        return []
    return [
        f"at {fps:g} frames a second it has more than {MOST_FRAMES} frames, the most that are read, so one every "
        f"{stride / fps:g} s was seen; ask about a part of it to see more"
    ]
