"""A channel's configuration, and the snapshot of its state. Frozen; any thread may hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from assistant.config.bounds import FPS, OPEN_TIMEOUT_S, PICTURE_TIMEOUT_S, READ_TIMEOUT_S, TALKATIVE
from assistant.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from assistant.events import StreamEvent
    from assistant.rules.rule import Rule
    from assistant.stream.question_queue import Question
    from models.session.frame_encoder import PruningMode
    from streaming.masks import MaskRegion


class ChannelState(StrEnum):
    """The state of a stream, in one word."""

    OPENING = "opening"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    STALE = "stale"
    FROZEN = "frozen"
    REPLAY = "replay"
    PAUSED = "paused"
    ENDED = "ended"
    FAILED = "failed"


Health = Literal["ok", "degraded", "down"]


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """One stream and how it is watched."""

    name: str
    """What people call it; events carry it in place of the address."""
    spec: str = field(repr=False)
    """As `open_source` takes it, `sample:NAME`, or `push:NAME` for frames that `Channel.push` is given."""
    fps: float | None = None
    """Frames a second for the model; None for what the checkpoint asks for."""
    speed: float | None = 1.0
    """Recordings: media seconds a second; None for as fast as they are used."""
    start_s: float = 0.0
    end_s: float | None = None
    loop: int | None = 1
    """Recordings: how many times to play; None for ever. After a seek it plays to its end once."""
    masks: tuple[MaskRegion, ...] = ()
    zones: tuple[tuple[str, MaskRegion], ...] = ()
    """Where something must change for a remark, with their names; everywhere where there are none."""
    rules: tuple[Rule, ...] = ()
    """What it is watched for, besides what the assistant says by itself."""
    talkative: float = 0.0
    instruct: str | None = None
    questions: tuple[Question, ...] = ()
    """Asked at their media times."""
    keep_trying: bool = False
    """Live sources: whether to try to connect without end, at the start and after each loss."""
    frozen_after_s: float | None = None
    open_timeout_s: float = OPEN_TIMEOUT_S
    read_timeout_s: float = READ_TIMEOUT_S
    picture_timeout_s: float = PICTURE_TIMEOUT_S
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    view_fps: float = 30.0
    """Most pictures a second for viewers."""
    pruning: PruningMode = "live"
    system: str | None = None
    """The system turn; None for the checkpoint's own."""
    stream: dict[str, Any] = field(default_factory=dict)
    """Overrides of the checkpoint's `stream_config.json`."""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError(f"channel name {self.name!r}: it is empty; give it a name, as door")
        if self.fps is not None:
            FPS.check(self.fps, f"{self.name}: fps")
        TALKATIVE.check(self.talkative, f"{self.name}: talkative")


@dataclass(frozen=True, slots=True)
class FrameDelays:
    """Where the time of the last frame went, milliseconds."""

    capture: float = 0.0
    """From the decoder until masks and viewers are done with it."""
    queue: float = 0.0
    """From then until the engine took it."""
    vision: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    """Of the last turn that was said, from its start to its end."""


@dataclass(frozen=True, slots=True)
class CacheUse:
    """The session's memory, in tokens."""

    pinned: int = 0
    text: int = 0
    vision: int = 0
    capacity: int = 0
    """Most tokens that the windows hold, pinned text aside."""
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The source of a channel, and how it is played."""

    name: str
    """Its display name, redacted."""
    is_live: bool | None
    """None before it was opened."""
    duration_s: float | None
    """Recordings: their length by the header."""
    width_px: int
    height_px: int
    is_paused: bool
    speed: float | None
    """Recordings: media seconds a second; None for as fast as they are used."""
    num_reconnects: int
    num_viewers: int


@dataclass(frozen=True, slots=True)
class FrameRates:
    """Frames a second."""

    fps_in: float
    """Pictures a second that the source gives, measured over ten seconds."""
    fps_wanted: float
    """For the model, as asked for."""
    fps_used: float
    """Frames a second that the model has seen, measured over ten seconds."""
    factor: float
    """Share of `fps_wanted` that overload leaves."""


@dataclass(frozen=True, slots=True)
class StreamCounts:
    """Counts since the channel was started."""

    num_read: int
    num_sampled: int
    num_used: int
    num_empty: int
    num_dropped: int
    num_damaged: int
    num_comments: int
    num_answers: int
    num_waiting: int
    """Questions that wait for their turn."""
    num_faults: int
    """Steps of the model that went wrong."""
    num_unstored: int
    """Events that a sink did not take."""
    num_listener_faults: int
    """Times that a subscriber or a viewer raised; no fault of the model."""
    num_decisions: int
    """Frames that were decided about: `decisions(since)` counts so."""
    num_events: int
    """Events so far: `events(since)` counts so."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """The session's memory, and what pruning saves of it."""

    cache: CacheUse
    evictions: int
    rebases: int
    tokens_per_frame: float
    """Visual tokens a sampled frame, on average."""
    tokens_unpruned: int
    """Visual tokens that each would have without pruning."""


@dataclass(frozen=True, slots=True)
class SeenCells:
    """The grid of the last frame that the model saw; no rows and columns before there was one."""

    rows: int
    cols: int
    kept: np.ndarray | None
    """Bool `[rows * cols]`: cells that became tokens."""
    refreshed: np.ndarray | None
    """Bool `[rows * cols]`: those of them that had not changed."""


@dataclass(frozen=True, slots=True)
class ChannelSnapshot:
    """One moment of a channel."""

    name: str
    state: ChannelState
    state_reason: str
    health: Health
    newest_seen_age_s: float | None
    """How long ago the newest frame that the model has seen was captured; None where it has seen none."""
    media_s: float
    """Media time of that frame."""
    talkative: float
    instruct: str | None
    source: SourceFacts
    rates: FrameRates
    counts: StreamCounts
    memory: MemoryUse
    view: SeenCells
    delays_ms: FrameDelays
    last_comment: StreamEvent | None
