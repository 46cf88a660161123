"""One source for two readers: people see every picture, the model those of its own rate; the rest is never converted.

A `Tap` goes with one source. The capture thread calls `take` and `pass_on`; everything else is for any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from streaming.clock import Clock, SystemClock
from streaming.frame_sampling import FrameSampler, check_fps
from streaming.types import Frame

Viewer = Callable[[Frame], None]
"""Takes every picture that is shown, on the capture thread; returns at once and never raises."""

VIEW_FPS = 30.0
_EARLY = 0.8
"""Pictures come unevenly: one this share of a tick after the last still counts as on time."""
_RATE_S = 10.0
"""Seconds that measured rates look back over."""


class Viewers:
    """Those who look at one stream, over all its connections."""

    def __init__(self) -> None:
        self._viewers: tuple[Viewer, ...] = ()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._viewers)

    def add(self, viewer: Viewer) -> Callable[[], None]:
        """Show `viewer` every picture from now on; call what is returned to end that."""
        with self._lock:
            self._viewers = (*self._viewers, viewer)

        def remove() -> None:
            with self._lock:
                self._viewers = tuple(other for other in self._viewers if other is not viewer)

        return remove

    def show(self, frame: Frame) -> None:
        """Hand a picture to all of them."""
        for viewer in self._viewers:
            viewer(frame)


class Tap:
    """Decides about each decoded picture, before it is converted: for the model, for the viewers, or for nobody."""

    def __init__(
        self,
        fps: float | None,
        viewers: Viewers | None = None,
        *,
        clock: Clock | None = None,
        view_fps: float = VIEW_FPS,
    ) -> None:
        """`fps` is the model's rate by media time; `view_fps` caps what viewers get, by our clock."""
        check_fps("view_fps", view_fps)
        self.fps = fps
        """Frames a second for the model; may be set at any time."""
        self.is_shut = False
        """While set, the model gets nothing; viewers do."""
        self._is_asked_for = False
        self.viewers = viewers if viewers is not None else Viewers()
        self._sampler = FrameSampler(fps)
        self._clock: Clock = clock or SystemClock()
        self._view_every_s = _EARLY / view_fps
        self._viewed_at_s = float("-inf")
        self._is_for_model = self._is_for_viewers = False
        self._decoded_at_s: deque[float] = deque(maxlen=1024)

    @property
    def next_s(self) -> float:
        """As `FrameSampler.next_s`, for the model: nobody else has to be shown a standing picture again."""
        self._sampler.set_fps(self.fps)
        return self._sampler.next_s

    def look_now(self) -> None:
        """Give the model the next picture, whether or not it is time for one."""
        self._is_asked_for = True

    def wants(self, pts_s: float, *, is_repeated: bool = False) -> bool:
        """Whether anybody wants the picture at media time `pts_s`; the sampler that a source asks.

        is_repeated: it is the picture of before, which still stands.
        """
        now_s = self._clock.now_s()
        if not is_repeated:
            self._decoded_at_s.append(now_s)
        self._sampler.set_fps(self.fps)
        if not self.is_shut:
            is_due = self._sampler.wants(pts_s)
            self._is_for_model, self._is_asked_for = is_due or self._is_asked_for, False
        else:
            self._is_for_model = False
        self._is_for_viewers = len(self.viewers) > 0 and now_s - self._viewed_at_s >= self._view_every_s
        return self._is_for_model or self._is_for_viewers

    def reset(self) -> None:
        """The source was opened anew: its next picture is for everybody."""
        self._sampler.reset()

    def pass_on(self, frame: Frame) -> bool:
        """Show the picture that was taken last to its viewers; whether it is for the model too."""
        if self._is_for_viewers:
            self._viewed_at_s = self._clock.now_s()
            self.viewers.show(frame)
        return self._is_for_model

    def fps_decoded(self, now_s: float) -> float:
        """Pictures a second that the source gave in the last ten seconds, by our clock."""
        return rate_of(list(self._decoded_at_s), now_s)


def rate_of(times_s: Sequence[float], now_s: float) -> float:
    """Events a second over the last ten, from the times of the latest ones; 0 where there are none.

    >>> rate_of([0.0, 1.0, 9.0, 9.5, 10.0], 10.0)
    0.4
    """
    recent = [time_s for time_s in times_s if now_s - time_s <= _RATE_S]
    if len(recent) < 2:
        return 0.0
    return (len(recent) - 1) / max(now_s - recent[0], 1e-3)
