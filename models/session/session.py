"""One stream's session with the model: sees frames, comments, answers and checks, all from one rolling memory.

The methods are steps (see `models.session.steps`): the engine runs them on its own thread, one at a time per session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from models.checkpoint.settings import StreamSettings
from models.errors import SessionError
from models.eviction import ATTACHED_WORDS, Eviction, WindowSettings
from models.session.choices import AnswerChoice, check_and_choose
from models.session.context import Chunks, Context
from models.session.exclusive import exclusive
from models.session.frame_encoder import FrameEncoder, PruningMode
from models.session.grid_fitter import Fitter
from models.session.media_turns import Attachment, Encoded, attach, encode
from models.session.probes import Probes
from models.session.rebase import FRAMES_AHEAD, ComingRebase, new_heads
from models.session.results import CacheUsage, Check, Sight
from models.session.runtime import Runtime
from models.session.steps import StepGenerator, as_steps
from models.session.stream_time import StreamTime
from models.session.token_sampling import TokenSampler
from models.session.turns import OpenTurn, Speaker, Utterance
from models.spans import Span, SpanKind, frame_span
from streaming.difffp.live import CellGrid, Pruning
from streaming.difffp.refresh import FRAME_OVERHEAD_TOKENS
from streaming.types import Frame

MOST_GAP_S = 10.0
"""Longest part of a gap that counts in the time shown to the model; the gap's text gives its true length."""
_ROLES = {SpanKind.SYSTEM: "system", SpanKind.ANSWER: "assistant"}
"""Who says a turn of each kind; the user says the others."""


