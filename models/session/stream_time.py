"""A session's two times: media time since its first frame, and the time shown to the model. Owned by the session."""

from __future__ import annotations

LATE = 1.5
"""A frame that comes after so many times the expected interval shows that the rate is lower than expected."""


class StreamTime:
    """Media time counts from the first frame; shown time counts from a base that is moved now and then."""

    def __init__(self, frame_s: float) -> None:
        """frame_s: seconds from one frame to the next, used where a source's time jumps back."""
        self._frame_s = frame_s
        self._origin_s: float | None = None
        self._base_s: float | None = None
        self.now_s = 0.0
        """Media time of the last frame."""
        self._passed_s = 0.0

    def expect(self, frame_s: float) -> None:
        """Set the seconds from one frame to the next."""
        self._frame_s = frame_s

    def enter(self, pts_s: float) -> float:
        """Media time of the next frame. Where a source's time jumps back, the frame counts as `frame_s` after the last.

        Rounded to microseconds, so that a stream that starts at 10⁶ s gives the same times as one that starts at 0.
        """
        if self._origin_s is None:
            self._origin_s = pts_s
        time_s = round(pts_s - self._origin_s, 6)
        if time_s < self.now_s:
            time_s = round(self.now_s + self._frame_s, 6)
            self._origin_s = pts_s - time_s
        if self._base_s is None:
            self._base_s = time_s
        self._passed_s, self.now_s = time_s - self.now_s, time_s
        return time_s

    @property
    def step_s(self) -> float:
        """Seconds until the next frame: as expected, or as between the last two where they came far more slowly."""
        return self._passed_s if self._passed_s > LATE * self._frame_s else self._frame_s

    def skip(self, seconds: float) -> None:
        """Leave `seconds` before the next frame out of both media time and shown time."""
        if self._origin_s is not None:
            self._origin_s += seconds

    def shown(self, time_s: float, base_s: float | None = None) -> float:
        """The time shown to the model for a media time, in seconds; from `base_s` instead of the current base where
        given."""
        base_s = self._base_s if base_s is None else base_s
        return round(time_s - (base_s or 0.0), 3)

    def rebase(self, base_s: float) -> None:
        """Show `base_s` as zero from now on."""
        self._base_s = base_s

    def restart(self) -> None:
        """Show the next frame's time as zero."""
        self._base_s = None
