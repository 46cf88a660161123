"""What a session's methods give back. Frozen; any thread may hold it."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.eviction import Eviction, WindowSettings
from streaming.difffp.live import CellGrid, Kind, Pruning


@dataclass(frozen=True, slots=True)
class Sight:
    """What became of one frame."""

    appended: bool
    kind: Kind
    pruning: Pruning
    grid: CellGrid
    time_s: float
    """Media time since the session's first frame."""
    shown_time_s: float
    """The time the model was shown, or would have been."""
    score: float | None
    """s = logit(im_start) − logit(stream_start) after the frame; `None` where it was not appended."""
    log_p_assistant: float | None
    """log P("assistant" | im_start), where it was measured."""
    num_tokens: int
    evictions: tuple[Eviction, ...]
    """All since the last frame, those that text made too."""
    rebased: bool
    """Whether the shown time was moved since the last frame that was told."""
    grid_changed: bool
    """The first frame's grid is not a change."""
    widened: WindowSettings | None = None
    """The windows, where they were widened to fit this frame's grid."""
    timings: dict[str, float] = field(default_factory=dict)
    """Milliseconds: `prune` (resize, patches, decision), `encode`, `prefill` (forward passes), and `total`, which
    waits for other sessions too."""


@dataclass(frozen=True, slots=True)
class Check:
    """The answer to a yes/no question that left no trace."""

    yes: bool
    log_odds: float
    """log P(yes) − log P(no), natural."""


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """How full a session is, in tokens where nothing else is said."""

    num_tokens: int
    capacity: int
    """What the windows hold at most, pinned text aside."""
    pinned: int
    vision: int
    text: int
    num_evictions: int
    num_rebases: int
    cache_bytes: int
