"""Scales grey pictures of more than 8 bits (depth, thermal, 16-bit photographs) to 8 bits. Pure; for any thread."""

from __future__ import annotations

import numpy as np

_FULL, _FULL_BITS = 65535, 16
_NARROW = 1 / 8
"""A still whose values span less than this share of their range would look uniformly grey."""
_OUTLIERS = 0.001


def white_level(values: np.ndarray, *, most_bits: int = 14) -> float:
    """The value to show as white, with 0 as black: the maximum of the bit depth that the largest value needs.

    Example: a depth camera's 4,000 mm need 12 bits, so white is 4,095. White is at least 255, so that 8-bit values are
    unchanged; values that need more than `most_bits` use the full 16 bits, as photographs do; floating-point values up
    to 1 use 1. In a picture of fewer bits, 65,535 marks pixels that were not measured and is ignored.
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


def grey_range(values: np.ndarray) -> tuple[float, float]:
    """The values of a still to show as black and as white.

    Usually 0 and `white_level`. A narrow span (thermal pictures) or one with negative values is stretched instead.
    """
    top = white_level(values)
    readings = values[np.isfinite(values)]
    if values.dtype.kind != "f":
        readings = readings[(readings != 0) & (readings != _FULL)]
    if not readings.size:
        return 0.0, top
    low, high = (float(edge) for edge in np.quantile(readings, (_OUTLIERS, 1 - _OUTLIERS)))
    is_narrow = 0 < high - low < _NARROW * top
    return (low, high) if is_narrow or low < 0 < high - low else (0.0, top)


def to_8_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey values as uint8 RGB `[height, width, 3]`: `low` becomes black, `high` white, NaN black."""
    scaled = (values.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    grey = np.clip(np.rint(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
