"""A sink that stores one stream's events in a timeline, with their thumbnails, clip and time of day.

The engine's thread calls `append`; the stream's owner calls `close`.
"""

from __future__ import annotations

import logging
import threading
import uuid
from typing import TYPE_CHECKING

from assistant.events import Alert, Answer, Comment, StreamEvent
from assistant.evidence import EvidenceKeeper, is_about_the_picture
from assistant.timeline.store import Timeline

if TYPE_CHECKING:
    from assistant.timeline.clips import ClipRecorder
    from assistant.timeline.records import ClipMark

logger = logging.getLogger(__name__)


class ChannelSink:
    """Stores one camera's events in a timeline. List it before sinks that display, so that shown events are on disk."""

    def __init__(
        self,
        timeline: Timeline,
        camera: str,
        *,
        keeper: EvidenceKeeper | None = None,
        recorder: ClipRecorder | None = None,
    ) -> None:
        """camera: its name. keeper: thumbnails of the frames that its model saw. recorder: records its clips."""
        self._timeline = timeline
        self._camera = camera
        self._keeper = keeper
        self._recorder = recorder
        self._lock = threading.Lock()
        self._is_closed = False
        self.run = uuid.uuid4().hex
        """Identifies this run of the stream, within which media time is continuous."""

    def append(self, event: StreamEvent) -> None:
        """Store an event; it is committed when this returns."""
        self.record(event)

    def record(self, event: StreamEvent) -> str:
        """Store an event; return the `uid` by which `TimelineReader.get` finds it."""
        # A remark gets the time of day of its picture; answers and status events get the present one.
        is_remark = isinstance(event, Comment | Alert)
        frame = self._keeper.frame_of(event) if self._keeper and is_remark else None
        has_picture = is_about_the_picture(event)
        return self._timeline.record(
            event,
            camera=self._camera,
            run=self.run,
            wall_s=frame.wall_s if frame else None,
            evidence=self._keeper.for_event(event) if self._keeper and has_picture else (),
            kept=event.frames or () if isinstance(event, Answer) else (),
            clip=self._mark(event) if has_picture else None,
        )

    def close(self) -> None:
        """End the current clip; the timeline stays open for other sinks."""
        with self._lock:
            self._is_closed = True
            if self._recorder is not None:
                self._recorder.finish()

    def _mark(self, event: StreamEvent) -> ClipMark | None:
        """Start or extend a clip for an event; None if none is recorded. A clip that fails does not lose the event."""
        with self._lock:
            if self._recorder is None or self._is_closed:  # after `close` nobody would end the clip
                return None
            try:
                since_s = None
                if isinstance(event, Alert):
                    since_s = event.time_s if event.started_s is None else event.started_s
                return self._recorder.mark(event.time_s, alert_since_s=since_s)
            except Exception as error:
                logger.exception("%s: a clip could not be started", self._camera)
                self._timeline.clip_refused(self._camera, f"{type(error).__name__}: {error}")
                return None
