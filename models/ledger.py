"""The ledger of what occupies a session's cache: which unit each token belongs to, and which units leave first.

Pure bookkeeping without torch, owned by whoever owns the cache. A session and the training data use this one ledger,
so that training sees the contexts that live eviction makes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from models.errors import SettingsError
from streaming.difffp.refresh import FRAME_OVERHEAD_TOKENS

TURN_MARKS = 64
"""Tokens of the marks round turns, and of a wrapper that stays with one."""
ATTACHED_WORDS = 2
"""How many turns' worth of words may come with attachments: the question, and the time of each picture."""


class SpanKind(StrEnum):
    """What a unit of the cache is."""

    SYSTEM = "system"
    INSTRUCTION = "instruction"
    FRAME = "frame"
    COMMENT = "comment"
    QUESTION = "question"
    ANSWER = "answer"
    ATTACHMENT = "attachment"
    GAP = "gap"
    TEXT = "text"


TURNS = frozenset(
    {SpanKind.COMMENT, SpanKind.QUESTION, SpanKind.ANSWER, SpanKind.ATTACHMENT, SpanKind.GAP, SpanKind.TEXT}
)


@dataclass(slots=True, eq=False)
class Span:
    """One unit: a frame with its wrapper, or one turn. Units leave the cache whole."""

    kind: SpanKind
    ids: list[int]
    """Token ids, the image token's id where a visual token stands."""
    time_s: float | None = None
    """Media time of a frame, or of the frame that a turn follows."""
    first_image: int = 0
    """Offset of the first visual token in `ids`."""
    cells: np.ndarray | None = None
    """int `[num_visual_tokens]`: the merged cell each visual token was made from, in order."""
    vision: object | None = None
    """What made the visual tokens: the session keeps their embeddings here, training its pictures."""
    frame_index: int | None = None
    pinned: bool = False
    image_offsets: np.ndarray | None = None
    """Offsets of the visual tokens in `ids` where they are not one run from `first_image`, as in attachments."""
    view: int = -1
    """Which of the session's views `cells` counts in: a change of grid begins a new one. −1: none of them."""

    @property
    def num_visual(self) -> int:
        """How many visual tokens it holds."""
        return 0 if self.cells is None else len(self.cells)

    @property
    def is_seen_frame(self) -> bool:
        """A frame, or a kept attachment, that still has its visual tokens."""
        return self.kind in (SpanKind.FRAME, SpanKind.ATTACHMENT) and self.num_visual > 0

    @property
    def visual_offsets(self) -> np.ndarray:
        """int `[num_visual]`: where in `ids` the visual tokens stand."""
        if self.image_offsets is not None and self.num_visual:
            return self.image_offsets
        return np.arange(self.first_image, self.first_image + self.num_visual)

    def drop_vision(self) -> None:
        """Take the visual tokens out; the text around them stays."""
        gone = set(self.visual_offsets.tolist())
        self.ids = [token for offset, token in enumerate(self.ids) if offset not in gone]
        self.cells, self.vision, self.image_offsets = None, None, None

    def __len__(self) -> int:
        return len(self.ids)


