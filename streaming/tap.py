"""Splits one source between viewers and the model: viewers see every picture, the model samples at its own rate.

Pictures that neither wants are never converted to RGB. A `Tap` belongs to one source. The capture thread calls `wants`
and `deliver`; any thread may call everything else.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from streaming.clock import Clock, SystemClock
from streaming.frame_sampling import FrameSampler, check_fps
from streaming.types import Frame

Viewer = Callable[[Frame], None]
"""Callback that gets every shown picture, on the capture thread; it must return at once and never raise."""

VIEW_FPS = 30.0
"""Most pictures a second that viewers get."""
_EARLY = 0.8
"""Pictures arrive unevenly: one that comes this share of an interval after the last still counts as on time."""
_RATE_S = 10.0
"""Length of the window, in seconds, over which rates are measured."""


class Viewers:
    """The viewers of one stream; they stay registered when the source reconnects."""

    def __init__(self) -> None:
        self._viewers: tuple[Viewer, ...] = ()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._viewers)

    def add(self, viewer: Viewer) -> Callable[[], None]:
        """Register `viewer` for every picture from now on; return a function that removes it."""
        with self._lock:
            self._viewers = (*self._viewers, viewer)

        def remove() -> None:
            with self._lock:
                self._viewers = tuple(other for other in self._viewers if other is not viewer)

        return remove

    def show(self, frame: Frame) -> None:
        """Call every viewer with a picture."""
        for viewer in self._viewers:
            viewer(frame)


class Tap:
    """Decides for each decoded picture, before it is converted, whether the model, the viewers or nobody gets it."""

    def __init__(
        self,
        fps: float | None,
        viewers: Viewers | None = None,
        *,
        clock: Clock | None = None,
        view_fps: float = VIEW_FPS,
    ) -> None:
        """`fps` is the model's rate in media time (None: every picture).

        `view_fps` is the most pictures a second that viewers get, by our clock. Raises `OptionError` for a bad rate.
        """
        check_fps("view_fps", view_fps)
        self.fps = fps
        """Frames a second for the model; may be set at any time."""
        self.is_model_paused = False
        """While True, the model gets no pictures; viewers still do."""
        self._is_frame_requested = False
        self.viewers = viewers if viewers is not None else Viewers()
        self._sampler = FrameSampler(fps)
        self._clock: Clock = clock or SystemClock()
        self._view_every_s = _EARLY / view_fps
        self._viewed_at_s = float("-inf")
        self._is_for_model = self._is_for_viewers = False
        self._decoded_at_s: deque[float] = deque(maxlen=1024)

    @property
    def next_s(self) -> float:
        """`FrameSampler.next_s` of the model's sampler: only the model needs a standing picture repeated."""
        self._sampler.set_fps(self.fps)
        return self._sampler.next_s

    def request_frame(self) -> None:
        """Make the model get the next picture even if its sampler would skip it."""
        self._is_frame_requested = True

    def wants(self, pts_s: float, *, is_repeated: bool = False) -> bool:
        """Whether the model or a viewer wants the picture at media time `pts_s`; the source calls this.

        is_repeated: whether this is the previous picture again, because it is still being shown.
        """
        now_s = self._clock.now_s()
        if not is_repeated:
            self._decoded_at_s.append(now_s)
        self._sampler.set_fps(self.fps)
        if not self.is_model_paused:
            is_due = self._sampler.wants(pts_s)
            self._is_for_model, self._is_frame_requested = is_due or self._is_frame_requested, False
        else:
            self._is_for_model = False
        self._is_for_viewers = len(self.viewers) > 0 and now_s - self._viewed_at_s >= self._view_every_s
        return self._is_for_model or self._is_for_viewers

    def reset(self) -> None:
        """Start anew after the source was reopened: the model gets its next picture."""
        self._sampler.reset()

    def deliver(self, frame: Frame) -> bool:
        """Show `frame`, the last one that `wants` accepted, to the viewers; return whether the model gets it too."""
        if self._is_for_viewers:
            self._viewed_at_s = self._clock.now_s()
            self.viewers.show(frame)
        return self._is_for_model

    def fps_decoded(self, now_s: float) -> float:
        """Pictures a second that the source decoded in the last ten seconds, by our clock."""
        return rate_per_s(list(self._decoded_at_s), now_s)


def rate_per_s(times_s: Sequence[float], now_s: float) -> float:
    """Events a second over the last ten seconds, from the events' times; 0 if there were fewer than two.

    >>> rate_per_s([0.0, 1.0, 9.0, 9.5, 10.0], 10.0)
    0.4
    """
    recent = [time_s for time_s in times_s if now_s - time_s <= _RATE_S]
    if len(recent) < 2:
        return 0.0
    return (len(recent) - 1) / max(now_s - recent[0], 1e-3)
