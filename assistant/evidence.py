"""Thumbnails of the frames that a model saw recently, to show the frames behind an event.

Each stream has its own `EvidenceKeeper`. The engine's thread calls `add`; any thread may call the rest.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from assistant.events import Alert, Answer, StatusEvent, StatusKind, StreamEvent
from streaming.thumbnails import THUMBNAIL_PX, Jpeg, decode_jpeg, encode_jpeg, reduced
from streaming.types import Frame

KEPT_S = 180.0
"""Media seconds that thumbnails are kept."""
MOST_BYTES = 8 << 20
"""Most bytes that one stream's thumbnails take: about 800 of 10 KB."""
FRAMES_AN_EVENT = 3
SPACING_S = 0.9
"""Least seconds between the frames shown for one event: its own frame, and those one and two seconds before."""

WITH_PICTURE = frozenset(
    {
        StatusKind.GAP,
        StatusKind.DAMAGED,
        StatusKind.GRID_CHANGED,
        StatusKind.RECONNECTING,
        StatusKind.FROZEN,
        StatusKind.BROKEN,
    }
)
"""Kinds of status events that concern the picture; other kinds concern the program or its memory."""


@dataclass(frozen=True, slots=True)
class EvidenceFrame:
    """Thumbnail of one frame that the model saw, with the masks of its kept cells."""

    frame_index: int
    time_s: float
    """Media time."""
    wall_s: float
    """Time of day when it was captured, seconds since 1970."""
    picture: Jpeg
    rows: int
    cols: int
    """Number of columns of the grid of cells; rows and columns are 0 if the masks are not known."""
    kept: np.ndarray
    """Bool `[rows * cols]`: cells that became tokens."""
    refreshed: np.ndarray
    """Bool `[rows * cols]`: kept cells that had not changed and were kept because their tokens were old."""

    def image(self) -> np.ndarray:
        """The thumbnail, uint8 RGB `[height, width, 3]`."""
        return decode_jpeg(self.picture.data)

    def cells(self) -> str:
        """The masks as text, one line per row: `#` kept as it changed, `r` kept as its token was old, `.` not kept.

        >>> frame = EvidenceFrame(0, 0.0, 0.0, Jpeg(b"", 1, 1), 1, 3, np.array([1, 1, 0]), np.array([0, 1, 0]))
        >>> frame.cells()
        '#r.'
        """
        marks = np.where(self.refreshed.astype(bool), "r", np.where(self.kept.astype(bool), "#", "."))
        if not (self.rows and self.cols):
            return ""
        return "\n".join("".join(row) for row in marks.reshape(self.rows, self.cols))

    @staticmethod
    def of_cells(cells: str) -> tuple[int, int, np.ndarray, np.ndarray]:
        """Rows, columns, kept and refreshed cells of text that `cells` wrote; 0 rows and columns for other text.

        >>> EvidenceFrame.of_cells("#r.")[2:]
        (array([ True,  True, False]), array([False,  True, False]))
        """
        lines = cells.split("\n")
        if not cells or len({len(line) for line in lines}) > 1:
            return 0, 0, np.zeros(0, bool), np.zeros(0, bool)
        marks = np.array(list("".join(lines)))
        return len(lines), len(lines[0]), marks != ".", marks == "r"


class EvidenceKeeper:
    """Keeps the thumbnails of one stream's latest frames, up to a number of seconds and of bytes."""

    def __init__(self, *, kept_s: float = KEPT_S, most_bytes: int = MOST_BYTES) -> None:
        self._kept_s = kept_s
        self._most_bytes = most_bytes
        self._frames: deque[EvidenceFrame] = deque()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def add(
        self, frame: Frame, keep: np.ndarray, refreshed: np.ndarray, wall_s: float, *, rows: int = 0, cols: int = 0
    ) -> None:
        """Add a frame that the model has seen. keep, refreshed: bool `[rows * cols]`; wall_s: when it was captured."""
        picture = frame.thumbnail or encode_jpeg(frame.image)
        if rows * cols != len(keep):
            rows = cols = 0
        seen = EvidenceFrame(
            frame.index, frame.pts_s, wall_s, picture, rows, cols, np.array(keep, bool), np.array(refreshed, bool)
        )
        with self._lock:
            self._frames.append(seen)
            self._num_bytes += len(picture.data)
            while len(self._frames) > 1 and (self._num_bytes > self._most_bytes or self._is_old(self._frames[0])):
                self._num_bytes -= len(self._frames.popleft().picture.data)

    def clear(self) -> None:
        """Remove every frame."""
        with self._lock:
            self._frames.clear()
            self._num_bytes = 0

    @property
    def num_bytes(self) -> int:
        """Bytes that the thumbnails take."""
        return self._num_bytes

    def newest(self) -> EvidenceFrame | None:
        """The latest frame; None before the first."""
        with self._lock:
            return self._frames[-1] if self._frames else None

    def around(self, time_s: float, before_s: float, after_s: float) -> tuple[EvidenceFrame, ...]:
        """The frames from `before_s` before media time `time_s` to `after_s` after it, in order of arrival."""
        return tuple(f for f in self._snapshot() if time_s - before_s - 1e-6 <= f.time_s <= time_s + after_s + 1e-6)

    def frame_of(self, event: StreamEvent) -> EvidenceFrame | None:
        """The frame with the event's index; if it is not kept, the last frame at or before the event's time."""
        frames = self._snapshot()
        for frame in reversed(frames):
            if frame.frame_index == event.frame_index:
                return frame
        earlier = [frame for frame in frames if frame.time_s <= event.time_s + 1e-6]
        return earlier[-1] if earlier else None

    def for_event(self, event: StreamEvent, most: int = FRAMES_AN_EVENT) -> tuple[EvidenceFrame, ...]:
        """The frames behind an event: its own and earlier ones a second apart, oldest first, at most `most`.

        For an alert, all the frames that decided. Empty for events about the program or its memory.
        """
        newest = self.frame_of(event) if is_about_the_picture(event) else None
        if newest is None:
            return ()
        if isinstance(event, Alert) and event.hits:
            times = [time_s for time_s, _ in event.hits]
            decided = [frame for frame in self._snapshot() if any(abs(frame.time_s - t) < 1e-6 for t in times)]
            return tuple([frame for frame in decided if frame is not newest] + [newest])
        taken = [newest]
        for frame in reversed(self.around(newest.time_s, (most - 1) * SPACING_S + 0.5, 0.0)):
            if len(taken) < most and frame.time_s <= taken[-1].time_s - SPACING_S + 1e-3:
                taken.append(frame)
        return tuple(reversed(taken))

    def _snapshot(self) -> tuple[EvidenceFrame, ...]:
        with self._lock:
            return tuple(self._frames)

    def _is_old(self, frame: EvidenceFrame) -> bool:
        return abs(self._frames[-1].time_s - frame.time_s) > self._kept_s


def with_thumbnail(frame: Frame) -> Frame:
    """The frame with its thumbnail encoded, as an `EvidenceKeeper` keeps it; for the capture thread."""
    small = reduced(frame.image, THUMBNAIL_PX, THUMBNAIL_PX)
    return replace(frame, thumbnail=encode_jpeg(small), reduced=small)


def is_about_the_picture(event: StreamEvent) -> bool:
    """Whether an event concerns the picture at its time; False for answers from the timeline and for program events."""
    if isinstance(event, StatusEvent):
        return event.kind in WITH_PICTURE
    return not (isinstance(event, Answer) and event.frames is not None)
