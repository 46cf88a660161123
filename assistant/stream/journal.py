"""What happened on one stream: counts it, and publishes what people should know of it as status events.

For the engine's thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from assistant.events import Detail, StatusEvent, StatusKind, StreamEvent
from assistant.stream.mask_proposals import propose_masks
from assistant.stream.stats import StreamStats
from streaming.types import Frame, Notice, NoticeKind

if TYPE_CHECKING:
    import numpy as np

    from assistant.stream.spoken_turns import SpokenTurn
    from models.eviction import Eviction
    from models.session.results import Sight
    from streaming.clock import Clock

MASKS_AFTER_S = 60.0
"""How long to watch before a mask is proposed: shorter, and whatever moves looks as lasting as a clock."""
MASKS_EVERY = 32
"""Sampled frames between two looks at what might be masked."""


class StreamJournal:
    """The figures and status events of one stream, and the last frame that was seen."""

    def __init__(self, clock: Clock, emit: Callable[[StreamEvent], None], pace: float) -> None:
        """`pace`: seconds of media a second while nothing is read: 1 for live sources, 0 where media time waits."""
        self.emit = emit
        self.pace = pace
        self.stats = StreamStats()
        self.frame: Frame | None = None
        """The last frame that was seen."""
        self.seen_at_s = -math.inf
        """Our clock when that frame was taken, or a little before it was seen."""
        self._clock = clock
        self._grid_told = False
        self._masks_told = False

    def note_notice(self, notice: Notice) -> None:
        """Count what a notice of the source tells, and publish it."""
        if notice.kind is NoticeKind.DROPPED:
            self.stats.dropped += notice.count
        elif notice.kind is NoticeKind.DAMAGED:
            self.stats.damaged += notice.count
        elif notice.kind is NoticeKind.GRID_CHANGED:
            self._grid_told, self._masks_told = True, False
        details: dict[str, Detail] = {"count": notice.count, **notice.details} if notice.count else dict(notice.details)
        kind = StatusKind(notice.kind.value)
        self.say_status(kind, notice.reason, time_s=notice.pts_s, source=notice.source, details=details)

    def begin_anew(self) -> None:
        """The model's session is a fresh one: masks may be proposed again."""
        self._masks_told = False

    def media_now_s(self) -> float:
        """Media time now: that of the last frame, and on live sources the time passed since."""
        assert self.frame is not None
        if not self.pace:
            return self.frame.pts_s
        return self.frame.pts_s + self.pace * max(0.0, self._clock.now_s() - self.frame.captured_at_s)

    def note_frame(self, frame: Frame, sight: Sight) -> None:
        """Count a frame that was seen, and publish what happened to the memory."""
        stats, pruning = self.stats, sight.pruning
        stats.read = max(stats.read, frame.index + 1)
        stats.sampled += 1
        stats.used += sight.appended
        stats.first_s = frame.pts_s if stats.first_s is None else stats.first_s
        stats.last_s = frame.pts_s
        stats.cells += len(pruning.changed)
        stats.cells_changed += int(pruning.changed.sum())
        stats.cells_refreshed += int(pruning.refreshed.sum())
        if sight.grid_changed and not self._grid_told:
            size = f"{sight.grid.cols} x {sight.grid.rows}"
            self.say_status(StatusKind.GRID_CHANGED, f"the picture is now {size} cells; its next frame was kept whole")
        self._grid_told = False
        if sight.widened is not None:
            tokens = sight.widened.vision_low
            reason = f"the vision window was widened to {tokens} tokens: this grid at this rate fills it within 16 s"
            self.say_status(StatusKind.WIDENED, reason, details={"vision_low": tokens})
        self.note_evictions(sight.evictions)
        if sight.rebased:
            stats.rebases += 1
            self.say_status(StatusKind.REBASED, "the time shown to the model was set back into its trained range")

    def note_evictions(self, evictions: Iterable[Eviction]) -> None:
        """Count and publish what left the memory."""
        for eviction in evictions:
            self.stats.evictions += 1
            self.say_status(
                StatusKind.EVICTED,
                eviction.reason,
                details={"tokens": eviction.num_evicted, "frames": eviction.num_frames, "turns": eviction.num_turns},
            )

    def propose_masks(self, hot_cells: Callable[[], np.ndarray], sight: Sight) -> None:
        """Propose masks, once, for cells that change in nearly every frame: those that `hot_cells` returns."""
        watched_s = self.stats.last_s - (self.stats.first_s or 0.0)
        if self._masks_told or watched_s < MASKS_AFTER_S or self.stats.sampled % MASKS_EVERY:
            return
        masks = propose_masks(hot_cells(), sight.grid.rows, sight.grid.cols)
        if masks:
            self._masks_told = True
            options = " ".join(f"--mask {mask}" for mask in masks)
            self.say_status(
                StatusKind.MASK_PROPOSED,
                f"a part of the picture changes in nearly every frame; if nothing is to be seen there: {options}",
                details={"masks": ";".join(masks)},
            )

    def note_utterance(self, said: SpokenTurn, what: str) -> None:
        """Publish that a turn reached its longest length. what: a remark or an answer."""
        if said.utterance is None:
            return
        if said.utterance.truncated:
            tokens = len(said.utterance.token_ids)
            reason = f"{what} reached its longest length, {tokens} tokens, and was closed"
            self.say_status(StatusKind.TRUNCATED, reason, details={"tokens": tokens})

    def say_status(
        self,
        kind: StatusKind,
        reason: str,
        *,
        time_s: float | None = None,
        source: str | None = None,
        details: dict[str, Detail] | None = None,
    ) -> None:
        """Publish a status event, by default at the last frame."""
        frame = self.frame
        self.emit(
            StatusEvent(
                source=source if source is not None else frame.source if frame else "",
                time_s=time_s if time_s is not None else frame.pts_s if frame else 0.0,
                text=reason,
                reason=reason,
                frame_index=frame.index if frame else None,
                kind=kind,
                details=details or {},
            )
        )
