"""Converts still pictures opened by Pillow to upright RGB arrays. For any thread; Pillow and OpenCV load on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streaming.bit_depth import grey_range, to_8_bits
from streaming.sources.pictures import over_white, square_pixel_size
from streaming.sources.reading import MAX_PIXELS

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

_ORIENTATION, _ON_ITS_SIDE = 0x0112, range(5, 9)  # Exif

_HEAD_BYTES = 65_536
_FILES_OF = {b"colrnclx": b"ftyp", b"cICP": b"\x89PNG\r\n\x1a\n"}
_HDR_TRANSFERS = (16, 18)
"""PQ and HLG."""
_WIDE_PRIMARIES = (9, 11, 12)
"""BT.2020, DCI-P3 and Display P3."""
_MOST_UNEVEN = 10.0
"""Largest plausible aspect ratio of a pixel; a file that declares more is wrong."""


def photo_to_rgb(opened: Image) -> np.ndarray:
    """The opened picture as uint8 RGB `[height, width, 3]`: upright, with square pixels, transparent parts white.

    Grey of more than 8 bits is scaled to the range of its values (`streaming.bit_depth`). Raises Pillow's errors.
    """
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(opened)
    assert upright is not None
    aspect = _pixel_aspect(opened)
    if opened.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE:
        aspect = 1 / aspect
    return _squared(_rgb(upright), aspect)


def is_high_range(path: Path) -> bool:
    """Whether an AVIF or PNG declares the colours of HDR (PQ, HLG) or wide ones, which Pillow takes for sRGB.

    By the code points (ITU-T H.273) of its `colr` box (ISO/IEC 23000-22) or `cICP` chunk (PNG, third edition).
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for mark, num_bytes in ((b"colrnclx", 2), (b"cICP", 1)):
        at = head.find(mark)
        if at >= 0 and head[:8].endswith(_FILES_OF[mark]):
            codes = head[at + len(mark) :]
            primaries, transfer = int.from_bytes(codes[:num_bytes]), int.from_bytes(codes[num_bytes : 2 * num_bytes])
            return transfer in _HDR_TRANSFERS or primaries in _WIDE_PRIMARIES
    return False


def is_deep(opened: Image) -> bool:
    """Whether the picture is grey with more than 8 bits: depth, thermal, or a 16-bit photograph."""
    return opened.mode in ("I", "F") or opened.mode.startswith("I;")


def _rgb(image: Image) -> np.ndarray:
    if is_deep(image):
        values = np.asarray(image)
        return to_8_bits(values, *grey_range(values))
    if image.has_transparency_data:
        return over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _squared(image: np.ndarray, aspect: float) -> np.ndarray:
    height_px, width_px = image.shape[:2]
    size_px = square_pixel_size(width_px, height_px, aspect, MAX_PIXELS)
    if size_px == (width_px, height_px):
        return image
    import cv2

    return np.asarray(cv2.resize(image, size_px, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _pixel_aspect(opened: Image) -> float:
    """Width of a pixel over its height; 1 if the file does not declare a plausible value.

    PNG's pHYs, JPEG's JFIF and TIFF's resolution count pixels per length, so the denser side has the shorter pixels.
    """
    across, down = opened.info.get("jfif_density") or opened.info.get("aspect") or opened.info.get("dpi") or (1, 1)
    if not (across > 0 and down > 0):
        return 1.0
    aspect = float(down) / float(across)
    is_even = abs(aspect - 1) < 0.01
    return 1.0 if is_even or not 1 / _MOST_UNEVEN <= aspect <= _MOST_UNEVEN else aspect
