"""What viewers say of alerts, of the cameras and of their own streams, and how often rules were right. Any thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from assistant.errors import ConfigError
from assistant.viewers.viewer_rules import Place
from assistant.viewers.viewer_session import ViewerSessionError

if TYPE_CHECKING:
    from assistant.cameras.views import CameraViews
    from assistant.timeline.marks import AlertMarks, RuleRating
    from assistant.viewers.viewer_session import ViewerSession
    from streaming.clock import Clock

RATED_S = 5.0
"""Seconds for which ratings are not read again: all alerts of a timeline are counted for them."""


class ViewerMarks:
    """The marks that viewers see and make."""

    def __init__(self, views: CameraViews | None, clock: Clock, *, may_change_cameras: bool) -> None:
        """may_change_cameras: whether viewers may mark the alerts of cameras, which all of them share."""
        self._views = views
        self._clock = clock
        self._may_change_cameras = may_change_cameras
        self._rated: dict[str, tuple[float, dict[str, RuleRating]]] = {}
        self._lock = threading.Lock()

    def mark(self, viewer: ViewerSession, place: Place, number: int, verdict: str | None) -> None:
        """Mark an alert as `right` or `wrong`; None takes the mark back. number: of its event.

        Raises where there is no such alert, or the viewer may not.
        """
        if place == "cameras" and not self._may_change_cameras:
            raise ViewerSessionError(
                f"mark of alert {number}: this app needs no login, so viewers cannot mark alerts of shared cameras; "
                "use alerts mark, or start with --auth-file"
            )
        marks = self._marks(viewer, place)
        if marks is None:
            raise ConfigError(f"mark of alert {number}: no events are stored there; watch something first")
        marks.mark(number, verdict, self._clock.wall_s())
        with self._lock:
            self._rated.pop(_key(viewer, place), None)

    def ratings(self, viewer: ViewerSession, place: Place) -> dict[str, RuleRating]:
        """How often each rule was right, by its name; at most some seconds old."""
        key, now_s = _key(viewer, place), self._clock.now_s()
        with self._lock:
            read_s, known = self._rated.get(key, (float("-inf"), {}))
        if now_s - read_s < RATED_S:
            return known
        marks = self._marks(viewer, place)
        rated = {rating.rule: rating for rating in marks.ratings()} if marks is not None else {}
        with self._lock:
            self._rated = {other: old for other, old in self._rated.items() if now_s - old[0] < 10 * RATED_S}
            self._rated[key] = now_s, rated
        return rated

    def _marks(self, viewer: ViewerSession, place: Place) -> AlertMarks | None:
        if place == "cameras":
            return self._views.marks() if self._views is not None else None
        return viewer.timeline.marks if viewer.has_timeline else None


def _key(viewer: ViewerSession, place: Place) -> str:
    return viewer.token if place == "own" else "cameras"