class Session:
    """The model's side of one stream. Created by `Engine.open_session`."""

    def __init__(
        self,
        runtime: Runtime,
        settings: StreamSettings,
        *,
        widen_window: bool,
        system: str | None = None,
        instruction: str | None = None,
        pruning: PruningMode = "live",
        sampler: TokenSampler | None = None,
        chunks: Chunks | None = None,
        most_tokens: int | None = None,
    ) -> None:
        """widen_window: widen the vision window to fit the grid; otherwise a window too small for the grid is refused.

        system: `None` for the checkpoint's default, an empty string for no system turn. most_tokens: capacity of the
        cache in tokens; `None` derives it from the windows.
        """
        self.settings = settings
        self._runtime = runtime
        self._codec = runtime.codec
        self._special = runtime.checkpoint.special
        self._widen_window = widen_window
        self._context = Context(runtime, settings.window, settings.max_cells, chunks, most_tokens)
        self._is_exact = pruning != "live"
        """Whether pictures are resized as the published processors do, to the pixel."""
        self._view = FrameEncoder(runtime.checkpoint.vision, pruning)
        self._sampler = sampler or TokenSampler()
        self._speaker = Speaker(runtime, self._context, self._sampler)
        self._readings = Probes(runtime, self._context, settings.speaking)
        self._time = StreamTime(1 / settings.fps)
        self._shows_instructions = settings.speaking.remark_check is None
        self._preamble = [(SpanKind.SYSTEM, system)]
        if self._shows_instructions:
            self._preamble.append((SpanKind.INSTRUCTION, instruction))
        self._frame_time_s: float = 0.0
        self._coming: ComingRebase | None = None
        """The next rebase, once it is near."""
        self._num_rebases = 0
        self._num_rebases_told = 0
        self._widened: WindowSettings | None = None
        self._grid_changed = False
        """Whether the grid changed since the last frame that was reported."""
        self._busy: str | None = None

    @property
    def usage(self) -> CacheUsage:
        """How full the session is now."""
        counts = self._context.ledger.tokens_by_kind()
        return CacheUsage(
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
    def remembered_s(self) -> float:
        """Media time from the oldest frame that still has visual tokens to now; long gaps count as ten seconds."""
        return self._context.ledger.seen_s

    @property
    def context(self) -> Context:
        """Cache and ledger, for reading."""
        return self._context

    @property
    def grid(self) -> CellGrid | None:
        """The current grid; `None` before the first frame."""
        return self._view.grid

    @property
    def fitter(self) -> Fitter:
        """An object that resizes frames to the grid of `see` in advance, on another thread."""
        return Fitter(self._runtime.checkpoint.vision, self.settings.max_cells, is_exact=self._is_exact)

    def check_size(self, width_px: int, height_px: int) -> None:
        """Raise `VisionError` or `SettingsError` for a picture size that the session cannot take, before a source
        starts."""
        self._runtime.checkpoint.vision.check_picture(width_px, height_px)
        grid = self._runtime.checkpoint.vision.fit_grid(width_px, height_px, max_cells=self.settings.max_cells)
        self._view.pruner(grid, replace(self.settings, window=self._window_of(self.settings, grid)))

    def check_instruction(self, text: str | None) -> None:
        """Raise `SessionError` for a standing instruction that does not fit the text window."""
        if text:
            self._turn(SpanKind.INSTRUCTION, text, pinned=True)

    def take_evictions(self) -> tuple[Eviction, ...]:
        """Evictions since the last frame, or since the last call."""
        return self._context.take_evictions()

    def hot_cells(self) -> np.ndarray:
        """Bool `[num_cells]`: cells that change in nearly every frame, candidates for a mask."""
        return self._view.hot_cells()

    @exclusive
    @as_steps
    def see(self, frame: Frame, *, speak_above: float | None = None) -> StepGenerator[Sight]:
        """Show the next frame to the model; append it where something changed, settled, or was about to be evicted.

        speak_above: measure log P(assistant), in the frame's own pass, where the raw score s lies above this value;
        `None` measures it where a trained decision is near its threshold.
        """
        started_at = self._runtime.now()
        yield from self._settle()
        grid = self._look(frame.image)
        time_s = self._time.enter(frame.pts_s)
        yield from self._rebase(time_s)
        forward_ms, encode_ms, ready_at = self._context.elapsed_ms, self._view.elapsed_ms, self._runtime.now()
        try:
            patches = self._view.patches(frame.image, frame.on_grid, is_repeated=frame.is_repeated)
            pruning = self._prune(patches, grid, time_s)
            pruned_at = self._runtime.now()
            span, score, log_p = None, None, None
            if pruning.appended:
                head = self._codec.frame_head(self._time.shown(time_s))
                span = yield from self._frame_span(patches, pruning, time_s, head, self._codec.frame_tail)
                span.frame_index = frame.index
                opening = self._readings.opening(speak_above)
                logits, tried = yield from self._context.extend_and_try(self._context.embeddings(span), opening)
                self._context.enter(span)
                self._frame_time_s = time_s
                score = self._readings.score(logits)
                if tried is not None and self._readings.might_speak(score, speak_above):
                    log_p = self._readings.log_p_assistant(tried)
            self._context.evict()
        except BaseException:
            # The frame encoder takes the frame for appended, which it is not; keeping the next frame whole repairs
            # that.
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
            rebased=self._take_rebased(),
            grid_changed=self._take_grid_changed(),
            widened=self._take_widened(),
            timings={
                "prune": 1e3 * (pruned_at - ready_at),
                "encode": self._view.elapsed_ms - encode_ms,
                "prefill": self._context.elapsed_ms - forward_ms,
                "total": 1e3 * (self._runtime.now_done() - started_at),
            },
        )

    @exclusive
    @as_steps
    def comment(self, *, max_tokens: int | None = None) -> StepGenerator[Utterance]:
        """Generate a remark after the last frame; yields its text in pieces and keeps it in memory."""
        yield from self._settle()
        turn = OpenTurn(SpanKind.COMMENT, self._frame_time_s, self._codec.opening)
        return (yield from self._speaker.say(turn, max_tokens or self.settings.speaking.max_comment_tokens))

    @exclusive
    @as_steps
    def retract(self) -> StepGenerator[None]:
        """Remove the last turn, which no one has heard, from memory; does nothing where something was appended after
        it."""
        yield from self._settle()
        self._speaker.retract()

    @exclusive
    @as_steps
    def quote(self, turns: Sequence[tuple[SpanKind, str]]) -> StepGenerator[None]:
        """Append turns of a conversation that went before, questions and answers; they are pinned."""
        yield from self._settle()
        for kind, text in turns:
            yield from self._append(self._turn(kind, text, pinned=True))

    @exclusive
    @as_steps
    def answer(
        self,
        question: str,
        attachments: Sequence[Attachment] = (),
        *,
        keep_attachments: bool = False,
        aside: bool = False,
        max_tokens: int | None = None,
    ) -> StepGenerator[Utterance]:
        """Answer a user's question; both stay in memory as text, unless the question is `aside`.

        Attachments take at most a quarter of the vision window and are visible for this answer only, unless
        `keep_attachments`.
        """
        yield from self._settle()
        asked = self._turn(SpanKind.QUESTION, question)
        limit = max_tokens or self.settings.speaking.max_answer_tokens
        turn = OpenTurn(SpanKind.ANSWER, self._frame_time_s, self._codec.opening, asked)
        if not attachments:
            say = self._speaker.say_aside(turn, asked, limit) if aside else self._speaker.say(turn, limit)
            return (yield from say)
        budget = self._context.ledger.window.vision_low // 4
        made = yield from attach(self._runtime, question, attachments, budget)
        attached = made.span(self._frame_time_s)
        self._check_words(attached)
        if aside:
            return (yield from self._speaker.say_aside(turn, attached, limit))
        if not keep_attachments:
            return (yield from self._speaker.say_on_fork(turn, attached, limit))
        turn.question = attached
        return (yield from self._speaker.say(turn, limit))

    @as_steps
    def encode(self, attachments: Sequence[Attachment]) -> StepGenerator[tuple[Encoded, ...]]:
        """Encode attachments ahead of their question, in steps that may run between this session's other steps."""
        return (yield from encode(self._runtime, attachments, self._context.ledger.window.vision_low // 4))

    @exclusive
    @as_steps
    def check(self, question: str) -> StepGenerator[Check]:
        """Answer a yes/no question about now, on a fork: cache, clock and later output are unchanged."""
        return (yield from self._check_and_choose([question], ()))[0][0]

    @exclusive
    @as_steps
    def check_all(self, questions: Sequence[str]) -> StepGenerator[list[Check]]:
        """`check` for several questions, which share passes and are blind to each other."""
        return (yield from self._check_and_choose(questions, ()))[0]

    @exclusive
    @as_steps
    def check_and_choose(
        self, questions: Sequence[str], choices: Sequence[tuple[str, Sequence[str]]]
    ) -> StepGenerator[tuple[list[Check], list[list[float]]]]:
        """`check_all`, and how probable each of some answers to further questions is; they share passes.

        choices: questions with their answers, for each of which shares that add up to 1 are returned. Raises
        `SessionError` for an empty answer.
        """
        return (yield from self._check_and_choose(questions, choices))

    @exclusive
    @as_steps
    def check_ids(self, ids: Sequence[int], yes: Sequence[int], no: Sequence[int]) -> StepGenerator[Check]:
        """`check` with the token ids of the question and of both answers."""
        yield from self._start()
        return (yield from self._readings.yes_or_no([[*self._speaker.owed, *ids]], yes, no))[0]

    @exclusive
    @as_steps
    def instruct(self, text: str | None) -> StepGenerator[None]:
        """Replace the standing instruction, which is pinned, from now on; `None` removes it.

        A checkpoint that judges its drafts (`SpeakingSettings.remark_check`) is asked about the instruction then and
        does not see it in its context.
        """
        self.check_instruction(text)  # refused before the old one is removed
        if not self._shows_instructions:
            return
        yield from self._settle()
        old = [span for span in self._context.ledger if span.kind is SpanKind.INSTRUCTION]
        # A pinned turn that is not prefilled yet: where this job fails or is stopped from here on, the next job
        # prefills it.
        self._preamble.append((SpanKind.INSTRUCTION, text))
        self._context.remove(old, "standing instruction replaced" if text else "standing instruction withdrawn")
        yield from self._start()

    @exclusive
    @as_steps
    def expect(self, fps: float) -> StepGenerator[None]:
        """Set the expected frame rate: memory stays, and the vision window is widened where necessary.

        Raises `SettingsError` where a new session with this rate would be refused; this one then goes on unchanged.
        """
        settings, grid, present = replace(self.settings, fps=fps), self._view.grid, self._context.ledger.window
        window = present if grid is None else self._window_of(settings, grid)
        if window.vision_low > present.vision_low:
            self._view.restart(replace(settings, window=window))
            self._context.set_window(window)
            self._widened = window
        self.settings = settings
        self._time.expect(1 / fps)
        yield from ()

    @exclusive
    @as_steps
    def note_gap(self, seconds: float) -> StepGenerator[None]:
        """Tell the model that it saw nothing for `seconds`.

        Only a few seconds of a long gap count in the shown time, which would otherwise leave the trained range.
        """
        # First, even if the rest fails: with the full length of a long gap, the next frame's rebase would remove all
        # memory.
        self._time.skip(max(0.0, seconds - MOST_GAP_S))
        yield from self._settle()
        yield from self._append(self._turn(SpanKind.GAP, f"(No picture for {seconds:.1f} seconds.)"))
        self._context.evict()

    @exclusive
    @as_steps
    def cut(self) -> StepGenerator[Utterance | None]:
        """Close a turn whose job was cancelled; returns what was said, `None` where no turn was open."""
        yield from self._start()
        return (yield from self._speaker.close_open())

    @exclusive
    @as_steps
    def forget(self) -> StepGenerator[None]:
        """Remove everything but pinned text; the next frame is kept whole and its time becomes zero."""
        yield from self._settle()
        self._coming = None
        self._context.drop_tail()
        self._context.forget("asked to forget")
        self._view.keep_next_whole()
        self._time.restart()
        yield from self._context.rebuild()

    @exclusive
    @as_steps
    def feed_text(self, ids: Sequence[int]) -> StepGenerator[torch.Tensor]:
        """Append token ids as one unit of text; returns logits `[num_ids, vocab]`."""
        yield from self._settle()
        span = Span(SpanKind.TEXT, list(ids), time_s=self._frame_time_s)
        logits = yield from self._append(span, logits_everywhere=True)
        self._context.evict()
        return logits

    @exclusive
    @as_steps
    def feed_picture(
        self, image: np.ndarray, head: Sequence[int], tail: Sequence[int]
    ) -> StepGenerator[tuple[np.ndarray, torch.Tensor]]:
        """Append a picture between token ids, pruned in this session's mode.

        Returns the kept cells, bool `[num_cells]`, and logits at each appended token, `[num_tokens, vocab]`.
        """
        yield from self._settle()
        grid = self._look(image)
        patches = self._view.patches(image)
        try:
            pruning = self._prune(patches, grid, self._frame_time_s)
            span = yield from self._frame_span(patches, pruning, self._frame_time_s, head, tail)
            logits = yield from self._append(span, logits_everywhere=True)
            self._context.evict()
        except BaseException:
            self._view.keep_next_whole()
            raise
        return pruning.keep, logits

    @exclusive
    @as_steps
    def continue_text(self, num_tokens: int) -> StepGenerator[list[int]]:
        """Greedy continuation after the last token, on a fork: exactly `num_tokens` ids, end tokens included."""
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

    @as_steps
    def _check_and_choose(
        self, questions: Sequence[str], choices: Sequence[tuple[str, Sequence[str]]]
    ) -> StepGenerator[tuple[list[Check], list[list[float]]]]:
        yield from self._start()
        encoded = [
            AnswerChoice(self._question_ids(question), [self._codec.encode(answer) for answer in answers])
            for question, answers in choices
        ]
        for choice, (_, answers) in zip(encoded, choices, strict=True):
            if not all(choice.answers):
                raise SessionError(f"answers {list(answers)!r}: one is empty; give words to each")
        asked = [self._question_ids(question) for question in questions]
        return (yield from check_and_choose(self._runtime, self._context, self._readings, asked, encoded))

    def _question_ids(self, question: str) -> list[int]:
        """What is owed to the memory, a question, and the opening of its answer."""
        turn = self._codec.prompt.turn("user", question) + self._codec.prompt.opening("assistant")
        return [*self._speaker.owed, *self._codec.encode(turn)]

    @as_steps
    def _start(self) -> StepGenerator[None]:
        """Rebuild a stale cache; prefill the pinned turns once."""
        self._context.check(self._speaker.num_cached)
        if self._context.is_stale:
            self._speaker.mark_uncached()
            yield from self._context.rebuild()
        if not self._speaker.num_cached:
            self._context.catch_up()
        while self._preamble:
            kind, text = self._preamble[0]
            if kind is SpanKind.SYSTEM and text is None:
                text = self._codec.prompt.default_system
            if text:
                yield from self._append(self._turn(kind, text, pinned=True))
            self._preamble.pop(0)

    @as_steps
    def _settle(self) -> StepGenerator[None]:
        """Ensure that the session is started, its cache valid, and no turn open."""
        yield from self._start()
        yield from self._speaker.close_open()

    def _look(self, image: np.ndarray) -> CellGrid:
        """The grid for a picture: fixed on the first one, and a new one for each change of size."""
        new = self._view.new_grid(image, self.settings.max_cells)
        old = self._view.grid
        if new is None:
            assert old is not None
            return old
        ledger = self._context.ledger
        window = self._window_of(self.settings, new) if old is None else self._later_window(new)
        self._view.begin(image, new, replace(self.settings, window=window))
        if window.vision_low > ledger.window.vision_low:
            self._widened = window
        self._context.set_window(window)
        if old is not None:
            ledger.begin_view()
            self._grid_changed = True
        return new

    def _window_of(self, settings: StreamSettings, grid: CellGrid) -> WindowSettings:
        """The windows for a first grid: widened to fit it, or refused where the user chose them."""
        if not self._widen_window:
            settings.check_window(grid.num_cells, settings.fps)
            return settings.window
        fitted = settings.fitted(grid.num_cells, settings.fps)
        fitted.check_envelope(settings, grid.num_cells)
        return fitted.window

    def _later_window(self, grid: CellGrid) -> WindowSettings:
        """The windows for a new grid in the middle of a stream, always widened, because memory stays and the stream
        must go on."""
        fitted, present = self.settings.fitted(grid.num_cells, self.settings.fps).window, self._context.ledger.window
        return present if fitted.vision_low < present.vision_low else fitted

    def _take_grid_changed(self) -> bool:
        """Whether the grid changed since the last report: with this frame, or with one that failed afterwards."""
        taken, self._grid_changed = self._grid_changed, False
        return taken

    def _take_widened(self) -> WindowSettings | None:
        taken, self._widened = self._widened, None
        return taken

    def _take_rebased(self) -> bool:
        """Whether the time was rebased since the last report: by this frame, or by one that failed afterwards."""
        rebased = self._num_rebases > self._num_rebases_told
        self._num_rebases_told = self._num_rebases
        return rebased

    def _prune(self, patches: torch.Tensor, grid: CellGrid, time_s: float) -> Pruning:
        ledger = self._context.ledger
        must_keep = ledger.at_risk(grid.num_cells, grid.num_cells + FRAME_OVERHEAD_TOKENS)
        must_keep |= ~ledger.cells_in_view(grid.num_cells)
        must_keep |= self._leaving_by_rebase(time_s, grid.num_cells)
        return self._view.prune(patches, time_s, ledger.num_appended, must_keep)

    @as_steps
    def _frame_span(
        self, patches: torch.Tensor, pruning: Pruning, time_s: float, head: Sequence[int], tail: Sequence[int]
    ) -> StepGenerator[Span]:
        """A frame's encoded unit, between the ids of its wrapper."""
        tokens = yield from self._view.encode(patches, pruning.keep, time_s)
        image = self._special.image
        return frame_span(head, pruning.keep, tail, image, time_s=time_s, vision=tokens.embeddings)

    def _leaving_by_rebase(self, time_s: float, num_cells: int) -> np.ndarray:
        """Bool `[num_cells]`: cells to keep again now, because the next rebase would remove all their tokens.

        Kept only after the rebase, or all in one frame before it, an unchanged view would look new to the model. So the
        cells are spread over the last frames before it.
        """
        frames_left = (self.settings.max_shown_time_s - self._time.shown(time_s)) * self.settings.fps
        base_s = time_s + (frames_left + 1) / self.settings.fps - self.settings.rebase_keep_s
        if frames_left > FRAMES_AHEAD or base_s >= time_s:
            return np.zeros(num_cells, dtype=bool)
        due = np.arange(num_cells) % FRAMES_AHEAD >= frames_left - 2
        leaving: np.ndarray = due & ~self._context.ledger.cells_in_view(num_cells, base_s)
        return leaving

    @as_steps
    def _rebase(self, time_s: float) -> StepGenerator[None]:
        """Move the zero of the shown time where that has grown too large: older units leave, the others are prefilled
        again. In the last frames before, prepare it."""
        self._context.ledger.headroom = 0
        if self._time.shown(time_s) <= self.settings.max_shown_time_s:
            yield from self._prepare_rebase(time_s)
            return
        base_s = round(time_s - self.settings.rebase_keep_s, 6)
        if self._coming is not None and self._coming.base_s <= time_s and self._is_close(base_s):
            base_s = self._coming.base_s
            self._coming.finish()
        else:
            self._context.drop_tail()
        heads = new_heads(self._codec, self._time, self._context.ledger, base_s)
        # Nothing is computed from here on, so base, ledger and wrappers change together; the cache is stale at once.
        self._coming = None
        self._time.rebase(base_s)
        self._context.evict_before(base_s, "older than the time that the model is shown")
        self._context.ledger.rewrite_heads(heads)
        self._num_rebases += 1
        self._context.adopt_tail()
        yield from self._context.rebuild()

    @as_steps
    def _prepare_rebase(self, time_s: float) -> StepGenerator[None]:
        """Plan a rebase that is near, and prefill a part of what it keeps."""
        step_s = self._time.step_s
        num_frames = 1 + math.floor((self.settings.max_shown_time_s - self._time.shown(time_s)) / step_s + 1e-6)
        base_s = round(time_s + num_frames * step_s - self.settings.rebase_keep_s, 6)
        if num_frames > FRAMES_AHEAD:
            self._coming = None
            self._context.drop_tail()
        elif self._is_close(base_s):
            assert self._coming is not None
            yield from self._coming.prefill_part(num_frames)
        else:
            self._context.drop_tail()
            self._coming = ComingRebase(self._context, self._codec, self._time, base_s)
            self._context.ledger.headroom = self._coming.headroom(time_s - num_frames * step_s)

    def _is_close(self, base_s: float) -> bool:
        """Whether the next rebase is planned, to a base that differs from this one by two frames at most."""
        return self._coming is not None and abs(base_s - self._coming.base_s) <= 2 * self._time.step_s + 1e-6

    @as_steps
    def _append(self, span: Span, *, logits_everywhere: bool = False) -> StepGenerator[torch.Tensor]:
        """Append a unit to cache and ledger; returns logits at its last token, or at each token."""
        logits = yield from self._context.extend(self._context.embeddings(span), "all" if logits_everywhere else "last")
        self._context.enter(span)
        return logits

    def _check_words(self, attached: Span) -> None:
        """Raise `SessionError` for attachments with more text around their pictures than the cache has room for."""
        num_words, limit = len(attached) - attached.num_visual, ATTACHED_WORDS * self._context.ledger.window.text_low
        if num_words > limit:
            raise SessionError(
                f"a question with {num_words} tokens besides its pictures: at most {limit}; attach fewer pictures, "
                "shorten the question, or raise text_low"
            )

    def _turn(self, kind: SpanKind, text: str, *, pinned: bool = False) -> Span:
        role = _ROLES.get(kind, "user")
        ids = self._codec.encode(self._codec.prompt.turn(role, text))
        span = Span(kind, ids, time_s=None if pinned else self._frame_time_s, pinned=pinned)
        limit = self._context.ledger.window.text_low
        if len(span) > limit:
            raise SessionError(
                f"{kind} of {len(span)} tokens: at most {limit} fit the text window; shorten it, or raise text_low"
            )
        return span
