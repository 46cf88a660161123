"""Convert a scene to a training example: the token sequence a live session would hold, with labels of the stream
format.

The frames pass the live pruner and the session's own ledger, so training sees the keep masks, refreshes and evicted
contexts of live use. Runs in data workers; torch only for the pruner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from models.checkpoint.types import SpecialIds
from models.eviction import WindowSettings
from models.ledger import Ledger
from models.session.media_turns import Attachment, lay_out
from models.session.tokenizer import StreamTokenizer
from models.spans import Span, SpanKind, frame_span
from models.vision import VisionSettings
from streaming.difffp.live import CellGrid, LiveDiffFP, LiveSettings
from streaming.difffp.refresh import FRAME_OVERHEAD_TOKENS

IGNORED = -100
ANSWER_WEIGHT = 0.15
"""Weight of an answer, relative to all remarks of a scene together."""
NO_PAIRS = np.zeros((0, 2), dtype=np.int32)
NO_CARRIES = np.zeros((0, 3), dtype=np.int32)
_NEAR_S = 1.5
"""A frame up to this many seconds after an event still shows the event."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A text at a media time: a remark that the assistant should make, or a question with its answer."""

    time_s: float
    text: str
    question: str | None = None
    """`None` for a remark."""
    attachments: tuple[Attachment, ...] = ()
    """Pictures and clips that come with the question. They leave no trace in a stream, so such a turn is the last
    one."""
    rests_on: tuple[float, ...] | None = None
    """Media times of the events that the answer rests on: empty for "it never was", `None` where no single events are
    meant."""
    look: tuple[str | None, str | None] | None = None
    """Colour and shape of the thing in view that the answer is about."""
    unsaid: bool = False
    """Whether the remark is left out of the stream, as if the assistant had missed it; nothing is asked at that
    frame."""
    instead: str | None = None
    """A wrong remark made in place of an `unsaid` one; it is neither trained on nor used as evidence."""
    alone: bool = False
    """Whether the question is independent of the stream, such as whether an instruction allows a remark."""
    further: tuple[Turn, ...] = ()
    """More questions about the same attachments, on forks from the place where the first question's text begins."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Attached pictures of one grid."""

    frames: np.ndarray
    """uint8 `[num_frames, height, width, 3]`, as the encoder sees them."""
    grid: CellGrid
    picks: np.ndarray
    """int32 `[num_visual]`: frame * num_cells + cell of each visual token, in order."""


@dataclass(frozen=True, slots=True)
class ForkQuestions:
    """Questions on forks of a stream, one after the other: each sees the stream up to its moment, and no other
    question."""

    ids: np.ndarray
    """int32 `[length]`."""
    labels: np.ndarray
    """int32 `[length]`: the token that should follow each position, as in `StreamExample.labels`."""
    weights: np.ndarray
    """float32 `[length]`."""
    numbers: np.ndarray
    """int32 `[length]`: the number of each token's question."""
    after: np.ndarray
    """int32 `[num_asides]`: the last position of the stream that each question sees."""
    evidence: np.ndarray
    """int32 `[num_pieces, 3]`: question, first position, and position after the last, of the evidence of its answer:
    frames with the remarks that follow them; the very first token where the answer rests on nothing. A question may
    have none."""
    matches: np.ndarray
    """int32 `[num_matches, 2]`: a token of a question that names a colour or a shape, and a place with the same: a
    position in the stream, or, counted on from the stream's length, in these questions; the very first token where
    there is no such place. A time is matched with the token of a remark that fetches its last digit."""
    copies: np.ndarray
    """int32 `[num_copies, 2]`: a token of a question, and a place in the stream from which the next token can be
    copied: the same word in a remark that the answer rests on, or the remark's token that fetches the same digit."""

    @property
    def positions(self) -> np.ndarray:
        """int64 `[length]`: position of each token, as if its question alone followed the part of the stream it
        sees."""
        numbers = self.numbers.astype(np.int64)
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        return self.after.astype(np.int64)[numbers] + 1 + np.arange(len(numbers)) - starts[numbers]


