"""Frames of one clip spread over what is really in it, as many as a question can hold. For one thread."""

from __future__ import annotations

from streaming.types import Frame

_LEAST_REPEATED = 16
"""Frames of standing pictures that a clip may always have, so that its times show how long they stood."""


class FrameSpread:
    """Keeps every so many frames of a clip, more coarsely as they grow too many.

    Pictures that come again as they stand count apart: they take no place from others, and no memory.
    """

    def __init__(self, most: int, stride: int) -> None:
        """most: frames to keep. stride: of how many frames one is kept at first."""
        self._most = most
        self._stride = stride
        self._repeat_stride = 1
        self._taken: list[Frame] = []
        self._repeated: list[Frame] = []
        self._num_repeated = 0
        self.num_pictures = 0
        """Frames that were given, those aside that repeat a picture."""

    @property
    def stride(self) -> int:
        """Of so many pictures one is kept now."""
        return self._stride

    def add(self, frame: Frame) -> None:
        """Take the next frame, or leave it out."""
        if frame.is_repeated:
            self._repeat(frame)
            return
        if self.num_pictures % self._stride == 0:
            self._taken.append(frame)
        self.num_pictures += 1
        if len(self._taken) > self._most:
            self._taken, self._stride = self._taken[::2], 2 * self._stride

    def frames(self) -> list[Frame]:
        """What is kept, in order."""
        images = {id(frame.image) for frame in self._taken}
        repeated = [frame for frame in self._repeated if id(frame.image) in images]
        room = self._most - len(self._taken)
        if self._num_repeated > room:
            room = min(room, max(len(self._taken), _LEAST_REPEATED))
            step = max(1, -(-len(repeated) // max(1, room)))
            repeated = repeated[step - 1 :: step][:room]
        return sorted([*self._taken, *repeated], key=lambda frame: frame.pts_s)

    def _repeat(self, frame: Frame) -> None:
        if not self._taken or frame.image is not self._taken[-1].image:
            return
        if self._num_repeated % self._repeat_stride == 0:
            self._repeated.append(frame)
        self._num_repeated += 1
        if len(self._repeated) > self._most:
            self._repeated, self._repeat_stride = self._repeated[1::2], 2 * self._repeat_stride
