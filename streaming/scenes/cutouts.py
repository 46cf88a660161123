"""Opacity and colours of the cut-out objects in scenes. Pure functions, cached."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from streaming.errors import OptionError
from streaming.scenes.closeups import opened

_OPAQUE = 0.5


@lru_cache(maxsize=128)
def squared(path: str, mirrored: bool) -> np.ndarray:
    """A cut-out centred in a square of its longer side: uint8 RGB and alpha, `[side, side, 4]`.

    Transparent pixels take the colours beside them, so that scaling shows no rim.
    """
    import cv2

    picture = opened(path)
    if picture.shape[2] != 4:
        raise OptionError(f"cutouts={path}", "a cut-out has alpha, and it has none", "leave it out")
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 4), np.uint8)
    square[top : top + height, left : left + width] = picture[:, ::-1] if mirrored else picture
    alpha = square[..., 3:].astype(np.float32) / 255
    near = max(side / 40, 1.0)
    weight = cv2.GaussianBlur(alpha, (0, 0), near)[..., None]
    around = cv2.GaussianBlur(square[..., :3] * alpha, (0, 0), near) / np.maximum(weight, 1e-3)
    colours = square[..., :3] + (1 - alpha) * (np.clip(around, 0, 255) - square[..., :3])
    square[..., :3] = colours.astype(np.uint8)
    return square


def is_opaque(path: str, mirrored: bool, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether the cut-out covers each point of the square from -1 to 1; `u` points right and `v` down."""
    alpha = squared(path, mirrored)[..., 3]
    side = len(alpha)
    column, row = (np.floor((axis + 1) / 2 * side).astype(np.int64) for axis in (u, v))
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    found = alpha[row.clip(0, side - 1), column.clip(0, side - 1)]
    opaque: np.ndarray = inside & (found > 255 * _OPAQUE)
    return opaque


def painted(path: str, mirrored: bool, size_px: float, side: int) -> np.ndarray:
    """The cut-out's colours, `size_px` long in the middle of a picture: float32 RGB `[side, side, 3]`."""
    import cv2

    square = squared(path, mirrored)[..., :3]
    length = max(round(size_px), 1)
    if length < len(square):
        square = cv2.resize(square, (length, length), interpolation=cv2.INTER_AREA)
    at = ((np.arange(side, dtype=np.float32) + 0.5 - side / 2) / size_px + 0.5) * len(square) - 0.5
    xs, ys = np.meshgrid(at, at)
    colours = cv2.remap(square, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(colours, np.float32)
