"""Builds a channel's snapshot. The engine's thread feeds it, any thread may build."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.events import Comment, StreamEvent
from assistant.serving.channel_types import (
    CacheUse,
    ChannelConfig,
    ChannelSnapshot,
    ChannelState,
    FrameDelays,
    FrameRates,
    Health,
    MemoryUse,
    SeenCells,
    SourceFacts,
    StreamCounts,
)
from assistant.serving.contracts import ModelState
from assistant.stream.stats import StreamStats
from streaming.clock import Clock
from streaming.tap import rate_per_s

if TYPE_CHECKING:
    from assistant.serving.player import Player
    from assistant.serving.worker import StreamWorker
    from assistant.stream.model_session import ModelSession
    from models.session.results import Sight
    from streaming.types import Frame

STALE_S = 5.0
"""A live stream whose newest seen frame is older than this, and than three of its own frames, is stale."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last frame that the model saw, and what it cost."""

    frame: Frame
    sight: Sight
    queue_ms: float
    cache: CacheUse
    evictions: int
    rebases: int


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a snapshot tells of the model, the configuration and the listeners."""

    model_state: ModelState
    failure: BaseException | None
    """The error that ended the channel for good."""
    has_left: bool
    """Whether the scheduler serves it no more."""
    fps_wanted: float
    factor: float
    """Share of `fps_wanted` that overload leaves."""
    num_events: int
    num_unstored: int
    num_listener_faults: int


class SnapshotBuilder:
    """Keeps what the model saw last of one channel."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._session: ModelSession | None = None
        self._seen: _Seen | None = None
        self._seen_at_s: deque[float] = deque(maxlen=512)
        self._num_kept = 0
        self._num_seen = 0
        self._last_comment: StreamEvent | None = None
        self._told = (0, 0)

    @property
    def media_s(self) -> float:
        """Media time of the last frame seen."""
        return self._seen.frame.pts_s if self._seen is not None else 0.0

    def attach_session(self, session: ModelSession) -> None:
        """Read the memory of this session of the model from now on."""
        self._session = session

    def detach_session(self) -> None:
        """Let go of the session."""
        self._session = None

    def on_frame(self, frame: Frame, sight: Sight, *, queue_ms: float) -> None:
        """Note a frame that the model has seen after it waited so long."""
        self._num_seen += 1
        self._num_kept += int(sight.pruning.keep.sum()) if sight.appended else 0
        self._seen_at_s.append(self._clock.now_s())
        usage = getattr(self._session, "usage", None)
        cache, evictions, rebases = CacheUse(), 0, 0
        if usage is not None:
            cache = CacheUse(usage.pinned, usage.text, usage.vision, usage.capacity, usage.cache_bytes)
            evictions, rebases = usage.num_evictions, usage.num_rebases
        self._seen = _Seen(frame, sight, queue_ms, cache, evictions, rebases)

    def on_event(self, event: StreamEvent) -> None:
        """Note an event."""
        if isinstance(event, Comment):
            self._last_comment = event

    def take_counts(self, num_dropped: int) -> tuple[int, int]:
        """Frames seen and dropped since the last call."""
        told, self._told = self._told, (self._num_seen, num_dropped)
        return self._num_seen - told[0], max(0, num_dropped - told[1])

    def build(
        self, config: ChannelConfig, player: Player, worker: StreamWorker | None, now: Circumstances
    ) -> ChannelSnapshot:
        """The snapshot of this moment. worker: None before there is a session."""
        seen = self._seen
        age_s = self._clock.now_s() - seen.frame.captured_at_s if seen is not None else None
        state, reason = self._state(player, worker, now, age_s)
        return ChannelSnapshot(
            name=config.name,
            state=state,
            state_reason=reason,
            health=_health(state, now.factor, worker),
            newest_seen_age_s=age_s,
            media_s=self.media_s,
            talkative=config.talkative,
            instruct=config.instruct,
            source=_source_facts(player),
            rates=FrameRates(
                fps_in=player.fps_in(),
                fps_wanted=now.fps_wanted,
                fps_used=rate_per_s(list(self._seen_at_s), self._clock.now_s()),
                factor=now.factor,
            ),
            counts=_counts(player, worker, now),
            memory=self._memory(),
            view=self._view(),
            delays_ms=self._delays(player, worker),
            last_comment=self._last_comment,
        )

    def _memory(self) -> MemoryUse:
        seen = self._seen
        return MemoryUse(
            cache=seen.cache if seen is not None else CacheUse(),
            evictions=seen.evictions if seen is not None else 0,
            rebases=seen.rebases if seen is not None else 0,
            tokens_per_frame=self._num_kept / max(1, self._num_seen),
            tokens_unpruned=seen.sight.grid.num_cells if seen is not None else 0,
        )

    def _view(self) -> SeenCells:
        if self._seen is None:
            return SeenCells(0, 0, None, None)
        sight = self._seen.sight
        pruning = sight.pruning if sight.appended else None
        return SeenCells(
            rows=sight.grid.rows,
            cols=sight.grid.cols,
            kept=pruning.keep if pruning is not None else None,
            refreshed=pruning.refreshed if pruning is not None else None,
        )

    def _delays(self, player: Player, worker: StreamWorker | None) -> FrameDelays:
        seen = self._seen
        timings = seen.sight.timings if seen is not None else {}
        return FrameDelays(
            capture=player.hand_over_ms,
            queue=seen.queue_ms if seen is not None else 0.0,
            vision=timings.get("prune", 0.0) + timings.get("encode", 0.0),
            prefill=timings.get("prefill", 0.0),
            decode=worker.stream.stats.said_ms if worker is not None else 0.0,
        )

    def _state(
        self, player: Player, worker: StreamWorker | None, now: Circumstances, age_s: float | None
    ) -> tuple[ChannelState, str]:
        """The state in one word, and why, the gravest first."""
        if now.failure is not None:
            return ChannelState.FAILED, str(now.failure)
        if now.has_left:
            return ChannelState.ENDED, "it was stopped"
        if worker is not None and worker.has_drained:
            return ChannelState.ENDED, "it came to its end"
        if player.is_paused:
            return ChannelState.PAUSED, "paused"
        state, reason = player.state.state, player.state.reason
        if state in (ChannelState.OPENING, ChannelState.RECONNECTING, ChannelState.FROZEN):
            return state, reason
        if now.model_state is ModelState.STALLED:
            return ChannelState.STALE, "a step of the model hangs"
        if age_s is None:
            waits_for = (
                "the model is being loaded" if now.model_state is ModelState.LOADING else "no frame was seen yet"
            )
            return ChannelState.OPENING, waits_for
        if state is ChannelState.LIVE and age_s > max(STALE_S, 3 / max(now.fps_wanted * now.factor, 0.01)):
            return ChannelState.STALE, f"the newest frame that was seen is {age_s:.0f} s old"
        return state, reason


