"""Samples the frames of a clip evenly, up to the number that a question can hold. For one thread."""

from __future__ import annotations

from streaming.types import Frame

_LEAST_REPEATED = 16
"""Least number of repeated frames that a clip may have, so that its times show how long a still picture lasted."""


class FrameSpread:
    """Keeps every n-th frame of a clip; n doubles whenever too many are kept.

    Frames that repeat the picture before them are counted separately: they displace no other frame and use no memory.
    """

    def __init__(self, most: int, stride: int) -> None:
        """most: most frames to keep. stride: n at the start, one of n frames is kept."""
        self._most = most
        self._stride = stride
        self._repeat_stride = 1
        self._taken: list[Frame] = []
        self._repeated: list[Frame] = []
        self._num_repeated = 0
        self.num_pictures = 0
        """Frames that were added, without those that repeat a picture."""

    @property
    def stride(self) -> int:
        """The current n: one of n pictures is kept."""
        return self._stride

    def add(self, frame: Frame) -> None:
        """Add the clip's next frame; it is kept or left out."""
        if frame.is_repeated:
            self._repeat(frame)
            return
        if self.num_pictures % self._stride == 0:
            self._taken.append(frame)
        self.num_pictures += 1
        if len(self._taken) > self._most:
            self._taken, self._stride = self._taken[::2], 2 * self._stride

    def frames(self) -> list[Frame]:
        """The kept frames, in order of time."""
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
