"""Small JPEG pictures: made, and read back. Plain functions, for any thread. OpenCV loads on use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streaming.errors import OptionError

THUMBNAIL_PX = 320
"""The longer side of a thumbnail."""
THUMBNAIL_QUALITY = 80
MOST_PIXELS = 50_000_000
"""A JPEG that says it holds more is damaged, or an attack."""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """An encoded picture."""

    data: bytes
    width_px: int
    height_px: int


def encode_jpeg(image: np.ndarray, *, max_side_px: int = THUMBNAIL_PX, quality: int = THUMBNAIL_QUALITY) -> Jpeg:
    """A picture as JPEG, scaled down to `max_side_px` on its longer side, never up.

    image: uint8 RGB `[height, width, 3]`.
    """
    import cv2

    height_px, width_px = image.shape[:2]
    image = scaled_down(image, max_side_px)
    written, data = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise OptionError(f"a picture of {width_px} x {height_px}", "it cannot be written as JPEG", "give another")
    return Jpeg(data.tobytes(), image.shape[1], image.shape[0])


def scaled_down(image: np.ndarray, max_side_px: int = THUMBNAIL_PX) -> np.ndarray:
    """The picture with at most `max_side_px` on its longer side; itself where it is no larger.

    image: uint8 RGB `[height, width, 3]`.
    """
    import cv2

    height_px, width_px = image.shape[:2]
    scale = min(1.0, max_side_px / max(height_px, width_px))
    if scale == 1.0:
        return image
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def decode_jpeg(data: bytes) -> np.ndarray:
    """The picture of a JPEG, uint8 RGB `[height, width, 3]`. Raises `OptionError` where it is none."""
    import cv2

    bad = OptionError(f"a picture of {len(data)} bytes", "it is not a JPEG that can be read", "leave it out")
    if not 0 < _num_pixels(data) <= MOST_PIXELS:  # the decoder would take other kinds of picture, of any size
        raise bad
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise bad from error
    if image is None:
        raise bad
    return np.ascontiguousarray(image[:, :, ::-1])


def _num_pixels(data: bytes) -> int:
    """Pixels that the frame header promises; 0 where there is none: it is no JPEG, or a damaged one."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[at + 5 + i : at + 7 + i], "big") for i in (0, 2))
            return height * width
        at += 2 + length
    return 0