def _health(state: ChannelState, factor: float, worker: StreamWorker | None) -> Health:
    if state in (ChannelState.FAILED, ChannelState.RECONNECTING, ChannelState.STALE, ChannelState.FROZEN):
        return "down"
    if factor < 1 or state is ChannelState.OPENING or (worker is not None and worker.is_faulty):
        return "degraded"
    return "ok"


def _source_facts(player: Player) -> SourceFacts:
    info = player.info
    width_px, height_px = player.size_px
    return SourceFacts(
        name=player.name,
        is_live=player.is_live,
        duration_s=info.duration_s_declared if info is not None else None,
        width_px=width_px,
        height_px=height_px,
        is_paused=player.is_paused,
        speed=player.playback.speed,
        num_reconnects=player.state.num_reconnects,
        num_viewers=len(player.viewers),
    )


def _counts(player: Player, worker: StreamWorker | None, now: Circumstances) -> StreamCounts:
    stats = worker.stream.stats if worker is not None else StreamStats()
    return StreamCounts(
        num_read=player.num_read,
        num_sampled=stats.sampled,
        num_used=stats.used,
        num_empty=stats.sampled - stats.used,
        num_dropped=player.num_dropped,
        num_damaged=stats.damaged,
        num_comments=stats.comments,
        num_answers=stats.answers,
        num_waiting=worker.stream.num_waiting if worker is not None else 0,
        num_faults=worker.num_faults if worker is not None else 0,
        num_unstored=now.num_unstored,
        num_listener_faults=now.num_listener_faults,
        num_decisions=worker.stream.curve.num_added if worker is not None else 0,
        num_events=now.num_events,
    )
