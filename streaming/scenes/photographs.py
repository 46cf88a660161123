"""Cuts grounds of synthetic scenes from a folder of photographs. Pure functions, cached."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from streaming.errors import OptionError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_LARGEST_PX = 720
"""Loaded photographs are scaled down to this on their longer side."""
_LEAST_SHARE = 0.35
"""Least share of a photograph's width and height that a ground shows."""


def photographs_in(folder: Path) -> tuple[str, ...]:
    """The photographs in a folder, sorted by name. Raises `OptionError` if there are none."""
    found = sorted(str(path) for path in folder.glob("*") if path.suffix.casefold() in SUFFIXES)
    if not found:
        raise OptionError(
            f"photographs={folder}", f"it holds no picture ({', '.join(SUFFIXES)})", "give a folder of photographs"
        )
    return tuple(found)


def cut_out(path: str, seed: int, height: int, width: int) -> np.ndarray:
    """A random part of a photograph, mirrored half of the time, with its light and colour changed a little.

    The same seed and size give the same part; another size of similar aspect ratio shows about the same part.
    Returns float32 RGB `[height, width, 3]`, 0 to 255.
    """
    import cv2

    rng = np.random.default_rng([seed, 0xF070])
    whole = _opened(path)
    share = rng.uniform(_LEAST_SHARE, 1.0)
    room_height, room_width = whole.shape[:2]
    tall = min(share * room_height, share * room_width * height / width)
    wide = tall * width / height
    top, left = rng.uniform(0, room_height - tall), rng.uniform(0, room_width - wide)
    part = whole[int(top) : int(np.ceil(top + tall)), int(left) : int(np.ceil(left + wide))]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    smaller = part.shape[1] > width
    picture = cv2.resize(
        np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    ).astype(np.float32)
    grey = picture.mean(axis=2, keepdims=True)
    picture = grey + (picture - grey) * rng.uniform(0.3, 1.0)
    lit: np.ndarray = np.clip(picture * (rng.uniform(0.6, 1.1) * rng.uniform(0.94, 1.06, 3)).astype(np.float32), 0, 255)
    return lit


def palette_of(picture: np.ndarray, count: int = 5) -> tuple[tuple[float, float, float], ...]:
    """The `count` main colours of a picture (by k-means), the most frequent first."""
    import cv2

    pixels = cv2.resize(picture, (32, 20), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    rule = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 12, 1.0)
    cv2.setRNGSeed(0)
    _, which, centres = cv2.kmeans(pixels, count, None, rule, 1, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    order = np.argsort(-np.bincount(which.ravel(), minlength=count), kind="stable")
    return tuple((float(red), float(green), float(blue)) for red, green, blue in centres[order])


@lru_cache(maxsize=64)
def _opened(path: str) -> np.ndarray:
    import cv2
    from PIL import Image

    from streaming.sources.still_photos import photo_to_rgb

    try:
        with Image.open(path) as opened:
            picture = photo_to_rgb(opened)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise OptionError(f"photographs={path}", "it can't be read as a picture", "take it out of the folder") from None
    scale = _LARGEST_PX / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture)