@dataclass(frozen=True, slots=True)
class StreamExample:
    """One tokenized scene."""

    ids: np.ndarray
    """int32 `[length]`, the image token's id where a visual token stands."""
    labels: np.ndarray
    """int32 `[length]`: the token that should follow each position; `IGNORED` where there is no target."""
    weights: np.ndarray
    """float32 `[length]`: weight of each label. Decisions sum to one per scene, remarks likewise, answers to less."""
    frames: np.ndarray
    """uint8 `[num_frames, height, width, 3]`: the frames that hold visual tokens, as the encoder sees them."""
    frame_numbers: np.ndarray
    """int32 `[num_frames]`: the number of each frame among the sampled pictures."""
    frame_ends: np.ndarray
    """int32 `[num_frames]`: position of each frame's last token, where the decision is made."""
    picks: np.ndarray
    """int32 `[num_visual]`: frame * num_cells + cell of each visual token of the stream, in order."""
    grid: CellGrid
    asides: ForkQuestions
    carries: np.ndarray
    """int32 `[num_carries, 3]`: a token at the end of a remark, the token of the time shown before that it fetches, and
    whether that is a digit. The full stop fetches the first digit, the tokens after it the next ones, and one more
    token what follows the digits."""
    attached: tuple[Pictures, ...] = ()
    """Pictures of the last question; their visual tokens follow those of the stream."""
    dated: np.ndarray = field(default_factory=lambda: NO_PAIRS)
    """int32 `[num_dated, 2]`: a token of a remark, its last tokens included, and the last digit of the time shown
    before it."""


