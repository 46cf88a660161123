"""The data that flows out of a source: frames, and notices about the stream itself. Any thread may hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture with the times that belong to it."""

    image: np.ndarray
    """RGB, uint8, `[height, width, 3]`, upright (rotation metadata applied). Readers never write to it."""
    index: int
    """How many frames the source decoded before this one, since it was opened."""
    pts_s: float
    """Media time in seconds, from the container's timestamps (for a live source: since its first frame)."""
    captured_at_s: float
    """Our clock (`Clock.now_s`) when the frame left the decoder."""
    source: str
    """The source's display name; credentials are already redacted."""
    is_repeated: bool = False
    """Whether it is the picture of the frame before, which still stands: the same array."""
    on_grid: np.ndarray | None = None
    """The picture scaled to the model's grid, where the capture thread has done that already; uint8 RGB."""
    thumbnail: np.ndarray | None = None
    """The picture scaled down for keeping, where the capture thread has done that already; uint8 RGB."""


class NoticeKind(StrEnum):
    """What can happen to a stream besides a frame."""

    OPENED = "opened"
    GAP = "gap"
    DROPPED = "dropped"
    DAMAGED = "damaged"
    GRID_CHANGED = "grid_changed"
    SLOWED = "slowed"
    LOOPED = "looped"
    RECONNECTING = "reconnecting"
    FROZEN = "frozen"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to the stream, in its order among the frames."""

    kind: NoticeKind
    source: str
    pts_s: float
    """Media time of the last frame before it, 0.0 where there was none."""
    reason: str
    """One sentence for a person, credentials redacted."""
    count: int = 0
    """How many frames it concerns, where that makes sense."""
    details: dict[str, float | int | str | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source once it is open."""

    name: str
    is_live: bool
    width_px: int
    height_px: int
    fps_declared: float | None
    """From the container's header; often wrong for cameras."""
    duration_s_declared: float | None
    """From the container's header; None for live sources and where the header does not say."""
    codec: str
    unwatched: tuple[str, ...] = ()
    """Further picture tracks of the container, in words: one is watched."""
