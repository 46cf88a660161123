"""Eviction: which units leave a session's cache when one of its two windows is over its high watermark.

Frames leave by the vision window, turns by the text window, the oldest first and always whole. Pure functions over the
units in cache order, without torch; a session and the training data use the same ones, so that training sees the
contexts that live eviction makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import SettingsError
from models.spans import TURNS, Span, SpanKind
from streaming.difffp.refresh import FRAME_OVERHEAD_TOKENS

TURN_MARKS = 64
"""Tokens of the marks around turns, and of a wrapper that stays with a turn."""
ATTACHED_WORDS = 2
"""Most text that comes with attachments, in longest turns: the question, and the time of each picture."""


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Most tokens a session holds before it evicts: two windows, each with a high and a low watermark."""

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
        """Most tokens that the two windows hold together, without pinned text."""
        return self.vision_high + self.text_high


def window_tokens(window: WindowSettings, max_cells: int) -> int:
    """Upper bound of the tokens in the cache of a session with these windows, for any frames, texts and questions.

    The sum of both windows at their high watermarks (or the last question and answer where those are longer), two
    pinned turns, and the largest single addition before the next eviction: a frame, or a question of any kind.
    """
    turn = window.text_low
    said = max(window.text_high, 2 * turn) + TURN_MARKS
    attached = window.vision_low // 4 + ATTACHED_WORDS * turn
    coming = max(max_cells + FRAME_OVERHEAD_TOKENS, turn, attached) + turn + TURN_MARKS
    return 2 * turn + window.vision_high + said + coming


@dataclass(frozen=True, slots=True)
class Eviction:
    """Result of one eviction: the cache positions that stay, numbered as before the eviction."""

    keep: np.ndarray
    """int64 `[num_kept]`, ascending: positions that stay."""
    num_evicted: int
    num_frames: int
    """Frames that lost their visual tokens."""
    num_turns: int
    reason: str

    @property
    def num_unmoved(self) -> int:
        """Number of positions at the beginning that do not move."""
        moved = np.flatnonzero(self.keep != np.arange(len(self.keep)))
        return int(moved[0]) if len(moved) else len(self.keep)


@dataclass(frozen=True, slots=True)
class Departure:
    """The units chosen to leave, each named by its `id()`."""

    blind: set[int]
    """Units that lose their visual tokens and keep their text."""
    gone: set[int]
    """Units that leave whole."""
    num_frames: int
    """Frames that lose their visual tokens."""
    num_turns: int
    reason: str


def choose_over_watermark(spans: Sequence[Span], window: WindowSettings) -> Departure | None:
    """The oldest units of each window over its high watermark, down to its low one; `None` where both windows fit.

    A frame that a surviving turn follows keeps its wrapper, so that words stay next to the time they were said at. A
    question leaves with its answer. The last turn stays, however long it is.
    """
    excess = _excess_attachments(spans, window)
    frames = [span for span in spans if span.is_seen_frame and id(span) not in excess]
    num_frames = _num_oldest_over([len(span) for span in frames], window.vision_low, window.vision_high)
    blind = {id(span) for span in frames[:num_frames]} | excess
    groups = _turn_groups(spans, blind)
    sizes = [sum(_text_size(span, blind) for span in group) for group in groups]
    num_groups = min(_num_oldest_over(sizes, window.text_low, window.text_high), max(0, len(groups) - 1))
    # A wrapper leaves as an orphan, not with the first of the turns that follow it.
    gone = {id(span) for group in groups[:num_groups] for span in group if span.kind in TURNS}
    num_turns = sum(span.kind in TURNS for group in groups[:num_groups] for span in group)
    gone |= _orphans(spans, blind, gone)
    if not blind and not gone:
        return None
    windows = [name for name, any_ in (("vision", num_frames), ("text", num_groups)) if any_]
    reasons = [f"{' and '.join(windows)} window over its high watermark"] if windows else []
    reasons += ["kept attachments over a quarter of the vision window"] if excess else []
    return Departure(blind, gone, len(blind), num_turns, "; ".join(reasons))


def is_before(span: Span, time_s: float) -> bool:
    """Whether a unit is unpinned and has a time before `time_s`."""
    return not span.pinned and span.time_s is not None and span.time_s < time_s


def choose_before(spans: Sequence[Span], time_s: float, reason: str) -> Departure | None:
    """Every unpinned unit with a time before `time_s`; `None` where there is none."""
    leaving = [span for span in spans if is_before(span, time_s)]
    if not leaving:
        return None
    num_frames = sum(span.is_seen_frame for span in leaving)
    num_turns = sum(span.kind in TURNS for span in leaving)
    return Departure(set(), {id(span) for span in leaving}, num_frames, num_turns, reason)


def take_out(spans: Sequence[Span], departure: Departure) -> tuple[list[Span], Eviction]:
    """The units that stay, and the positions they keep. Units in `departure.blind` lose their visual tokens."""
    starts = np.cumsum([0, *(len(span) for span in spans)])
    stays = np.ones(int(starts[-1]), dtype=bool)
    survivors: list[Span] = []
    blinded: list[Span] = []
    for start, span in zip(starts.tolist(), spans, strict=False):
        if id(span) in departure.gone:
            stays[start : start + len(span)] = False
            continue
        if id(span) in departure.blind:
            stays[start + span.visual_offsets] = False
            blinded.append(span)
        survivors.append(span)
    kept = np.flatnonzero(stays).astype(np.int64, copy=False)
    num_evicted = len(stays) - len(kept)
    eviction = Eviction(kept, num_evicted, departure.num_frames, departure.num_turns, departure.reason)
    for span in blinded:
        span.drop_vision()
    return survivors, eviction


def _excess_attachments(spans: Sequence[Span], window: WindowSettings) -> set[int]:
    """The oldest kept attachments, as many as bring the rest down to a quarter of the vision window."""
    kept = [span for span in spans if span.kind is SpanKind.ATTACHMENT and span.is_seen_frame]
    quarter = window.vision_low // 4
    excess = _num_oldest_over([span.num_visual for span in kept], quarter, quarter)
    return {id(span) for span in kept[:excess]}


def _turn_groups(spans: Sequence[Span], blind: set[int]) -> list[list[Span]]:
    """Unpinned turns that leave together, oldest first: question and answer, or bare wrapper and the turn after it.

    An attachment that still has its pictures stays, and its answer with it, until the vision window takes the pictures.
    """
    groups: list[list[Span]] = []
    wrapper: Span | None = None
    held = False
    for span in spans:
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


def _text_size(span: Span, blind: set[int]) -> int:
    return len(span) - (span.num_visual if id(span) in blind else 0)


def _orphans(spans: Sequence[Span], blind: set[int], gone: set[int]) -> set[int]:
    """Frames without visual tokens that no surviving turn follows."""
    orphans: set[int] = set()
    follower: Span | None = None
    for span in reversed(spans):
        is_bare = span.kind is SpanKind.FRAME and not (span.is_seen_frame and id(span) not in blind)
        if is_bare and (follower is None or follower.kind not in TURNS):
            orphans.add(id(span))
        if id(span) not in gone:
            follower = span
    return orphans


def _num_oldest_over(sizes: Sequence[int], low: int, high: int) -> int:
    """Number of the oldest units to remove so that the rest fit under `low`; 0 while all fit under `high`."""
    total = sum(sizes)
    if total <= high:
        return 0
    count = 0
    while count < len(sizes) and total > low:
        total -= sizes[count]
        count += 1
    return count
