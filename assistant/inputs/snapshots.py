"""The newest picture of a stream as JPEG, encoded on request. The capture thread calls `put`, any thread `get`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streaming.thumbnails import Jpeg, decode_jpeg, encode_jpeg
from streaming.types import Frame

if TYPE_CHECKING:
    import numpy as np

VIEW_PX = 960
"""Longer side of a picture that is sent to viewers."""
VIEW_QUALITY = 78


@dataclass(frozen=True, slots=True)
class ViewerPicture:
    """A frame as it is sent to viewers."""

    number: int
    """Number of frames put so far, this one included."""
    time_s: float
    """Media time."""
    jpeg: Jpeg


class NewestPicture:
    """Holds the newest frame only. `get` encodes it, on the calling thread, once for all callers."""

    def __init__(self, on_put: Callable[[], None] | None = None, *, max_side_px: int = VIEW_PX) -> None:
        """on_put: called on the capture thread after each frame; must return at once."""
        self._on_put = on_put or (lambda: None)
        self._max_side_px = max_side_px
        self._frame: Frame | None = None
        self._number = 0
        self._made: ViewerPicture | None = None
        self._lock = threading.Lock()
        self._encoding = threading.Lock()

    @property
    def number(self) -> int:
        """Number of frames put so far."""
        return self._number

    def put(self, frame: Frame) -> None:
        """Replace the newest frame."""
        with self._lock:
            self._frame = frame
            self._number += 1
        self._on_put()

    def get(self, after: int = 0) -> ViewerPicture | None:
        """The newest picture; None if none is newer than number `after`."""
        with self._encoding:
            with self._lock:
                frame, number = self._frame, self._number
            if frame is None or number <= after:
                return None
            if self._made is None or self._made.number != number:
                jpeg = encode_jpeg(frame.image, max_side_px=self._max_side_px, quality=VIEW_QUALITY)
                self._made = ViewerPicture(number, frame.pts_s, jpeg)
            return self._made


def picture_from_jpeg(data: bytes) -> np.ndarray:
    """Decode a pushed JPEG to uint8 RGB `[height, width, 3]`. Raises `streaming.errors.ConfigError` for other data."""
    return decode_jpeg(data)
