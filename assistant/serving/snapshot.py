"""What a channel shows of itself. The engine's thread draws it, any thread may take it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.events import Comment, StreamEvent
from assistant.serving.channel_types import CacheUse, ChannelConfig, ChannelSnapshot, ChannelState, FrameDelays, Health
from assistant.serving.scheduler import ModelState
from assistant.stream.stats import StreamStats
from streaming.clock import Clock
from streaming.tap import rate_per_s

if TYPE_CHECKING:
    from assistant.serving.player import Player
    from assistant.serving.worker import StreamWorker
    from assistant.stream.stream_session import ModelSession
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


class SnapshotBuilder:
    """Facts about one channel as they come."""

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
        """There is a session of the model to look at."""
        self._session = session

    def detach_session(self) -> None:
        """There is none any more."""
        self._session = None

    def on_frame(self, frame: Frame, sight: Sight, *, queue_ms: float) -> None:
        """The model has seen a frame that waited so long."""
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
        """Something was said."""
        if isinstance(event, Comment):
            self._last_comment = event

    def take_counts(self, num_dropped: int) -> tuple[int, int]:
        """Frames seen and dropped since the last call."""
        told, self._told = self._told, (self._num_seen, num_dropped)
        return self._num_seen - told[0], max(0, num_dropped - told[1])

    def build(
        self,
        config: ChannelConfig,
        player: Player,
        watch: StreamWorker | None,
        *,
        host_state: ModelState,
        failure: BaseException | None,
        has_left: bool,
        fps_wanted: float,
        factor: float,
        num_events: int,
        num_unstored: int,
        num_listener_faults: int,
    ) -> ChannelSnapshot:
        """The portrait as it is now."""
        seen, info, now_s = self._seen, player.info, self._clock.now_s()
        stats = watch.stream.stats if watch is not None else StreamStats()
        age_s = now_s - seen.frame.captured_at_s if seen is not None else None
        state, reason = self._state(player, watch, host_state, failure, has_left, age_s, fps_wanted * factor)
        width_px, height_px = player.size_px
        timings = seen.sight.timings if seen is not None else {}
        return ChannelSnapshot(
            name=config.name,
            source=player.name,
            is_live=player.is_live,
            state=state,
            state_reason=reason,
            health=_health(state, factor, watch),
            newest_seen_age_s=age_s,
            media_s=self.media_s,
            duration_s=info.duration_s_declared if info is not None else None,
            width_px=width_px,
            height_px=height_px,
            is_paused=player.is_paused,
            speed=player.playback.speed,
            talkative=config.talkative,
            instruct=config.instruct,
            fps_in=player.fps_in(),
            fps_wanted=fps_wanted,
            fps_used=rate_per_s(list(self._seen_at_s), now_s),
            rate_factor=factor,
            num_read=player.num_read,
            num_sampled=stats.sampled,
            num_used=stats.used,
            num_empty=stats.sampled - stats.used,
            num_dropped=player.num_dropped,
            num_damaged=stats.damaged,
            num_comments=stats.comments,
            num_answers=stats.answers,
            num_waiting=watch.stream.num_waiting if watch is not None else 0,
            num_faults=watch.num_faults if watch is not None else 0,
            num_reconnects=player.state.num_reconnects,
            num_viewers=len(player.viewers),
            num_unstored=num_unstored,
            num_listener_faults=num_listener_faults,
            evictions=seen.evictions if seen is not None else 0,
            rebases=seen.rebases if seen is not None else 0,
            tokens_per_frame=self._num_kept / max(1, self._num_seen),
            tokens_unpruned=seen.sight.grid.num_cells if seen is not None else 0,
            delays_ms=FrameDelays(
                capture=player.hand_over_ms,
                queue=seen.queue_ms if seen is not None else 0.0,
                vision=timings.get("prune", 0.0) + timings.get("encode", 0.0),
                prefill=timings.get("prefill", 0.0),
                decode=stats.said_ms,
            ),
            cache=seen.cache if seen is not None else CacheUse(),
            rows=seen.sight.grid.rows if seen is not None else 0,
            cols=seen.sight.grid.cols if seen is not None else 0,
            kept=seen.sight.pruning.keep if seen is not None and seen.sight.appended else None,
            refreshed=seen.sight.pruning.refreshed if seen is not None and seen.sight.appended else None,
            last_comment=self._last_comment,
            num_decisions=watch.stream.curve.num_added if watch is not None else 0,
            num_events=num_events,
        )

    def _state(
        self,
        player: Player,
        watch: StreamWorker | None,
        host_state: ModelState,
        failure: BaseException | None,
        has_left: bool,
        age_s: float | None,
        fps: float,
    ) -> tuple[ChannelState, str]:
        """The state in one word, and why, the gravest first."""
        if failure is not None:
            return ChannelState.FAILED, str(failure)
        if has_left:
            return ChannelState.ENDED, "it was stopped"
        if watch is not None and watch.has_drained:
            return ChannelState.ENDED, "it came to its end"
        if player.is_paused:
            return ChannelState.PAUSED, "paused"
        state, reason = player.state.state, player.state.reason
        if state in (ChannelState.OPENING, ChannelState.RECONNECTING, ChannelState.FROZEN):
            return state, reason
        if host_state is ModelState.STALLED:
            return ChannelState.STALE, "a step of the model hangs"
        if age_s is None:
            waits_for = "the model is being loaded" if host_state is ModelState.LOADING else "no frame was seen yet"
            return ChannelState.OPENING, waits_for
        if state is ChannelState.LIVE and age_s > max(STALE_S, 3 / max(fps, 0.01)):
            return ChannelState.STALE, f"the newest frame that was seen is {age_s:.0f} s old"
        return state, reason


def _health(state: ChannelState, factor: float, watch: StreamWorker | None) -> Health:
    if state in (ChannelState.FAILED, ChannelState.RECONNECTING, ChannelState.STALE, ChannelState.FROZEN):
        return "down"
    if factor < 1 or state is ChannelState.OPENING or (watch is not None and watch.is_faulty):
        return "degraded"
    return "ok"
