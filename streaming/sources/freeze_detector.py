"""Detects a camera whose picture is frozen, as opposed to a still scene. For the thread that reads the source.

A camera whose sensor hangs keeps encoding the same picture. Its decoded pictures then repeat: at first the encoder
still refines them, and after some seconds every picture is identical to an earlier one. A working camera has noise, so
that at least its key frames differ. A picture counts as frozen only if nothing in it is new, so dim and still scenes do
not; nor does a film that loops exactly while things move, because the view must stand still as well.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from enum import Enum

import numpy as np

_LOOK_INTERVAL_S = 0.25
_MIN_LOOKS = 5
_MAX_KNOWN = 1024
_GRID = (18, 32)
_MOVED_LEVELS = 3.0
_QUIET_S = 5.0
_REFINING_S = 10.0
"""How long an encoder may refine a still picture after it starts."""


class FreezeChange(Enum):
    """A change of state that `FreezeDetector.update` found."""

    FROZE = "froze"
    THAWED = "thawed"


class FreezeDetector:
    """Detects when the picture of one source freezes and moves again, over all its connections."""

    def __init__(self, after_s: float) -> None:
        """`after_s`: time without anything new after which the picture counts as frozen."""
        self._after_s = after_s
        self._known: OrderedDict[int, None] = OrderedDict()
        self._looked_at_s = float("-inf")
        self._new_at_s = float("-inf")
        self._news_since_s: float | None = None
        self._num_same = 0
        self._known_view: np.ndarray | None = None
        """The coarse view at the last time that something was new or moved."""
        self._frozen_view: np.ndarray | None = None
        self._still_since_s = 0.0

    @property
    def is_frozen(self) -> bool:
        """Whether the picture is frozen."""
        return self._frozen_view is not None

    def still_s(self, now_s: float) -> float:
        """Seconds since something in the picture was last new."""
        if not self.is_frozen:
            return now_s - self._new_at_s
        has_news = self._news_since_s is not None and now_s - self._new_at_s <= _QUIET_S
        return (self._news_since_s if has_news and self._news_since_s is not None else now_s) - self._still_since_s

    def on_reconnect(self, now_s: float) -> None:
        """Start a new connection: the time without one does not count as still, and its encoder starts afresh."""
        self._new_at_s = now_s
        self._news_since_s = None
        self._num_same = 0
        self._known_view = None

    def update(self, image: np.ndarray, now_s: float) -> FreezeChange | None:
        """Check a picture, uint8 `[height, width, 3]`, at most four times a second; return any change of state."""
        if now_s - self._looked_at_s < _LOOK_INTERVAL_S:
            return None
        self._looked_at_s = now_s
        is_new = self._remember(zlib.crc32(np.ascontiguousarray(image).data) ^ hash(image.shape))
        return self._check_frozen(image, is_new, now_s) if self.is_frozen else self._check_moving(image, is_new, now_s)

    def _check_moving(self, image: np.ndarray, is_new: bool, now_s: float) -> FreezeChange | None:
        if is_new:
            self._new_at_s, self._num_same, self._known_view = now_s, 0, None
            return None
        view = _coarse(image)
        if self._known_view is None:
            self._known_view = view
        elif _differ(view, self._known_view):
            self._new_at_s, self._num_same, self._known_view = now_s, 0, view
            return None
        self._num_same += 1
        if self._num_same < _MIN_LOOKS or now_s - self._new_at_s < self._after_s:
            return None
        self._still_since_s = self._new_at_s
        self._news_since_s = None
        self._frozen_view = view
        return FreezeChange.FROZE

    def _check_frozen(self, image: np.ndarray, is_new: bool, now_s: float) -> FreezeChange | None:
        """Whether a frozen picture thawed: it moved, or new pictures kept coming for longer than an encoder refines."""
        assert self._frozen_view is not None
        if is_new:
            if self._news_since_s is None or now_s - self._new_at_s > _QUIET_S:
                self._news_since_s = now_s
            self._new_at_s = now_s
        wait_s = max(_REFINING_S, self._after_s / 2)
        lasts = self._news_since_s is not None and is_new and now_s - self._news_since_s >= wait_s
        if not lasts and not _differ(_coarse(image), self._frozen_view):
            return None
        self._frozen_view = self._known_view = None
        self._new_at_s, self._num_same = now_s, 0
        return FreezeChange.THAWED

    def _remember(self, digest: int) -> bool:
        """Whether `digest` was not seen before; only the 1,024 most recently seen digests are remembered."""
        is_new = digest not in self._known
        self._known[digest] = None
        self._known.move_to_end(digest)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return is_new


def _differ(view: np.ndarray, other: np.ndarray) -> bool:
    """Whether something moved between two coarse views."""
    return bool(np.abs(view - other).max() > _MOVED_LEVELS)


def _coarse(image: np.ndarray) -> np.ndarray:
    """Mean green level of up to 18 x 32 cells: float64 `[18, 32]`, zero where a small picture has no cells."""
    green = image[..., 1]
    rows, cols = (min(cells, side) for cells, side in zip(_GRID, green.shape, strict=True))
    height, width = green.shape[0] // rows * rows, green.shape[1] // cols * cols
    cells = green[:height, :width].reshape(rows, height // rows, cols, width // cols).mean(axis=(1, 3))
    padded = np.zeros(_GRID)
    padded[:rows, :cols] = cells
    return padded