@dataclass(slots=True)
class ExampleBuilder:
    """Builds an example of a scene by running pruner and ledger over it, with the true texts in place of a model's."""

    codec: StreamTokenizer
    special: SpecialIds
    vision: VisionSettings
    window: WindowSettings
    shown_offset_s: float = 0.0
    picture_tokens: int = 400
    """Most visual tokens of attachments; a session allows a quarter of its vision window."""
    _undecided: set[int] = field(default_factory=set, init=False)
    """Sampled pictures after which a remark was due and was left out."""
    _mistaken: set[float] = field(default_factory=set, init=False)
    """Media times of wrong remarks."""

    def build(
        self,
        pictures: Sequence[tuple[float, np.ndarray]],
        grid: CellGrid,
        turns: Sequence[Turn],
        *,
        system: str | None = None,
        instruction: str | None = None,
        asides: Sequence[Turn] = (),
    ) -> StreamExample:
        """Build an example of a scene with pictures.

        pictures: (media time, uint8 picture) of each sampled frame, in order. turns, asides: sorted by time. asides:
        questions on forks, which leave no trace; those whose context a later eviction removes are left out.
        """
        ledger = Ledger(self.window)
        last = turns[-1] if turns and turns[-1].attachments else None
        assert not any(turn.attachments for turn in turns[:-1]), "only the last question has attachments"
        pruner = LiveDiffFP(grid, LiveSettings(window_low_tokens=self.window.vision_low), self.vision.std)
        self._open(ledger, system, instruction)
        self._undecided.clear()
        self._mistaken.clear()
        pending, waiting = deque(turns if last is None else turns[:-1]), deque(asides)
        forks: list[tuple[Turn, Span]] = []
        for index, (time_s, picture) in enumerate(pictures):
            fitted = self.vision.fitted(picture, grid)
            patches = self.vision.cut(torch.from_numpy(fitted), grid)
            must_keep = ledger.at_risk(grid.num_cells, grid.num_cells + FRAME_OVERHEAD_TOKENS)
            must_keep |= ~ledger.cells_in_view(grid.num_cells)
            pruning = pruner.push(patches, time_s, tokens_before=ledger.num_appended, must_keep=must_keep)
            if pruning.appended:
                shown = self.shown_offset_s + time_s - pictures[0][0]
                ledger.append(self._frame(shown, pruning.keep, time_s, index, fitted))
                if ledger.evict() is not None:
                    forks.clear()
            self._speak(ledger, pending, time_s, pruning.appended)
            while waiting and waiting[0].time_s <= time_s:
                forks.append((waiting.popleft(), ledger.spans[-1]))
        return self._flatten(ledger, grid, last, forks)

    def tell(
        self, times_s: Sequence[float], turns: Sequence[Turn], *, begin_s: float, asides: Sequence[Turn] = ()
    ) -> StreamExample:
        """Build an example of a scene without pictures: bare frames at `times_s`, remarks, and questions about them on
        forks.

        begin_s: media time of the first sampled frame. Finding remarks by their words is learnt this way at a small
        part of the cost.
        """
        ledger = Ledger(self.window)
        self._open(ledger, None, None)
        pending, waiting = deque(turns), deque(asides)
        forks: list[tuple[Turn, Span]] = []
        nothing = np.zeros(1, dtype=bool)
        for index, time_s in enumerate(times_s):
            ledger.append(self._frame(self.shown_offset_s + time_s - begin_s, nothing, time_s, index, None))
            self._speak(ledger, pending, time_s, appended=True)
            while waiting and waiting[0].time_s <= time_s:
                forks.append((waiting.popleft(), ledger.spans[-1]))
        return self._flatten(ledger, CellGrid(rows=1, cols=1, merge=2, patch_px=14), None, forks)

    def _open(self, ledger: Ledger, system: str | None, instruction: str | None) -> None:
        prompt = self.codec.prompt
        ledger.append(Span(SpanKind.SYSTEM, self.codec.encode(prompt.system(system)), pinned=True))
        if instruction is not None:
            ledger.append(Span(SpanKind.INSTRUCTION, self.codec.encode(prompt.turn("user", instruction)), pinned=True))

    def _frame(self, shown_s: float, keep: np.ndarray, time_s: float, index: int, picture: np.ndarray | None) -> Span:
        head, tail = self.codec.frame_head(shown_s), self.codec.frame_tail
        return frame_span(head, keep, tail, self.special.image, time_s=time_s, vision=picture, frame_index=index)

    def _turn(self, kind: SpanKind, text: str, time_s: float) -> Span:
        role = "user" if kind is SpanKind.QUESTION else "assistant"
        return Span(kind, self.codec.encode(self.codec.prompt.turn(role, text)), time_s)

    def _speak(self, ledger: Ledger, pending: deque[Turn], time_s: float, appended: bool) -> None:
        """Append at most one remark after an appended frame, and all questions at once."""
        remarked = False
        while pending and pending[0].time_s <= time_s:
            turn = pending[0]
            if turn.question is None:
                if remarked or not appended:
                    return
                if turn.unsaid:
                    newest = next(span for span in reversed(ledger.spans) if span.is_seen_frame)
                    self._undecided.add(newest.frame_index or 0)
                    if turn.instead is not None:
                        ledger.append(self._turn(SpanKind.COMMENT, turn.instead, time_s))
                        self._mistaken.add(time_s)
                        remarked = True
                    pending.popleft()
                    continue
                ledger.append(self._turn(SpanKind.COMMENT, turn.text, time_s))
                remarked = True
            else:
                ledger.append(self._turn(SpanKind.QUESTION, turn.question, time_s))
                ledger.append(self._turn(SpanKind.ANSWER, turn.text, time_s))
            pending.popleft()

    def _flatten(
        self, ledger: Ledger, grid: CellGrid, last: Turn | None, forks: Sequence[tuple[Turn, Span]]
    ) -> StreamExample:
        spans = list(ledger)
        ids: list[int] = []
        frames: list[np.ndarray] = []
        numbers: list[int] = []
        ends: list[int] = []
        picks: list[np.ndarray] = []
        decisions: list[tuple[int, int]] = []
        spoken: list[tuple[int, int]] = []
        answers: list[list[tuple[int, int]]] = []
        last_at: dict[int, int] = {}
        pieces: list[tuple[float, int, int]] = []
        for span, after in zip(spans, [*spans[1:], None], strict=True):
            start = len(ids)
            ids.extend(span.ids)
            last_at[id(span)] = len(ids) - 1
            if span.kind is SpanKind.FRAME:
                pieces.append((span.time_s or 0.0, start, len(ids)))
            elif span.kind is SpanKind.COMMENT and pieces and span.time_s not in self._mistaken:
                pieces[-1] = (*pieces[-1][:2], len(ids))
            if span.is_seen_frame:
                assert span.cells is not None and isinstance(span.vision, np.ndarray)
                picks.append(span.cells + len(frames) * grid.num_cells)
                frames.append(span.vision)
                numbers.append(span.frame_index or 0)
                ends.append(len(ids) - 1)
                label = self._decision(after)
                if label is not None and span.frame_index not in self._undecided:
                    decisions.append((len(ids) - 1, label))
            elif span.kind is SpanKind.COMMENT and span.time_s not in self._mistaken:
                spoken.extend(_followed(ids, start))
            elif span.kind is SpanKind.ANSWER:
                answers.append(_followed(ids, start))
        attached: tuple[Pictures, ...] = ()
        placed = [(turn, last_at[id(span)], False) for turn, span in forks]
        if last is not None:
            attached, at = self._attach(ids, answers, last)
            placed += [(turn, at, True) for turn in last.further]
        if not frames:
            spoken = []  # without pictures, the remarks cannot be predicted
        return StreamExample(
            *self._labelled(ids, decisions, spoken, answers),
            np.stack(frames) if frames else np.zeros((0, 1, 1, 3), dtype=np.uint8),
            np.asarray(numbers, dtype=np.int32),
            np.asarray(ends, dtype=np.int32),
            np.concatenate([np.zeros(0, dtype=np.int32), *picks]).astype(np.int32),
            grid,
            self._asides(placed, pieces),
            NO_CARRIES,
            attached,
        )

    def _asides(
        self, forks: Sequence[tuple[Turn, int, bool]], pieces: Sequence[tuple[float, int, int]]
    ) -> ForkQuestions:
        """Questions with their answers, one after the other.

        forks: each question with the last position it sees, and whether that position is already inside the user's
        turn. pieces: media time and positions of each frame with its remark.
        """
        evidence: list[tuple[int, int, int]] = []
        ids: list[int] = []
        numbers: list[int] = []
        answers: list[list[tuple[int, int]]] = []
        for number, (turn, _, opened) in enumerate(forks):
            evidence.extend((number, *place) for place in _places(turn, pieces))
            asked = self.codec.prompt.turn("user", turn.question or "")
            if opened:
                asked = asked.removeprefix(self.codec.prompt.opening("user"))
            ids.extend(self.codec.encode(asked))
            start = len(ids)
            ids.extend(self.codec.encode(self.codec.prompt.turn("assistant", turn.text)))
            answers.append(_followed(ids, start + len(self.codec.opening) - 1))
            numbers.extend([number] * (len(ids) - len(numbers)))
        after = np.array([at for _, at, _ in forks], dtype=np.int32)
        return ForkQuestions(
            *self._labelled(ids, [], [], answers),
            np.asarray(numbers, dtype=np.int32),
            after,
            np.asarray(evidence, dtype=np.int32).reshape(-1, 3),
            NO_PAIRS,
            NO_PAIRS,
        )

    def _attach(
        self, ids: list[int], answers: list[list[tuple[int, int]]], turn: Turn
    ) -> tuple[tuple[Pictures, ...], int]:
        """Append a question with its pictures and its answer; returns the last position before the question's words."""
        question, image = turn.question or "", self.special.image
        laid = lay_out(self.codec, self.vision, image, question, turn.attachments, self.picture_tokens)
        words_at = len(ids) + int(laid.offsets[-1]) + 1  # a line break separates the words from the pictures
        ids.extend(laid.ids)
        start = len(ids)
        ids.extend(self.codec.encode(self.codec.prompt.turn("assistant", turn.text)))
        answers.append(_followed(ids, start))
        groups: list[Pictures] = []
        for picture in laid.pictures:
            picks = np.flatnonzero(picture.keep).astype(np.int32)
            frame = picture.frame[None]
            if groups and groups[-1].grid == picture.grid:
                before = groups.pop()
                picks = np.concatenate([before.picks, picks + len(before.frames) * picture.grid.num_cells])
                frame = np.concatenate([before.frames, frame])
            groups.append(Pictures(frame, picture.grid, picks.astype(np.int32)))
        return tuple(groups), words_at

    def _decision(self, after: Span | None) -> int | None:
        if after is None or after.kind is SpanKind.FRAME:
            return self.special.stream_start
        return self.special.im_start if after.kind is SpanKind.COMMENT else None

    def _labelled(
        self,
        ids: list[int],
        decisions: list[tuple[int, int]],
        spoken: list[tuple[int, int]],
        answers: list[list[tuple[int, int]]],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels = np.full(len(ids), IGNORED, dtype=np.int32)
        weights = np.zeros(len(ids), dtype=np.float32)
        for wanted in (self.special.im_start, self.special.stream_start):
            places = [at for at, label in decisions if label == wanted]
            labels[places] = wanted
            weights[places] = 0.5 / max(len(places), 1)
        weighted = [(spoken, 1.0), *((answer, ANSWER_WEIGHT) for answer in answers)]
        for tokens, weight in weighted:
            for at, token in tokens:
                labels[at] = token
                weights[at] = weight / len(tokens)
        return np.asarray(ids, dtype=np.int32), labels, weights


def _places(turn: Turn, pieces: Sequence[tuple[float, int, int]]) -> list[tuple[int, int]]:
    """Positions in the stream of the events that an answer rests on."""
    if turn.rests_on is None:
        return []
    if not turn.rests_on:
        return [(0, 1)]
    places = []
    for time_s in turn.rests_on:
        found = next((piece for piece in pieces if piece[0] >= time_s - 1e-6), None)
        if found is not None and found[0] <= time_s + _NEAR_S:
            places.append(found[1:])
    return places


def _followed(ids: list[int], start: int) -> list[tuple[int, int]]:
    """Each position from `start` on with the token that follows it, up to the token that ends the turn."""
    return [(at, ids[at + 1]) for at in range(start, len(ids) - 2)]
