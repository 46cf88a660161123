"""The ledger of a session's cache: which unit each token belongs to, and the counts that eviction goes by.

Pure bookkeeping without torch, owned by whoever owns the cache. A session and the training data use the same ledger.
`models.eviction` chooses which units leave.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.eviction import (
    Departure,
    Eviction,
    WindowSettings,
    choose_before,
    choose_over_watermark,
    num_frames_leaving,
    take_out,
)
from models.spans import Span, SpanKind


@dataclass(slots=True)
class Ledger:
    """Units in cache order, with the token counts that eviction and refresh are timed by."""

    window: WindowSettings
    spans: list[Span] = field(default_factory=list)
    num_appended: int = 0
    """Tokens appended since the session began, text included; never decreases."""
    view: int = 0
    """Number of the current grid; frames of earlier grids cover none of its cells."""

    def __len__(self) -> int:
        return sum(len(span) for span in self.spans)

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def append(self, span: Span) -> None:
        """Add a unit whose tokens were just appended to the cache."""
        if span.kind is SpanKind.FRAME:
            span.view = self.view
        self.spans.append(span)
        self.num_appended += len(span)

    def tokens_by_kind(self) -> Counter[str]:
        """Number of tokens in the cache that are `pinned`, `vision` and `text`."""
        counts: Counter[str] = Counter(pinned=0, vision=0, text=0)
        for span in self.spans:
            counts["pinned" if span.pinned else "vision" if span.is_seen_frame else "text"] += len(span)
        return counts

    def begin_view(self) -> None:
        """Start a new grid: earlier units stay in memory but cover no cell of the new grid."""
        self.view += 1

    def cells_in_view(self, num_cells: int, since_s: float = -math.inf) -> np.ndarray:
        """Bool `[num_cells]`: cells of the current grid with a visual token of a frame at `since_s` or later."""
        return self._covered((span for span in self.spans if (span.time_s or 0.0) >= since_s), num_cells)

    def _covered(self, spans: Iterable[Span], num_cells: int) -> np.ndarray:
        covered = np.zeros(num_cells, dtype=bool)
        for span in spans:
            if span.cells is not None and span.view == self.view:
                covered[span.cells] = True
        return covered

    def at_risk(self, num_cells: int, num_coming: int) -> np.ndarray:
        """Bool `[num_cells]`: cells that lose their last token once `num_coming` more vision tokens are appended."""
        frames = [span for span in self.spans if span.is_seen_frame]
        leaving = num_frames_leaving(frames, num_coming, self.window)
        if not leaving:
            return np.zeros(num_cells, dtype=bool)
        return ~self._covered(frames[leaving:], num_cells)

    def evict(self) -> Eviction | None:
        """Remove the oldest units of a window over its high watermark, down to its low one; `None` where both fit.

        `models.eviction.choose_over_watermark` says which units leave.
        """
        return self._take_out(choose_over_watermark(self.spans, self.window))

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
        return True

    def _take_out(self, departure: Departure | None) -> Eviction | None:
        if departure is None:
            return None
        self.spans, eviction = take_out(self.spans, departure)
        return eviction
