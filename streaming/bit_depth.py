"""Deep pictures in 8 bits: depth, heat, and 16-bit photographs. Pure functions, for any thread."""

from __future__ import annotations

import numpy as np

_FULL, _FULL_BITS = 65535, 16
_NARROW = 1 / 8
"""A still whose values span less than this share of their range would be one flat grey."""
_OUTLIERS = 0.001


def top_of(values: np.ndarray, *, most_bits: int = 14) -> float:
    """The value that is white where 0 is black: the most that as many bits hold as the largest value needs.

    A depth camera's 4,000 mm have 12 bits. At least 255, so 8-bit values stay as they are; what needs more than
    `most_bits` has the full 16, as photographs have; floating-point values up to 1 have 1. 65,535 in a picture of fewer
    bits marks what was not measured.
    """
    is_whole = values.dtype.kind != "f"
    measured = values[values != _FULL] if is_whole else values[np.isfinite(values)]
    largest = float(measured.max(initial=0))
    if not is_whole and largest <= 1.0:
        return 1.0
    num_bits = max(8, int(np.ceil(np.log2(largest + 1))))
    if is_whole and (not largest or most_bits < num_bits <= _FULL_BITS):
        return float(_FULL)
    return float(2**num_bits - 1)


def range_of(values: np.ndarray) -> tuple[float, float]:
    """The values of a still that are black and white: 0 and `top_of`, or its own span where that is narrow.

    Narrow spans are those of heat pictures. Where some lie below 0 the span is taken too.
    """
    top = top_of(values)
    readings = values[np.isfinite(values)]
    if values.dtype.kind != "f":
        readings = readings[(readings != 0) & (readings != _FULL)]
    if not readings.size:
        return 0.0, top
    low, high = (float(edge) for edge in np.quantile(readings, (_OUTLIERS, 1 - _OUTLIERS)))
    is_narrow = 0 < high - low < _NARROW * top
    return (low, high) if is_narrow or low < 0 < high - low else (0.0, top)


def in_8_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey values as uint8 RGB `[height, width, 3]`; `low` is black, `high` white, and what is no number is black."""
    scaled = (values.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    grey = np.clip(np.rint(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
