"""The data that a source produces: frames, and notices about the stream itself. Any thread may hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from streaming.thumbnails import Jpeg


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture with its timestamps."""

    image: np.ndarray
    """RGB, uint8, `[height, width, 3]`, upright (rotation metadata applied). Readers never write to it."""
    index: int
    """Number of frames that the source decoded before this one, since it was opened."""
    pts_s: float
    """Media time in seconds, from the container's timestamps (for a live source: since its first frame)."""
    captured_at_s: float
    """Time by our clock (`Clock.now_s`) at which the frame left the decoder."""
    source: str
    """The source's display name; credentials are already redacted."""
    is_repeated: bool = False
    """Whether this is the previous frame's picture, still being shown; `image` is then the same array."""
    on_grid: np.ndarray | None = None
    """The picture scaled to the model's grid, uint8 RGB; None if the capture thread did not scale it."""
    thumbnail: Jpeg | None = None
    """The picture scaled down and encoded for storage; None if the capture thread did not do so."""
    reduced: np.ndarray | None = None
    """The picture shrunk by a whole number, on the way to `thumbnail` and `on_grid`; None where it is not at hand."""


class NoticeKind(StrEnum):
    """The kinds of notices about a stream."""

    OPENED = "opened"
    """The source is open."""
    GAP = "gap"
    """Media time has a gap or a jump."""
    DROPPED = "dropped"
    """Frames of a live source were dropped, because newer ones arrived first."""
    DAMAGED = "damaged"
    """Data could not be decoded, or its timestamps had to be replaced."""
    GRID_CHANGED = "grid_changed"
    """The size of the picture changed."""
    SLOWED = "slowed"
    """A recording plays slower than asked, because its reader is too slow."""
    LOOPED = "looped"
    """A recording starts again from its beginning."""
    RECONNECTING = "reconnecting"
    """A live source was lost, and the next attempt is scheduled."""
    FROZEN = "frozen"
    """A live source keeps sending the same picture."""
    ENDED = "ended"
    """The stream is over; the last item of every stream that was not closed."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An event of the stream itself, at its place among the frames."""

    kind: NoticeKind
    source: str
    pts_s: float
    """Media time of the last frame before it, 0.0 if there was none."""
    reason: str
    """One sentence for a person, credentials redacted."""
    count: int = 0
    """Number of frames, attempts or repetitions that it concerns; 0 if it counts nothing."""
    details: dict[str, float | int | str | bool] = field(default_factory=dict)
    """Further values by name, such as `gap_s`, for programs."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Facts about a source that is open."""

    name: str
    """The source's display name, credentials redacted."""
    is_live: bool
    width_px: int
    """Width of the upright picture; 0 if not known yet."""
    height_px: int
    """Height of the upright picture; 0 if not known yet."""
    fps_declared: float | None
    """From the container's header; often wrong for cameras."""
    duration_s_declared: float | None
    """From the container's header; None for live sources, and if the header has none."""
    codec: str
    unwatched: tuple[str, ...] = ()
    """Descriptions of the container's other video tracks; only one track is watched."""
