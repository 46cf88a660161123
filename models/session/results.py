"""The return types of a session's methods. Frozen; any thread may hold them."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.eviction import Eviction, WindowSettings
from streaming.difffp.live import CellGrid, Kind, Pruning


@dataclass(frozen=True, slots=True)
class Sight:
    """The result of showing one frame to a session."""

    appended: bool
    kind: Kind
    pruning: Pruning
    grid: CellGrid
    time_s: float
    """Media time since the session's first frame."""
    shown_time_s: float
    """The time shown to the model, or that would have been shown."""
    score: float | None
    """s = logit(im_start) − logit(stream_start) after the frame; `None` where the frame was not appended."""
    log_p_assistant: float | None
    """log P("assistant" | im_start), where it was measured."""
    num_tokens: int
    evictions: tuple[Eviction, ...]
    """All evictions since the last frame, those caused by text included."""
    rebased: bool
    """Whether the shown time was rebased since the last frame that was reported."""
    grid_changed: bool
    """Whether the grid changed; the first frame's grid is no change."""
    widened: WindowSettings | None = None
    """The new windows, where they were widened to fit this frame's grid."""
    timings: dict[str, float] = field(default_factory=dict)
    """Milliseconds: `prune` (resize, patches, decision), `encode`, `prefill` (forward passes), and `total`, which
    includes waiting for other sessions."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a yes/no question on a fork."""

    yes: bool
    log_odds: float
    """log P(yes) − log P(no), natural logarithm."""


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """How full a session's cache is, in tokens unless the name says otherwise."""

    num_tokens: int
    capacity: int
    """Most tokens that the windows hold, without pinned text."""
    pinned: int
    vision: int
    text: int
    num_evictions: int
    num_rebases: int
    cache_bytes: int
