"""A scene as one training example: the ledger that a live session would hold, with the labels of the stream format.

The frames go through the live pruner and the session's own ledger, so training sees the keep masks, refreshes and
evicted contexts of live use. Runs in data workers; torch only for the pruner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.attachments import Attachment, lay_out
from models.codec import TextCodec
from models.settings import FRAME_OVERHEAD_TOKENS
from models.spans import Ledger, Span, SpanKind, WindowSettings, frame_span
from models.types import SpecialIds
from models.vision import VisionSettings
from streaming.difffp import CellGrid, LiveDiffFP, LiveSettings

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Turn:
    """Something said at a media time: a remark the assistant owes, or a question with its answer."""

    time_s: float
    text: str
    question: str | None = None
    """`None` for a remark."""
    attachments: tuple[Attachment, ...] = ()
    """Pictures and clips that come with the question. As they leave no trace in a stream, such a turn is the last."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Attached pictures of one grid."""

    frames: np.ndarray
    """uint8 `[num_frames, height, width, 3]`, as the encoder sees them."""
    grid: CellGrid
    picks: np.ndarray
    """int32 `[num_visual]`: for each visual token in order, frame * num_cells + cell."""


@dataclass(frozen=True, slots=True)
class StreamExample:
    """One tokenized scene."""

    ids: np.ndarray
    """int32 `[length]`, the image token's id where a visual token stands."""
    labels: np.ndarray
    """int32 `[length]`: the token that should follow each position; `IGNORED` where nothing is asked."""
    weights: np.ndarray
    """float32 `[length]`: weight of each label; decisions and text each sum to about one a scene."""
    frames: np.ndarray
    """uint8 `[num_frames, height, width, 3]`, only frames that hold visual tokens, as the encoder sees them."""
    frame_numbers: np.ndarray
    """int32 `[num_frames]`: which of the sampled pictures each frame is."""
    frame_ends: np.ndarray
    """int32 `[num_frames]`: position of each frame's last token, where the decision is made."""
    picks: np.ndarray
    """int32 `[num_visual]`: for each visual token of the stream in order, frame * num_cells + cell."""
    grid: CellGrid
    attached: tuple[Pictures, ...] = ()
    """Pictures of the last question; their visual tokens follow those of the stream."""


