"""Samples frames at a given rate by their media time. One sampler belongs to one stream and one thread."""

from __future__ import annotations

import math

from streaming.errors import OptionError

MAX_FPS = 1000.0
"""Highest frame rate that is accepted."""

# Containers round timestamps (Matroska to whole milliseconds), so a frame this little before its tick counts as on it.
_ROUNDING_S = 0.001
_ROUNDING_OF_TICK = 0.1


def check_fps(name: str, fps: float | None) -> None:
    """Raise `OptionError` unless `fps` is None or above 0 and at most `MAX_FPS`; `name` is the option's name."""
    if fps is not None and not (math.isfinite(fps) and 0 < fps <= MAX_FPS):
        raise OptionError(
            f"{name}={fps:g}", f"a rate is above 0 and at most {MAX_FPS:g} frames a second", "2 is a good start"
        )


class FrameSampler:
    """Selects the first frame at or after each tick of `fps`; ticks count from the first frame, so they never drift.

    A gap skips only the ticks inside it. Media time that jumps back restarts the ticks. `fps=None`, or a rate above the
    stream's own, selects every frame. A source that knows how long each picture is shown also calls `wants` at
    `next_s`, so that each tick gets the picture shown at that time.

    >>> sampler = FrameSampler(2.0)
    >>> [pts_s for pts_s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2) if sampler.wants(pts_s)]
    [0.0, 0.6, 1.0]
    """

    def __init__(self, fps: float | None) -> None:
        check_fps("fps", fps)
        self.fps = fps
        self._origin_s = 0.0
        self._last_s = -math.inf
        self._selected_s = 0.0
        self._next_tick = 0
        self._slack_s = 0.0 if fps is None else min(_ROUNDING_S, _ROUNDING_OF_TICK / fps)

    def wants(self, pts_s: float, *, is_repeated: bool = False) -> bool:
        """Whether to select the frame at media time `pts_s`. Call it once for each frame, in order.

        is_repeated: whether this is the previous picture, still being shown; it is selected like any other.
        """
        if self.fps is None:
            return True
        if self._last_s == -math.inf or pts_s < self._last_s:
            self._origin_s, self._next_tick = pts_s, 0
        self._last_s = pts_s
        tick = math.floor((pts_s - self._origin_s + self._slack_s) * self.fps)
        if tick < self._next_tick:
            return False
        self._next_tick = tick + 1
        self._selected_s = pts_s
        return True

    @property
    def next_s(self) -> float:
        """Media time of the next tick; -infinity before the first frame, infinity if `fps` is None (no ticks)."""
        if self.fps is None:
            return math.inf
        return -math.inf if self._last_s == -math.inf else self._origin_s + self._next_tick / self.fps

    def reset(self) -> None:
        """Forget the stream: the next frame is selected and restarts the ticks."""
        self._last_s = -math.inf

    def set_fps(self, fps: float | None) -> None:
        """Change the rate from the next frame on; the ticks then count from the last selected frame."""
        check_fps("fps", fps)
        if fps == self.fps:
            return
        waited = self._last_s > -math.inf
        self.fps = fps
        self._slack_s = 0.0 if fps is None else min(_ROUNDING_S, _ROUNDING_OF_TICK / fps)
        if waited:
            self._origin_s, self._next_tick = self._selected_s, 1
