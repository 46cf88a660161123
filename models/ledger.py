"""The ledger of a session's cache: which unit each token belongs to, and the counts that eviction goes by.

Pure bookkeeping without torch, owned by whoever owns the cache. A session and the training data use the same ledger.
`models.eviction` chooses which units leave.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.eviction import (
    Departure,
    Eviction,
    WindowSettings,
    choose_before,
    choose_over_watermark,
    take_out,
)
from models.spans import Span, SpanKind


@dataclass(slots=True)
class Ledger:
    """Units in cache order, with the token counts that eviction and refresh are timed by.

    The counts are kept up to date with each appended unit, so that a frame costs the same however many units there are;
    all units are visited only where some leave. Units that are in the ledger change through its methods alone.
    """

    window: WindowSettings
    spans: list[Span] = field(default_factory=list)
    num_appended: int = 0
    """Tokens appended since the session began, text included; never decreases."""
    view: int = 0
    """Number of the current grid; frames of earlier grids cover none of its cells."""
    headroom: int = 0
    """Vision tokens that an eviction leaves room for below the high watermark; it may come early for that."""
    _counts: Counter[str] = field(init=False)
    """Tokens that are `pinned`, `vision` and `text`."""
    _num_seen: int = field(init=False)
    """Tokens of the units with visual tokens: what the vision window is compared with."""
    _covering: np.ndarray | None = field(init=False)
    """int `[num_cells]`: visual tokens of each cell of the current grid; `None` where it must be counted again."""
    _settled_for: WindowSettings | None = field(init=False)
    """The windows that fitted when all units were last visited; `None` once anything but a frame with visual tokens
    came since, or something left."""

    def __post_init__(self) -> None:
        self._recount()

    def __len__(self) -> int:
        return self._counts.total()

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def append(self, span: Span) -> None:
        """Add a unit whose tokens were just appended to the cache."""
        if span.kind is SpanKind.FRAME:
            span.view = self.view
        self.spans.append(span)
        self.num_appended += len(span)
        self._count(span)
        if span.kind is not SpanKind.FRAME or not span.is_seen_frame:
            self._settled_for = None

    def tokens_by_kind(self) -> Counter[str]:
        """Number of tokens in the cache that are `pinned`, `vision` and `text`."""
        return self._counts.copy()

    @property
    def seen_s(self) -> float:
        """Media time from the oldest unit with visual tokens to the newest, in seconds."""
        oldest = next((span for span in self.spans if span.is_seen_frame), None)
        newest = next((span for span in reversed(self.spans) if span.is_seen_frame), None)
        if oldest is None or newest is None:
            return 0.0
        return (newest.time_s or 0.0) - (oldest.time_s or 0.0)

    def begin_view(self) -> None:
        """Start a new grid: earlier units stay in memory but cover no cell of the new grid."""
        self.view += 1
        self._covering = None

    def cells_in_view(self, num_cells: int, since_s: float = -math.inf) -> np.ndarray:
        """Bool `[num_cells]`: cells of the current grid with a visual token of a frame at `since_s` or later."""
        if since_s == -math.inf:
            return self._tokens_a_cell(num_cells) > 0
        covered = np.zeros(num_cells, dtype=bool)
        for span in reversed(self.spans):
            if span.kind is SpanKind.FRAME and (span.time_s or 0.0) < since_s:
                break  # frames stand in the order of their times
            if span.cells is not None and span.view == self.view:
                covered[span.cells] = True
        return covered

    def at_risk(self, num_cells: int, num_coming: int) -> np.ndarray:
        """Bool `[num_cells]`: cells that lose their last token once `num_coming` more vision tokens are appended."""
        num_left = self._num_seen + num_coming
        if num_left + self.headroom <= self.window.vision_high:
            return np.zeros(num_cells, dtype=bool)
        covering = self._tokens_a_cell(num_cells).copy()
        for span in self.spans:
            if num_left <= self.window.vision_low:
                break
            if span.is_seen_frame:
                num_left -= len(span)
                if span.view == self.view:
                    covering[span.cells] -= 1
        uncovered: np.ndarray = covering == 0
        return uncovered

    def evict(self) -> Eviction | None:
        """Remove the oldest units of a window over its high watermark, down to its low one; `None` where both fit.

        `models.eviction.choose_over_watermark` says which units leave.
        """
        if self._settled_for == self.window and self._num_seen + self.headroom <= self.window.vision_high:
            return None
        eviction = self._take_out(self._over_watermark())
        if eviction is None:
            self._settled_for = self.window
        return eviction

    def evict_before(self, time_s: float, reason: str) -> Eviction | None:
        """Remove every unpinned unit with a time before `time_s`; `None` where there is none."""
        return self._take_out(choose_before(self.spans, time_s, reason))

    def remove(self, spans: Sequence[Span], reason: str) -> Eviction | None:
        """Remove the given units, such as a replaced standing instruction; `None` where none is given."""
        gone = {id(span) for span in spans}
        return self._take_out(Departure(set(), gone, 0, len(gone), reason) if gone else None)

    def retract(self, spans: Sequence[Span]) -> bool:
        """Remove the given units if they are the newest ones, in this order; returns whether they were."""
        first = len(self.spans) - len(spans)
        if not spans or [id(span) for span in self.spans[first:]] != [id(span) for span in spans]:
            return False
        del self.spans[first:]
        self._recount()
        return True

    def rewrite_heads(self, heads: Iterable[tuple[Span, Sequence[int]]]) -> None:
        """Replace the token ids before the visual tokens of frames, whose shown time changes."""
        for span, head in heads:
            headed = span.with_head(head)
            span.ids, span.first_image = headed.ids, headed.first_image
        self._recount()

    def _over_watermark(self) -> Departure | None:
        low, high = self.window.vision_low, self.window.vision_high
        if not self.headroom or self._num_seen > high:
            return choose_over_watermark(self.spans, self.window)
        lowered = replace(self.window, vision_high=max(low + 1, high - self.headroom))
        departure = choose_over_watermark(self.spans, lowered)
        if departure is None or not departure.num_frames:
            return departure
        return replace(departure, reason="vision window too full for the frames before the time is rebased")

    def _take_out(self, departure: Departure | None) -> Eviction | None:
        if departure is None:
            return None
        self.spans, eviction = take_out(self.spans, departure)
        self._recount()
        return eviction

    def _recount(self) -> None:
        self._counts = Counter(pinned=0, vision=0, text=0)
        self._num_seen = 0
        self._covering = self._settled_for = None
        for span in self.spans:
            self._count(span)

    def _count(self, span: Span) -> None:
        num_tokens, is_seen = len(span), span.is_seen_frame
        self._counts["pinned" if span.pinned else "vision" if is_seen else "text"] += num_tokens
        self._num_seen += num_tokens if is_seen else 0
        if self._covering is not None:
            self._cover(self._covering, span)

    def _cover(self, covering: np.ndarray, span: Span) -> None:
        if span.cells is not None and span.view == self.view:
            covering[span.cells] += 1

    def _tokens_a_cell(self, num_cells: int) -> np.ndarray:
        """int `[num_cells]`: visual tokens of each cell of the current grid."""
        if self._covering is None or len(self._covering) != num_cells:
            self._covering = np.zeros(num_cells, dtype=np.int64)
            for span in self.spans:
                self._cover(self._covering, span)
        return self._covering