def frame_span(
    head: Sequence[int],
    keep: np.ndarray,
    tail: Sequence[int],
    image_id: int,
    *,
    time_s: float,
    vision: object | None = None,
    frame_index: int | None = None,
) -> Span:
    """A frame's unit: its wrapper's ids round one image id a kept cell. keep: bool `[num_cells]`."""
    cells = np.flatnonzero(keep)
    ids = [*head, *[image_id] * len(cells), *tail]
    return Span(SpanKind.FRAME, ids, time_s, first_image=len(head), cells=cells, vision=vision, frame_index=frame_index)


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How many tokens a session holds before it evicts, in two windows with a high and a low watermark each."""

    vision_low: int = 5120
    vision_high: int = 6144
    text_low: int = 1024
    text_high: int = 1536

    def __post_init__(self) -> None:
        for name in ("vision", "text"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if not 0 < low < high:
                raise SettingsError(
                    f"{name}_low {low} and {name}_high {high}: 0 < low < high; "
                    f"raise {name}_high, or lower {name}_low, by an eighth of the window or more"
                )

    @property
    def capacity(self) -> int:
        """Most tokens the two windows hold together, pinned text aside."""
        return self.vision_high + self.text_high


def window_tokens(window: WindowSettings, max_cells: int) -> int:
    """The most tokens that a session with these windows may ever hold, whatever it is shown, told and asked.

    Both windows at their high watermarks, or what was said last where that is longer; two pinned turns; and, before it
    is evicted or forgotten again, the largest of what can come at once: a frame, or a question of any kind.
    """
    turn = window.text_low
    said = max(window.text_high, 2 * turn) + TURN_MARKS
    attached = window.vision_low // 4 + ATTACHED_WORDS * turn
    coming = max(max_cells + FRAME_OVERHEAD_TOKENS, turn, attached) + turn + TURN_MARKS
    return 2 * turn + window.vision_high + said + coming


@dataclass(frozen=True, slots=True)
class Eviction:
    """What one eviction takes away: positions in the cache as they were before it."""

    keep: np.ndarray
    """int64 `[num_kept]`, ascending: positions that stay."""
    num_evicted: int
    num_frames: int
    """Frames that lost their visual tokens."""
    num_turns: int
    reason: str

    @property
    def num_unmoved(self) -> int:
        """How many positions at the beginning stay where they are."""
        moved = np.flatnonzero(self.keep != np.arange(len(self.keep)))
        return int(moved[0]) if len(moved) else len(self.keep)


@dataclass(slots=True)
class Ledger:
    """Units in cache order, with the running counts that eviction and refresh are clocked by."""

    window: WindowSettings
    spans: list[Span] = field(default_factory=list)
    num_appended: int = 0
    """Tokens ever appended, text included; never falls."""
    view: int = 0
    """The view that frames belong to now; cells of earlier ones cover nothing of it."""

    def __len__(self) -> int:
        return sum(len(span) for span in self.spans)

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def append(self, span: Span) -> None:
        """Enter a unit whose tokens were just appended to the cache."""
        if span.kind is SpanKind.FRAME:
            span.view = self.view
        self.spans.append(span)
        self.num_appended += len(span)

    def tokens_by_kind(self) -> Counter[str]:
        """Tokens in the cache as pinned, vision and text."""
        counts: Counter[str] = Counter(pinned=0, vision=0, text=0)
        for span in self.spans:
            counts["pinned" if span.pinned else "vision" if span.is_seen_frame else "text"] += len(span)
        return counts

    def begin_view(self) -> None:
        """The grid changed: memory stays, but what it holds covers no cell of the new view."""
        self.view += 1

    def cells_in_view(self, num_cells: int, since_s: float = -math.inf) -> np.ndarray:
        """Bool `[num_cells]`: cells of the view with a visual token in the cache, of a frame at `since_s` or later."""
        return self._covered((span for span in self.spans if (span.time_s or 0.0) >= since_s), num_cells)

    def _covered(self, spans: Iterable[Span], num_cells: int) -> np.ndarray:
        covered = np.zeros(num_cells, dtype=bool)
        for span in spans:
            if span.cells is not None and span.view == self.view:
                covered[span.cells] = True
        return covered

    def at_risk(self, num_cells: int, num_coming: int) -> np.ndarray:
        """Bool `[num_cells]`: cells whose every token would be evicted once `num_coming` vision tokens are appended."""
        frames = [span for span in self.spans if span.is_seen_frame]
        leaving = _oldest_over(frames, num_coming, self.window.vision_low, self.window.vision_high)
        if not leaving:
            return np.zeros(num_cells, dtype=bool)
        return ~self._covered(frames[leaving:], num_cells)

    def evict(self) -> Eviction | None:
        """Take out the oldest units of a window over its high watermark, down to its low one; `None` where both fit.

        Frames leave by the vision window, turns by the text window. A frame that a surviving turn follows keeps its
        wrapper, so that words stay next to the time they were said at. A question leaves with its answer. What was
        said last stays, however long it is.
        """
        excess = self._excess_attachments()
        frames = [span for span in self.spans if span.is_seen_frame and id(span) not in excess]
        num_frames = _oldest_over(frames, 0, self.window.vision_low, self.window.vision_high)
        blind = {id(span) for span in frames[:num_frames]} | excess
        groups = self._turn_groups(blind)
        sizes = [sum(self._text_size(span, blind) for span in group) for group in groups]
        num_groups = _oldest_over_sizes(sizes, self.window.text_low, self.window.text_high)
        num_groups = min(num_groups, max(0, len(groups) - 1))
        # A wrapper leaves as an orphan, not with the first of the turns that follow it.
        gone = {id(span) for group in groups[:num_groups] for span in group if span.kind in TURNS}
        num_turns = sum(span.kind in TURNS for group in groups[:num_groups] for span in group)
        gone |= self._orphans(blind, gone)
        if not blind and not gone:
            return None
        windows = [name for name, any_ in (("vision", num_frames), ("text", num_groups)) if any_]
        reasons = [f"{' and '.join(windows)} window over its high watermark"] if windows else []
        reasons += ["kept attachments over a quarter of the vision window"] if excess else []
        return self._apply(blind, gone, len(blind), num_turns, "; ".join(reasons))

    def evict_before(self, time_s: float, reason: str) -> Eviction | None:
        """Take out every unpinned unit whose time lies before `time_s`."""
        gone = {id(span) for span in self.spans if not span.pinned and span.time_s is not None and span.time_s < time_s}
        if not gone:
            return None
        num_frames = sum(span.is_seen_frame for span in self.spans if id(span) in gone)
        num_turns = sum(span.kind in TURNS for span in self.spans if id(span) in gone)
        return self._apply(set(), gone, num_frames, num_turns, reason)

    def remove(self, spans: Sequence[Span], reason: str) -> Eviction | None:
        """Take out given units, a replaced standing instruction for one."""
        gone = {id(span) for span in spans}
        if not gone:
            return None
        return self._apply(set(), gone, 0, len(gone), reason)

    def retract(self, spans: Sequence[Span]) -> bool:
        """Take given units off the end; whether they were there."""
        first = len(self.spans) - len(spans)
        if not spans or [id(span) for span in self.spans[first:]] != [id(span) for span in spans]:
            return False
        del self.spans[first:]
        return True

    def _excess_attachments(self) -> set[int]:
        """The oldest kept attachments, as far as they take more than a quarter of the vision window together."""
        kept = [span for span in self.spans if span.kind is SpanKind.ATTACHMENT and span.is_seen_frame]
        quarter = self.window.vision_low // 4
        excess = _oldest_over_sizes([span.num_visual for span in kept], quarter, quarter)
        return {id(span) for span in kept[:excess]}

    def _turn_groups(self, blind: set[int]) -> list[list[Span]]:
        """Unpinned turns, oldest first; a question with its answer; a turn with the bare wrapper it follows.

        An attachment that still has its pictures stays, and its answer with it, until the vision window takes those.
        """
        groups: list[list[Span]] = []
        wrapper: Span | None = None
        held = False
        for span in self.spans:
            seen = span.is_seen_frame and id(span) not in blind
            held = (span.kind is SpanKind.ATTACHMENT and seen) or (held and span.kind is SpanKind.ANSWER)
            if span.kind is SpanKind.FRAME:
                wrapper = span
            elif held:
                wrapper = None
            elif span.kind in TURNS and not span.pinned:
                asked = groups and groups[-1][-1].kind in (SpanKind.QUESTION, SpanKind.ATTACHMENT)
                if asked and span.kind is SpanKind.ANSWER:
                    groups[-1].append(span)
                elif wrapper is not None and (not wrapper.is_seen_frame or id(wrapper) in blind):
                    groups.append([wrapper, span])
                else:
                    groups.append([span])
                wrapper = None
        return groups

    @staticmethod
    def _text_size(span: Span, blind: set[int]) -> int:
        return len(span) - (span.num_visual if id(span) in blind else 0)

    def _orphans(self, blind: set[int], gone: set[int]) -> set[int]:
        """Frames without visual tokens that no surviving turn follows."""
        orphans: set[int] = set()
        for position, span in enumerate(self.spans):
            if span.kind is not SpanKind.FRAME or (span.is_seen_frame and id(span) not in blind):
                continue
            follows = next((later for later in self.spans[position + 1 :] if id(later) not in gone), None)
            if follows is None or follows.kind not in TURNS:
                orphans.add(id(span))
        return orphans

    def _apply(self, blind: set[int], gone: set[int], num_frames: int, num_turns: int, reason: str) -> Eviction:
        keep: list[np.ndarray] = []
        survivors: list[Span] = []
        blinded: list[Span] = []
        start = 0
        for span in self.spans:
            positions = np.arange(start, start + len(span))
            start += len(span)
            if id(span) in gone:
                continue
            if id(span) in blind:
                positions = np.delete(positions, span.visual_offsets)
                blinded.append(span)
            keep.append(positions)
            survivors.append(span)
        kept = np.concatenate(keep) if keep else np.zeros(0, dtype=np.int64)
        eviction = Eviction(kept.astype(np.int64), start - len(kept), num_frames, num_turns, reason)
        for span in blinded:
            span.drop_vision()
        self.spans = survivors
        return eviction


def _oldest_over(spans: Sequence[Span], num_coming: int, low: int, high: int) -> int:
    """How many of the oldest `spans` must leave so that the rest and `num_coming` tokens fit under `low`."""
    return _oldest_over_sizes([len(span) for span in spans], low - num_coming, high - num_coming)


def _oldest_over_sizes(sizes: Sequence[int], low: int, high: int) -> int:
    total = sum(sizes)
    if total <= high:
        return 0
    count = 0
    while count < len(sizes) and total > low:
        total -= sizes[count]
        count += 1
    return count
