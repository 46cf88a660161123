"""The units of a session's cache: what each is, its token ids, and where its visual tokens stand.

Pure bookkeeping without torch, owned by whoever owns the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np


class SpanKind(StrEnum):
    """Kinds of units in the cache."""

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
"""Kinds that count against the text window once they hold no visual tokens."""


@dataclass(slots=True, eq=False)
class Span:
    """One unit: a frame with its wrapper, or one turn. Units leave the cache whole."""

    kind: SpanKind
    ids: list[int]
    """Token ids, the image token's id where a visual token stands."""
    time_s: float | None = None
    """Media time of a frame; for a turn, the media time of the frame before it."""
    first_image: int = 0
    """Offset of the first visual token in `ids`."""
    cells: np.ndarray | None = None
    """int `[num_visual_tokens]`: the merged cell each visual token was made from, in order."""
    vision: object | None = None
    """Source of the visual tokens: their embeddings in a session, the pictures in training data."""
    frame_index: int | None = None
    pinned: bool = False
    """Whether the unit is never evicted, as the system turn and standing instructions."""
    image_offsets: np.ndarray | None = None
    """Offsets of the visual tokens in `ids` where they do not form one run from `first_image`, as in attachments."""
    view: int = -1
    """Number of the grid that `cells` indexes; each change of grid has its own. −1: no grid of the session."""

    @property
    def num_visual(self) -> int:
        """Number of visual tokens in the unit."""
        return 0 if self.cells is None else len(self.cells)

    @property
    def is_seen_frame(self) -> bool:
        """Whether this is a frame, or a kept attachment, that still has its visual tokens."""
        return self.kind in (SpanKind.FRAME, SpanKind.ATTACHMENT) and self.num_visual > 0

    @property
    def visual_offsets(self) -> np.ndarray:
        """int `[num_visual]`: offsets of the visual tokens in `ids`."""
        if self.image_offsets is not None and self.num_visual:
            return self.image_offsets
        return np.arange(self.first_image, self.first_image + self.num_visual)

    def with_head(self, head: Sequence[int]) -> Span:
        """A copy with other token ids before its visual tokens."""
        return replace(self, ids=[*head, *self.ids[self.first_image :]], first_image=len(head))

    def drop_vision(self) -> None:
        """Remove the visual tokens; the text around them stays."""
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
    """Unit of a frame: one image id per kept cell between the ids of its wrapper. keep: bool `[num_cells]`."""
    cells = np.flatnonzero(keep)
    ids = [*head, *[image_id] * len(cells), *tail]
    return Span(SpanKind.FRAME, ids, time_s, first_image=len(head), cells=cells, vision=vision, frame_index=frame_index)
