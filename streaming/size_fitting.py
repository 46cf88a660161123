"""Fits pictures of different sizes into one common size. Pure functions, for any thread. OpenCV loads on use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np


def fit_into(image: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """`image` scaled to fit into this size, its aspect ratio kept, with black borders (letterboxed).

    image: uint8 RGB `[height, width, 3]`; returned unchanged if it has that size already.
    """
    import cv2

    old_height_px, old_width_px = image.shape[:2]
    if (old_width_px, old_height_px) == (width_px, height_px):
        return image
    scale = min(width_px / old_width_px, height_px / old_height_px)
    inner = (min(width_px, max(1, round(scale * old_width_px))), min(height_px, max(1, round(scale * old_height_px))))
    scaled = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (width_px - inner[0]) // 2, (height_px - inner[1]) // 2
    fitted = np.zeros((height_px, width_px, 3), np.uint8)
    fitted[top : top + inner[1], left : left + inner[0]] = scaled
    return fitted


def fit_to_largest(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All `images` letterboxed to the size of the largest; of two sizes of equal area, the more frequent one."""
    counts = Counter(image.shape[:2] for image in images)
    height_px, width_px = max(counts, key=lambda size: (size[0] * size[1], counts[size]))
    return [fit_into(image, width_px, height_px) for image in images]
