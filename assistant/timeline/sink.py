"""The timeline as the sink of one stream: each event goes in with its evidence, its clip and the time of day.

The engine's thread appends; `close` is for the stream's owner.
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
    """Puts the events of one camera into a timeline. Put it before sinks that show: what is shown is on disk then."""

    def __init__(
        self,
        timeline: Timeline,
        camera: str,
        *,
        keeper: EvidenceKeeper | None = None,
        recorder: ClipRecorder | None = None,
    ) -> None:
        """camera: the name it is known by. keeper: thumbnails of what its model saw. recorder: where clips are kept."""
        self._timeline = timeline
        self._camera = camera
        self._keeper = keeper
        self._recorder = recorder
        self._lock = threading.Lock()
        self._is_closed = False
        self.run = uuid.uuid4().hex
        """This run of the stream; its media time is continuous."""

    def append(self, event: StreamEvent) -> None:
        """Keep an event; it is committed when this returns."""
        self.record(event)

    def record(self, event: StreamEvent) -> str:
        """Keep an event; gives the `uid` by which the timeline finds it."""
        # A remark belongs to the moment of its picture; an answer or what happened to the stream, to the present one.
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
            clip=self._mark(event.time_s) if has_picture else None,
        )

    def close(self) -> None:
        """Finish the clip that is being recorded; the timeline stays open for others."""
        with self._lock:
            self._is_closed = True
            if self._recorder is not None:
                self._recorder.finish()

    def _mark(self, time_s: float) -> ClipMark | None:
        """The clip round an event, where one is recorded; one that cannot be begun costs no event."""
        with self._lock:
            if self._recorder is None or self._is_closed:  # nobody would finish it any more
                return None
            try:
                return self._recorder.mark(time_s)
            except Exception as error:
                logger.exception("%s: a clip could not be begun", self._camera)
                self._timeline.clip_refused(self._camera, f"{type(error).__name__}: {error}")
                return None
