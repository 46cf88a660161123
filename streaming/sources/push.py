"""A source whose frames are pushed by another thread, such as the handler of a browser's camera.

The pushing threads call `push` and `end`, the reading thread `frames()`; any thread may call `close()`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import numpy as np

from streaming.buffer import Item, LatestFrame
from streaming.clock import Clock
from streaming.errors import OptionError, SourceError
from streaming.sources.base import BaseSource, FrameChooser, SourceOptions, check_aspect
from streaming.sources.live_timeline import LiveTimeline
from streaming.types import Frame, NoticeKind, SourceInfo


class PushSource(BaseSource):
    """Holds the newest pushed frame until it is read, and counts the frames that were not read in time."""

    is_live = True

    def __init__(
        self,
        name: str = "push",
        options: SourceOptions | None = None,
        clock: Clock | None = None,
        idle_timeout_s: float | None = None,
    ) -> None:
        """`idle_timeout_s`: the stream ends if nothing is pushed for this long, as browsers may disappear silently."""
        options = options or SourceOptions()
        options.check_live(name)
        super().__init__(name, options, clock)
        if idle_timeout_s is not None and not (math.isfinite(idle_timeout_s) and idle_timeout_s > 0):
            raise OptionError(f"idle_timeout_s={idle_timeout_s:g}", "a time limit is above 0 seconds", "give e.g. 30")
        self._idle_timeout_s = idle_timeout_s
        self._pushing = threading.Lock()
        self._timeline = LiveTimeline()
        self._buffer: LatestFrame | None = None

    @property
    def num_dropped(self) -> int:
        """Number of frames pushed but never read, since the source was opened."""
        return self._buffer.num_dropped if self._buffer is not None else 0

    def open(self) -> SourceInfo:
        """Accept frames from now on. The size is 0 x 0, as it is not known before the first frame."""
        self.close()
        self._start()
        self._timeline = LiveTimeline()
        self._timeline.is_bursty = True  # a sender may push faster than real time
        self._buffer = LatestFrame(self._clock)
        return SourceInfo(self._name, True, 0, 0, None, None, "pushed")

    def push(self, image: np.ndarray, pts_s: float | None = None) -> bool:
        """Add the next frame: `image` is RGB, uint8, `[height, width, 3]`, and must not be written to afterwards.

        `pts_s` is the sender's own time, in seconds from any moment; None uses the time of arrival. Returns False if
        the source is closed or was ended: stop pushing. Raises `OptionError` for an image of another kind.
        """
        check_image(self._name, image)
        if pts_s is not None and not math.isfinite(pts_s):
            raise OptionError(f"pts_s={pts_s}", "a time is a finite number of seconds", "leave it out")
        with self._pushing:
            buffer = self._buffer
            if buffer is None or self._closed.is_set():
                return False
            now_s = self._clock.now_s()
            placed = self._timeline.place(pts_s, now_s)
            frame = Frame(np.ascontiguousarray(image), self._num_decoded, placed.pts_s, now_s, self._name)
            self._num_decoded += 1
            return buffer.put(frame)

    def end(self) -> None:
        """End the stream after the frames that were pushed already."""
        if self._buffer is not None:
            self._buffer.finish()

    def frames(self) -> Iterator[Item]:
        """Yield the newest frame each time, until the source is ended, idle for too long, or closed."""
        buffer = self._buffer
        if buffer is None:
            raise SourceError(self._name, "it is not open", "call open() first")
        sampler = self._options.frame_chooser()
        yield self._notice(NoticeKind.OPENED, "waiting for frames", is_live=True)
        reason = "the sender ended it"
        while not self._closed.is_set():
            item = buffer.get(self._idle_timeout_s)
            if isinstance(item, Frame):
                yield from self._deliver(item, sampler)
            elif item is not None:
                yield item
            elif buffer.is_drained:
                break
            else:
                reason = f"nothing came for {self._idle_timeout_s:g} s"
                break
        if not self._closed.is_set():
            yield self._notice(NoticeKind.ENDED, reason, self._num_decoded, broken=False, num_frames=self._num_decoded)

    def _deliver(self, frame: Frame, sampler: FrameChooser) -> Iterator[Item]:
        if not sampler.wants(frame.pts_s):
            self._last_pts_s = frame.pts_s
            return
        yield from self._size_notices(frame.image)
        self._last_pts_s = frame.pts_s
        yield frame

    def _release(self) -> None:
        if self._buffer is not None:
            self._buffer.cancel()


def check_image(name: str, image: np.ndarray) -> None:
    """Raise `OptionError` unless `image` is RGB, uint8, `[height, width, 3]`, not empty and not too narrow."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise OptionError(f"{name}: {found}", "a frame is a uint8 array [height, width, 3], RGB", "convert it first")
    if image.size == 0:
        raise OptionError(f"{name}: {list(image.shape)}", "a frame has at least one pixel", "leave it out")
    check_aspect(name, image.shape[1], image.shape[0])