@dataclass(slots=True)
class ExampleBuilder:
    """Drives a pruner and a ledger over one scene, the truth in the place of the model."""

    codec: TextCodec
    special: SpecialIds
    vision: VisionSettings
    window: WindowSettings
    shown_offset_s: float = 0.0
    picture_tokens: int = 400
    """Most visual tokens of attachments; a session gives them a quarter of its vision window."""

    def build(
        self,
        pictures: Sequence[tuple[float, np.ndarray]],
        grid: CellGrid,
        turns: Sequence[Turn],
        *,
        system: str | None = None,
        instruction: str | None = None,
    ) -> StreamExample:
        """pictures: (media time, uint8 picture) of each sampled frame, in order. turns: sorted by time."""
        ledger = Ledger(self.window)
        last = turns[-1] if turns and turns[-1].attachments else None
        assert not any(turn.attachments for turn in turns[:-1]), "only the last question has attachments"
        pruner = LiveDiffFP(grid, LiveSettings(window_low_tokens=self.window.vision_low), self.vision.std)
        self._open(ledger, system, instruction)
        pending = deque(turns if last is None else turns[:-1])
        for index, (time_s, picture) in enumerate(pictures):
            fitted = self.vision.fitted(picture, grid)
            patches = self.vision.cut(torch.from_numpy(fitted), grid)
            must_keep = ledger.at_risk(grid.num_cells, grid.num_cells + FRAME_OVERHEAD_TOKENS)
            must_keep |= ~ledger.cells_in_view(grid.num_cells)
            pruning = pruner.push(patches, time_s, tokens_before=ledger.num_appended, must_keep=must_keep)
            if pruning.appended:
                shown = self.shown_offset_s + time_s - pictures[0][0]
                ledger.append(self._frame(shown, pruning.keep, time_s, index, fitted))
                ledger.evict()
            self._speak(ledger, pending, time_s, pruning.appended)
        return self._flatten(ledger, grid, last)

    def _open(self, ledger: Ledger, system: str | None, instruction: str | None) -> None:
        prompt = self.codec.prompt
        ledger.append(Span(SpanKind.SYSTEM, self.codec.encode(prompt.system(system)), pinned=True))
        if instruction is not None:
            ledger.append(Span(SpanKind.INSTRUCTION, self.codec.encode(prompt.turn("user", instruction)), pinned=True))

    def _frame(self, shown_s: float, keep: np.ndarray, time_s: float, index: int, picture: np.ndarray) -> Span:
        head, tail = self.codec.frame_head(shown_s), self.codec.frame_tail
        return frame_span(head, keep, tail, self.special.image, time_s=time_s, vision=picture, frame_index=index)

    def _turn(self, kind: SpanKind, text: str, time_s: float) -> Span:
        role = "user" if kind is SpanKind.QUESTION else "assistant"
        return Span(kind, self.codec.encode(self.codec.prompt.turn(role, text)), time_s)

    def _speak(self, ledger: Ledger, pending: deque[Turn], time_s: float, appended: bool) -> None:
        """At most one remark after an appended frame; questions at once."""
        remarked = False
        while pending and pending[0].time_s <= time_s:
            turn = pending[0]
            if turn.question is None:
                if remarked or not appended:
                    return
                ledger.append(self._turn(SpanKind.COMMENT, turn.text, time_s))
                remarked = True
            else:
                ledger.append(self._turn(SpanKind.QUESTION, turn.question, time_s))
                ledger.append(self._turn(SpanKind.ANSWER, turn.text, time_s))
            pending.popleft()

    def _flatten(self, ledger: Ledger, grid: CellGrid, last: Turn | None) -> StreamExample:
        spans = list(ledger)
        ids: list[int] = []
        frames: list[np.ndarray] = []
        numbers: list[int] = []
        ends: list[int] = []
        picks: list[np.ndarray] = []
        decisions: list[tuple[int, int]] = []
        spoken: list[tuple[int, int]] = []
        for span, after in zip(spans, [*spans[1:], None], strict=True):
            start = len(ids)
            ids.extend(span.ids)
            if span.is_seen_frame:
                assert span.cells is not None and isinstance(span.vision, np.ndarray)
                picks.append(span.cells + len(frames) * grid.num_cells)
                frames.append(span.vision)
                numbers.append(span.frame_index or 0)
                ends.append(len(ids) - 1)
                label = self._decision(after)
                if label is not None:
                    decisions.append((len(ids) - 1, label))
            elif span.kind in (SpanKind.COMMENT, SpanKind.ANSWER):
                spoken.extend((at, ids[at + 1]) for at in range(start, len(ids) - 2))
        attached: tuple[Pictures, ...] = ()
        if last is not None:
            attached = self._attach(ids, spoken, last)
        return StreamExample(
            *self._labelled(ids, decisions, spoken),
            np.stack(frames),
            np.asarray(numbers, dtype=np.int32),
            np.asarray(ends, dtype=np.int32),
            np.concatenate(picks).astype(np.int32),
            grid,
            attached,
        )

    def _attach(self, ids: list[int], spoken: list[tuple[int, int]], turn: Turn) -> tuple[Pictures, ...]:
        """Append a question with its pictures, and its answer."""
        question, image = turn.question or "", self.special.image
        laid = lay_out(self.codec, self.vision, image, question, turn.attachments, self.picture_tokens)
        ids.extend(laid.ids)
        start = len(ids)
        ids.extend(self.codec.encode(self.codec.prompt.turn("assistant", turn.text)))
        spoken.extend((at, ids[at + 1]) for at in range(start, len(ids) - 2))
        groups: list[Pictures] = []
        for picture in laid.pictures:
            picks = np.flatnonzero(picture.keep).astype(np.int32)
            frame = picture.frame[None]
            if groups and groups[-1].grid == picture.grid:
                before = groups.pop()
                picks = np.concatenate([before.picks, picks + len(before.frames) * picture.grid.num_cells])
                frame = np.concatenate([before.frames, frame])
            groups.append(Pictures(frame, picture.grid, picks.astype(np.int32)))
        return tuple(groups)

    def _decision(self, after: Span | None) -> int | None:
        if after is None or after.kind is SpanKind.FRAME:
            return self.special.stream_start
        return self.special.im_start if after.kind is SpanKind.COMMENT else None

    def _labelled(
        self, ids: list[int], decisions: list[tuple[int, int]], spoken: list[tuple[int, int]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels = np.full(len(ids), IGNORED, dtype=np.int32)
        weights = np.zeros(len(ids), dtype=np.float32)
        for wanted in (self.special.im_start, self.special.stream_start):
            places = [at for at, label in decisions if label == wanted]
            labels[places] = wanted
            weights[places] = 0.5 / max(len(places), 1)
        for at, token in spoken:
            labels[at] = token
            weights[at] = 1.0 / max(len(spoken), 1)
        return np.asarray(ids, dtype=np.int32), labels, weights


def without(turns: Sequence[Turn], allowed: Callable[[Turn], bool]) -> list[Turn]:
    """The turns that a standing instruction lets through; questions always pass."""
    return [turn for turn in turns if turn.question is not None or allowed(turn)]
