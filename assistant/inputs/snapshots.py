"""The newest picture of one stream as JPEG, made when asked for. `put` is for the capture thread, `take` for any."""

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
"""The longer side of a picture that is sent to a viewer."""
VIEW_QUALITY = 78


@dataclass(frozen=True, slots=True)
class ViewerPicture:
    """A frame as a viewer gets it."""

    number: int
    """Grows with every frame that was put."""
    time_s: float
    """Media time."""
    jpeg: Jpeg


class NewestPicture:
    """Holds the newest frame; older ones are gone. It is encoded when somebody takes it, on that thread."""

    def __init__(self, on_put: Callable[[], None] | None = None, *, max_side_px: int = VIEW_PX) -> None:
        """`on_put` is called on the capture thread after each frame, and returns at once."""
        self._on_put = on_put or (lambda: None)
        self._max_side_px = max_side_px
        self._frame: Frame | None = None
        self._number = 0
        self._made: ViewerPicture | None = None
        self._lock = threading.Lock()
        self._encoding = threading.Lock()

    @property
    def number(self) -> int:
        """How many frames were put."""
        return self._number

    def put(self, frame: Frame) -> None:
        """Take a frame, in place of the one before."""
        with self._lock:
            self._frame = frame
            self._number += 1
        self._on_put()

    def get(self, after: int = 0) -> ViewerPicture | None:
        """The newest picture; None where there is none newer than number `after`."""
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
    """A pushed picture, uint8 RGB `[height, width, 3]`. Raises `streaming.errors.ConfigError` where it is none."""
    return decode_jpeg(data)
