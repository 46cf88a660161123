"""One stream's session with the model: it sees frames, comments, answers and checks, from one rolling memory.

Its methods are steps (see `models.steps`): the engine drives them, one at a time a session, on its own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch

from models.attachments import Attachment, attach
from models.context import Chunks, Context, even_chunks
from models.errors import SessionError
from models.runtime import Runtime
from models.sampling import Sampler
from models.settings import FRAME_OVERHEAD_TOKENS, StreamSettings
from models.sight import Check, Sight, Usage
from models.spans import Span, SpanKind, frame_span
from models.steps import Forward, Output, Piece, Steps
from models.stream_time import StreamTime
from models.turns import OpenTurn, Speaker, Utterance
from models.view import PruningMode, View
from streaming.difffp import CellGrid, Pruning
from streaming.types import Frame

NEAR_SPEAKING = -2.0
"""Calibrated log-odds above which a remark is near enough to measure the second part of the decision."""

P = ParamSpec("P")
T = TypeVar("T")


def _alone(
    method: Callable[Concatenate[Session, P], Steps[T]],
) -> Callable[Concatenate[Session, P], Steps[T]]:
    """One method at a time, from its first step to its end or `close`."""

    @wraps(method)
    def steps(self: Session, *args: P.args, **kwargs: P.kwargs) -> Generator[Forward | Piece, Output | None, T]:
        if self._busy is not None:
            raise SessionError(
                f"{method.__name__} while {self._busy} is under way: a session does one thing at a time; "
                "finish that job, or cancel it first"
            )
        self._busy = method.__name__
        try:
            return (yield from method(self, *args, **kwargs))
        finally:
            self._busy = None

    return steps


class Session:
    """The model's side of one stream. Made by `Engine.open_session`."""

    def __init__(
        self,
        runtime: Runtime,
        settings: StreamSettings,
        *,
        widen_window: bool,
        system: str | None = None,
        instruction: str | None = None,
        pruning: PruningMode = "live",
        sampler: Sampler | None = None,
        chunks: Chunks = even_chunks,
    ) -> None:
        """widen_window: fit the vision window to the grid; otherwise a window too small for it is refused.

        system: `None` for the checkpoint's default, an empty string for no system turn.
        """
        self.settings = settings
        self._runtime = runtime
        self._codec = runtime.codec
        self._special = runtime.checkpoint.special
        self._widen_window = widen_window
        self._context = Context(runtime, settings.window, chunks)
        self._view = View(runtime.checkpoint.vision, runtime.encoder, pruning)
        self._sampler = sampler or Sampler()
        self._speaker = Speaker(runtime, self._context, self._sampler)
        self._time = StreamTime(1 / settings.fps)
        self._preamble = [(SpanKind.SYSTEM, system), (SpanKind.INSTRUCTION, instruction)]
        self._frame_time_s: float = 0.0
        self._num_rebases = 0
        self._busy: str | None = None

    @property
    def usage(self) -> Usage:
        """How full the session is now."""
        counts = self._context.ledger.tokens_by_kind()
        return Usage(
            num_tokens=self._context.cache.length,
            capacity=self._context.ledger.window.capacity,
            pinned=counts["pinned"],
            vision=counts["vision"],
            text=counts["text"],
            num_evictions=self._context.num_evictions,
            num_rebases=self._num_rebases,
            cache_bytes=self._context.cache.num_bytes,
        )

    @property
    def context(self) -> Context:
        """Cache and ledger, to look at."""
        return self._context

    @property
    def grid(self) -> CellGrid | None:
        """The view's grid; `None` before the first frame."""
        return self._view.grid

    def hot_cells(self) -> np.ndarray:
        """Bool `[num_cells]`: cells that change in nearly every frame, which a mask would spare the model."""
        return self._view.hot_cells()

    @_alone
    def see(self, frame: Frame, *, speak_above: float | None = None) -> Steps[Sight]:
        """Take in the next frame; appended where something changed, settled, or was about to leave the window.

        speak_above: measure log P(assistant), one small forward pass, where the raw score s lies above it; `None`
        measures where a trained decision comes near to speaking.
        """
        started_at = self._runtime.now()
        yield from self._settle()
        grid, grid_changed = self._look(frame.image)
        time_s = self._time.enter(frame.pts_s)
        rebased = yield from self._rebase(time_s)
        forward_ms, ready_at = self._context.elapsed_ms, self._runtime.now()
        try:
            patches = self._view.patches(frame.image)
            pruning = self._prune(patches, grid, time_s)
            pruned_at = self._runtime.now()
            span, score, log_p = None, None, None
            if pruning.appended:
                head = self._codec.frame_head(self._time.shown(time_s))
                span = self._frame_span(patches, pruning, time_s, head, self._codec.frame_tail)
                span.frame_index = frame.index
                encoded_at = self._runtime.now()
                logits = yield from self._append(span)
                score = float(logits[-1, self._special.im_start] - logits[-1, self._special.stream_start])
                if self._might_speak(score, speak_above):
                    log_p = yield from self._log_p_assistant()
                self._context.evict()
                self._frame_time_s = time_s
        except BaseException:
            # The view believes the frame is in the cache; the next one makes up for it.
            self._view.keep_next_whole()
            raise
        return Sight(
            appended=pruning.appended,
            kind=pruning.kind,
            pruning=pruning,
            grid=grid,
            time_s=time_s,
            shown_time_s=self._time.shown(time_s),
            score=score,
            log_p_assistant=log_p,
            num_tokens=0 if span is None else len(span),
            evictions=self._context.take_evictions(),
            rebased=rebased,
            grid_changed=grid_changed,
            timings={
                "prune": 1e3 * (pruned_at - ready_at),
                "encode": 1e3 * (encoded_at - pruned_at) if span is not None else 0.0,
                "prefill": self._context.elapsed_ms - forward_ms,
                "total": 1e3 * (self._runtime.now() - started_at),
            },
        )

    @_alone
    def comment(self, *, max_tokens: int | None = None) -> Steps[Utterance]:
        """Say something after the last frame; yields the text in pieces and stays in memory."""
        yield from self._settle()
        turn = OpenTurn(SpanKind.COMMENT, self._frame_time_s, self._codec.opening)
        return (yield from self._speaker.say(turn, max_tokens or self.settings.speaking.max_comment_tokens))

    @_alone
    def answer(
        self,
        question: str,
        attachments: Sequence[Attachment] = (),
        *,
        keep_attachments: bool = False,
        max_tokens: int | None = None,
    ) -> Steps[Utterance]:
        """Answer a user's question; both stay in memory as text.

        Attachments take at most a quarter of the vision window, are seen for this answer alone, and leave no token
        unless they are kept.
        """
        yield from self._settle()
        asked = self._turn(SpanKind.QUESTION, question)
        limit = max_tokens or self.settings.speaking.max_answer_tokens
        turn = OpenTurn(SpanKind.ANSWER, self._frame_time_s, self._codec.opening, asked)
        if not attachments:
            return (yield from self._speaker.say(turn, limit))
        budget = self._context.ledger.window.vision_low // 4
        attached = attach(self._runtime, question, attachments, budget).span(self._frame_time_s)
        if not keep_attachments:
            return (yield from self._speaker.say_on_fork(turn, attached, limit))
        turn.question = attached
        return (yield from self._speaker.say(turn, limit))

    @_alone
    def check(self, question: str) -> Steps[Check]:
        """Is it so, now? A yes/no question on a fork: cache, clock and later output stay exactly as they were."""
        yield from self._start()
        ids = self._codec.encode(self._codec.prompt.turn("user", question) + self._codec.prompt.opening("assistant"))
        yes, no = self._codec.yes_no
        return (yield from self._check(ids, yes, no))

    @_alone
    def check_ids(self, ids: Sequence[int], yes: Sequence[int], no: Sequence[int]) -> Steps[Check]:
        """`check`, with the token ids of the question and of both answers given."""
        yield from self._start()
        return (yield from self._check(ids, yes, no))

    @_alone
    def instruct(self, text: str | None) -> Steps[None]:
        """A new standing instruction, pinned, from here on; the old one leaves. `None` only takes the old one away."""
        yield from self._settle()
        old = [span for span in self._context.ledger if span.kind is SpanKind.INSTRUCTION]
        if text:
            self._turn(SpanKind.INSTRUCTION, text, pinned=True)  # refused before the old one leaves
        self._context.remove(old, "standing instruction replaced" if text else "standing instruction withdrawn")
        # As a pinned turn still to come: where this job is stopped here, the next one prefills it.
        self._preamble.append((SpanKind.INSTRUCTION, text))
        yield from self._start()

    @_alone
    def note_gap(self, seconds: float) -> Steps[None]:
        """Tell the model that it saw nothing for a while."""
        yield from self._settle()
        yield from self._append(self._turn(SpanKind.GAP, f"(No picture for {seconds:.1f} seconds.)"))
        self._context.evict()

    @_alone
    def cut(self) -> Steps[Utterance | None]:
        """Close a turn whose job was cancelled; gives what it had said, `None` where nothing was open."""
        yield from self._start()
        return (yield from self._speaker.close_open())

    @_alone
    def forget(self) -> Steps[None]:
        """Forget everything but pinned text; the next frame is kept whole and its time is the new zero."""
        yield from self._settle()
        self._context.forget("asked to forget")
        self._view.keep_next_whole()
        self._time.restart()
        yield from self._context.rebuild()

    @_alone
    def feed_text(self, ids: Sequence[int]) -> Steps[torch.Tensor]:
        """Append given token ids as one unit of text; gives logits `[num_ids, vocab]`."""
        yield from self._settle()
        span = Span(SpanKind.TEXT, list(ids), time_s=self._frame_time_s)
        logits = yield from self._append(span, logits_everywhere=True)
        self._context.evict()
        return logits

    @_alone
    def feed_picture(
        self, image: np.ndarray, head: Sequence[int], tail: Sequence[int]
    ) -> Steps[tuple[np.ndarray, torch.Tensor]]:
        """Append a picture between given token ids, pruned as this session prunes.

        Gives the kept cells, bool `[num_cells]`, and logits at each appended token, `[num_tokens, vocab]`.
        """
        yield from self._settle()
        grid, _ = self._look(image)
        patches = self._view.patches(image)
        pruning = self._prune(patches, grid, self._frame_time_s)
        span = self._frame_span(patches, pruning, self._frame_time_s, head, tail)
        logits = yield from self._append(span, logits_everywhere=True)
        self._context.evict()
        return pruning.keep, logits

    @_alone
    def continue_text(self, num_tokens: int) -> Steps[list[int]]:
        """How the model would go on after the last token, on a fork: `num_tokens` ids, whatever they are."""
        yield from self._settle()
        logits = self._context.last_logits
        if logits is None:
            raise SessionError("the memory changed since text or a frame was appended: append one before going on")
        said: list[int] = []
        with self._context.fork():
            while True:
                said.append(self._sampler.choose(logits, said).token)
                if len(said) >= num_tokens:
                    return said
                logits = yield from self._context.extend(self._runtime.embed(said[-1:]))

    def _start(self) -> Steps[None]:
        """Bring a stale cache up to date; prefill the pinned turns once."""
        if self._context.is_stale:
            yield from self._context.rebuild()
        while self._preamble:
            kind, text = self._preamble[0]
            if kind is SpanKind.SYSTEM and text is None:
                text = self._codec.prompt.default_system
            if text:
                yield from self._append(self._turn(kind, text, pinned=True))
            self._preamble.pop(0)

    def _settle(self) -> Steps[None]:
        """Started, up to date, and no turn open."""
        yield from self._start()
        yield from self._speaker.close_open()

    def _look(self, image: np.ndarray) -> tuple[CellGrid, bool]:
        """The view's grid, fixed on the first picture and anew on each of another size; whether that was a change."""
        new = self._view.new_grid(image, self.settings.max_cells)
        old = self._view.grid
        if new is None:
            assert old is not None
            return old, False
        ledger = self._context.ledger
        window = self.settings.window
        if old is None and not self._widen_window:
            self.settings.check_window(new.num_cells, self.settings.fps)
        else:
            fitted = self.settings.fitted(new.num_cells, self.settings.fps)
            if old is None:
                fitted.check_envelope(self.settings, new.num_cells)
            window = fitted.window
        if old is not None and window.vision_low < ledger.window.vision_low:
            # Memory stays, and a larger view in the middle of a stream widens the window rather than end the stream.
            window = ledger.window
        self._view.begin(image, new, replace(self.settings, window=window))
        self._context.set_window(window)
        if old is not None:
            ledger.begin_view()
        return new, old is not None

    def _prune(self, patches: torch.Tensor, grid: CellGrid, time_s: float) -> Pruning:
        ledger = self._context.ledger
        must_keep = ledger.at_risk(grid.num_cells, grid.num_cells + FRAME_OVERHEAD_TOKENS)
        must_keep |= ~ledger.cells_in_view(grid.num_cells)
        return self._view.prune(patches, time_s, ledger.num_appended, must_keep)

    def _frame_span(
        self, patches: torch.Tensor, pruning: Pruning, time_s: float, head: Sequence[int], tail: Sequence[int]
    ) -> Span:
        """A frame's unit between the ids of its wrapper, encoded."""
        tokens = self._view.encode(patches, pruning.keep, time_s)
        image = self._special.image
        return frame_span(head, pruning.keep, tail, image, time_s=time_s, vision=tokens.embeddings)

    def _rebase(self, time_s: float) -> Steps[bool]:
        """Move the zero of the shown time where it has grown too large: what is older leaves, the rest is told anew."""
        if self._time.shown(time_s) <= self.settings.max_shown_time_s:
            return False
        base_s = round(time_s - self.settings.rebase_keep_s, 6)
        self._time.rebase(base_s)
        self._context.evict_before(base_s, "older than the time that the model is shown")
        for span in self._context.ledger:
            if span.kind is SpanKind.FRAME and span.time_s is not None:
                head = self._codec.frame_head(self._time.shown(span.time_s))
                span.ids = head + span.ids[span.first_image :]
                span.first_image = len(head)
        self._num_rebases += 1
        yield from self._context.rebuild()
        return True

    def _append(self, span: Span, *, logits_everywhere: bool = False) -> Steps[torch.Tensor]:
        """Append a unit to cache and ledger; gives logits at its last token, or at each."""
        logits = yield from self._context.extend(
            self._context.embeddings(span), "all" if logits_everywhere else "last"
        )
        self._context.enter(span)
        return logits

    def _turn(self, kind: SpanKind, text: str, *, pinned: bool = False) -> Span:
        role = "system" if kind is SpanKind.SYSTEM else "user"
        ids = self._codec.encode(self._codec.prompt.turn(role, text))
        span = Span(kind, ids, time_s=None if pinned else self._frame_time_s, pinned=pinned)
        limit = self._context.ledger.window.text_low
        if len(span) > limit and kind is not SpanKind.SYSTEM:
            raise SessionError(
                f"{kind} of {len(span)} tokens: at most {limit} fit the text window; shorten it, or raise text_low"
            )
        return span

    def _might_speak(self, score: float, speak_above: float | None) -> bool:
        if speak_above is not None:
            return score > speak_above
        speaking = self.settings.speaking
        calibrated = speaking.platt_scale * score + speaking.platt_shift
        return speaking.decision == "trained" and calibrated > NEAR_SPEAKING

    def _log_p_assistant(self) -> Steps[float]:
        """log P of the word `assistant` after `<|im_start|>`, on a fork."""
        word = self._codec.assistant
        with self._context.fork():
            logits = yield from self._context.extend(self._runtime.embed([self._special.im_start, *word[:-1]]), "all")
        chosen = torch.tensor(word, device=logits.device)[:, None]
        return float(logits.float().log_softmax(-1).gather(1, chosen).sum())

    def _check(self, ids: Sequence[int], yes: Sequence[int], no: Sequence[int]) -> Steps[Check]:
        with self._context.fork():
            logits = yield from self._context.extend(self._runtime.embed([*self._speaker.owed, *ids]))
        row = logits[-1].float()
        log_odds = float(row[list(yes)].logsumexp(-1) - row[list(no)].logsumexp(-1))
        return Check(yes=log_odds > 0, log_odds=log_odds)
