"""A source that paints privacy masks over the frames of another source. Threads as for the wrapped source."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from streaming.buffer import Item
from streaming.errors import OptionError
from streaming.masks import Masks
from streaming.sources.base import Source
from streaming.types import Frame, SourceInfo


class MaskedSource:
    """Wraps `source` and paints `masks` over every frame, so that no later code sees the hidden regions."""

    def __init__(self, source: Source, masks: Masks) -> None:
        self._source = source
        self._masks = masks
        self._checked_px: tuple[int, int] | None = None
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        """The last picture, unmasked and masked."""

    @property
    def name(self) -> str:
        """The display name of the wrapped source."""
        return self._source.name

    @property
    def is_live(self) -> bool:
        """Whether the wrapped source is live."""
        return self._source.is_live

    def open(self) -> SourceInfo:
        """Open the wrapped source; also raises `OptionError` for masks that do not fit its picture."""
        info = self._source.open()
        try:
            if info.width_px and info.height_px:
                self._masks.check(info.width_px, info.height_px)
        except OptionError:
            self._source.close()
            raise
        return info

    def frames(self) -> Iterator[Item]:
        """The items of the wrapped source, with masked frames."""
        for item in self._source.frames():
            yield dataclasses.replace(item, image=self._mask(item)) if isinstance(item, Frame) else item

    def _mask(self, frame: Frame) -> np.ndarray:
        """The frame's masked picture; the same array again if the frame is repeated."""
        if self._last is None or not frame.is_repeated or frame.image is not self._last[0]:
            self._last = frame.image, self._masked(frame.image)
        return self._last[1]

    def _masked(self, image: np.ndarray) -> np.ndarray:
        """`image` with the masks painted over it; raises `OptionError` if they do not fit a picture of its size."""
        size_px = (image.shape[1], image.shape[0])
        if size_px != self._checked_px:
            self._masks.check(*size_px)
            self._checked_px = size_px
        return self._masks.apply(image)

    def close(self) -> None:
        """Close the wrapped source."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
