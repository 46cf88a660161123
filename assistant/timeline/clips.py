"""Records clips of a stream around its events or its alerts; nothing is recorded unless the configuration asks for it.

Clips show what viewers see, with masks painted over. The capture thread calls `add_frame`, the engine's thread
`mark`, any thread `finish`.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.errors import ConfigError
from assistant.timeline.records import MOST_KEPT_S, ClipMark, KeptClip
from streaming.recording import ClipResult, ClipWriter
from streaming.thumbnails import encode_jpeg
from streaming.types import Frame

if TYPE_CHECKING:
    from assistant.timeline.store import Timeline
    from streaming.clock import Clock

CLIP_FPS = 10.0
CLIP_PX = 960
"""Longer side of a clip's pictures."""
CLIP_JPEG_QUALITY = 88
MOST_RING_BYTES = 32 << 20
"""Most bytes of one camera's latest pictures, kept in memory so that a clip can begin before its event."""
MOST_CLIP_S = 60.0
"""Most seconds of a clip: overlapping events share one up to this length, then the next event starts another."""


@dataclass(frozen=True, slots=True)
class _Picture:
    time_s: float
    jpeg: bytes


@dataclass(slots=True)
class _Recording:
    mark: ClipMark
    start_s: float
    end_s: float
    """Media time at which it ends, unless another event extends it."""


class ClipRecorder:
    """Records one stream from some seconds before each of its events, or of its alerts alone, to as many after it."""

    def __init__(
        self,
        timeline: Timeline,
        camera: str,
        writer: ClipWriter,
        clock: Clock,
        *,
        keep_s: float | None,
        alerts_s: float | None = None,
    ) -> None:
        """keep_s: seconds before and after each event; None for no clips but those of alerts.

        alerts_s: seconds before and after each alert, if that is more; None for as many as for other events.
        """
        for name, seconds in (("--keep-clips", keep_s), ("alert_clips_s", alerts_s)):
            if seconds is not None and not 0 < seconds <= MOST_KEPT_S:
                raise ConfigError(
                    f"{name} {seconds:g}: it must be above 0 and at most {MOST_KEPT_S:g} seconds; 5 is usual"
                )
        self._timeline = timeline
        self._camera = camera
        self._writer = writer
        self._clock = clock
        self._keep_s = keep_s
        self._alerts_s = max((s for s in (keep_s, alerts_s) if s is not None), default=None)
        self._ring: deque[_Picture] = deque()
        self._ring_bytes = 0
        self._recording: _Recording | None = None
        self._lock = threading.Lock()
        self.num_dropped = 0
        """Number of pictures dropped so far because they came faster than they could be encoded."""

    def add_frame(self, frame: Frame) -> None:
        """Add a picture; pictures beyond ten per second are ignored before they are encoded."""
        with self._lock:
            newest_s = self._ring[-1].time_s if self._ring else None
        if newest_s is not None and 0 <= frame.pts_s - newest_s < 0.9 / CLIP_FPS:
            return
        jpeg = encode_jpeg(frame.image, max_side_px=CLIP_PX, quality=CLIP_JPEG_QUALITY).data
        with self._lock:
            if newest_s is not None and frame.pts_s < newest_s:  # the recording was restarted or a seek went back
                self._forget()
            self._ring.append(_Picture(frame.pts_s, jpeg))
            self._ring_bytes += len(jpeg)
            while self._ring_bytes > MOST_RING_BYTES or frame.pts_s - self._ring[0].time_s > self._ring_s:
                self._ring_bytes -= len(self._ring.popleft().jpeg)
            recording = self._recording
            if recording is None:
                return
            if frame.pts_s <= recording.end_s:
                self._write(recording, self._ring[-1])
            else:
                self._end()

    def rest(self) -> None:
        """End the current clip and forget the latest pictures, while nothing is to be recorded."""
        with self._lock:
            if self._ring or self._recording is not None:
                self._forget()

    def mark(self, time_s: float, *, alert_since_s: float | None = None) -> ClipMark | None:
        """Record around an event at media time `time_s`; return its clip, None if none is wanted or could be started.

        alert_since_s: for an alert, the media time since when its rule held; the clip begins before that, as far as the
        pictures in memory reach.
        """
        keep_s = self._keep_s if alert_since_s is None else self._alerts_s
        if keep_s is None:
            return None
        since_s = time_s if alert_since_s is None else min(time_s, alert_since_s)
        with self._lock:
            recording = self._recording
            if recording is not None and recording.start_s <= time_s <= recording.end_s + keep_s:
                if time_s + keep_s <= recording.start_s + MOST_CLIP_S:
                    recording.end_s = max(recording.end_s, time_s + keep_s)
                    return recording.mark
                if time_s <= recording.end_s and recording.end_s - time_s >= keep_s / 2:
                    return recording.mark
            self._end()
            return self._begin(since_s - keep_s, time_s + keep_s)

    def finish(self) -> None:
        """End the current clip."""
        with self._lock:
            self._end()

    @property
    def is_recording(self) -> bool:
        """Whether a clip is being recorded now."""
        return self._recording is not None

    @property
    def _ring_s(self) -> float:
        """Seconds of pictures kept in memory: an event is reported some time after its picture."""
        return 2 * (self._alerts_s or 0.0) + 5.0

    def _begin(self, start_s: float, end_s: float) -> ClipMark | None:
        uid, wall_s = uuid.uuid4().hex, self._clock.wall_s()
        try:
            path = self._timeline.folder.clip_path(self._camera, wall_s, uid)
        except OSError as error:
            self._timeline.clip_refused(self._camera, error.strerror or str(error))
            return None
        mark = ClipMark(uid, path, wall_s)
        self._writer.begin(uid, self._timeline.folder.inside(path), lambda result: self._done(mark, result))
        self._recording = _Recording(mark, start_s, end_s)
        for picture in self._ring:
            if self._recording.start_s <= picture.time_s <= self._recording.end_s:
                self._write(self._recording, picture)
        return mark

    def _write(self, recording: _Recording, picture: _Picture) -> None:
        if not self._writer.add(recording.mark.uid, picture.jpeg, picture.time_s):
            self.num_dropped += 1

    def _end(self) -> None:
        if self._recording is not None:
            self._writer.finish(self._recording.mark.uid)
            self._recording = None

    def _forget(self) -> None:
        self._end()
        self._ring.clear()
        self._ring_bytes = 0

    def _done(self, mark: ClipMark, result: ClipResult) -> None:
        """Store the result of a clip; called on the clip writer's thread."""
        is_there = not result.failure
        self._timeline.clip_finished(
            KeptClip(
                uid=mark.uid,
                path=mark.path,
                state="done" if is_there else "lost",
                reason=result.failure,
                start_s=result.start_s if is_there else None,
                end_s=result.end_s if is_there else None,
                num_frames=result.num_frames,
                num_dropped=result.num_dropped,
                size_bytes=result.size_bytes,
            )
        )
