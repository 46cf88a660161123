"""Encodes and decodes small JPEG pictures. Pure functions, for any thread. OpenCV loads on use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streaming.errors import OptionError

THUMBNAIL_PX = 320
"""The longer side of a thumbnail."""
THUMBNAIL_QUALITY = 80
"""JPEG quality of a thumbnail, 0 to 100."""
MOST_PIXELS = 50_000_000
"""A JPEG whose header declares more pixels is damaged, or an attack."""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A picture encoded as JPEG."""

    data: bytes
    width_px: int
    height_px: int


def encode_jpeg(image: np.ndarray, *, max_side_px: int = THUMBNAIL_PX, quality: int = THUMBNAIL_QUALITY) -> Jpeg:
    """Encode `image` as JPEG, its longer side scaled down to `max_side_px`, never up.

    image: uint8 RGB `[height, width, 3]`. quality: 0 to 100. Raises `OptionError` if it cannot be encoded.
    """
    import cv2

    height_px, width_px = image.shape[:2]
    image = scaled_down(image, max_side_px)
    written, data = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise OptionError(f"a picture of {width_px} x {height_px}", "it cannot be written as JPEG", "give another")
    return Jpeg(data.tobytes(), image.shape[1], image.shape[0])


def scaled_down(image: np.ndarray, max_side_px: int = THUMBNAIL_PX) -> np.ndarray:
    """`image` scaled down to `max_side_px` on its longer side; `image` itself if it is no larger.

    image: uint8 RGB `[height, width, 3]`.
    """
    import cv2

    height_px, width_px = image.shape[:2]
    scale = min(1.0, max_side_px / max(height_px, width_px))
    if scale == 1.0:
        return image
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def reduced(image: np.ndarray, width_px: int, height_px: int, ready: np.ndarray | None = None) -> np.ndarray:
    """`image` shrunk by the largest whole number that leaves at least this size; `image` itself where that is 1.

    image: uint8 RGB `[height, width, 3]`. ready: the same picture as it was reduced before for another use, returned if
    it has the right size. Averages squares of pixels, many times faster than a resampling that is
    exact; from three times the wanted size on, resampling the result is nearly the same as resampling the original
    (Pillow's `Image.resize`, on `reducing_gap`).
    """
    import cv2

    height, width = image.shape[:2]
    factor = min(width // width_px, height // height_px)
    if factor <= 1:
        return image
    size = round(width / factor), round(height / factor)
    if ready is not None and ready.shape[1::-1] == size:
        return ready
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def with_outline(data: bytes, corners: Sequence[tuple[float, float]]) -> bytes:
    """A JPEG with a polygon drawn on it. corners: as fractions of its width and height.

    Raises `OptionError` if `data` is not a readable JPEG.
    """
    import cv2

    image = np.ascontiguousarray(decode_jpeg(data))
    size = np.array([image.shape[1] - 1, image.shape[0] - 1])
    points = np.rint(np.clip(np.array(corners, np.float64), 0, 1) * size).astype(np.int32)
    # Bright on dark, so that it stands out from any ground.
    cv2.polylines(image, [points], True, (0, 0, 0), 4)
    cv2.polylines(image, [points], True, (255, 220, 0), 2)
    return encode_jpeg(image, max_side_px=max(image.shape[:2]), quality=90).data


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decode a JPEG to uint8 RGB `[height, width, 3]`. Raises `OptionError` if `data` is not a readable JPEG."""
    import cv2

    bad = OptionError(f"a picture of {len(data)} bytes", "it is not a JPEG that can be read", "leave it out")
    if not 0 < _num_pixels(data) <= MOST_PIXELS:  # the decoder would accept other formats, of any size
        raise bad
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise bad from error
    if image is None:
        raise bad
    return np.ascontiguousarray(image[:, :, ::-1])


def _num_pixels(data: bytes) -> int:
    """Number of pixels by the JPEG's frame header; 0 without one: `data` is damaged or not a JPEG."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[at + 5 + i : at + 7 + i], "big") for i in (0, 2))
            return height * width
        at += 2 + length
    return 0
