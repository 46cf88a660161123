"""One stream from its frames to its events: see, decide, speak. The engine's thread drives it; `ask` is for any thread.

The methods are steps (`models.session.steps`): they yield forward passes and can be stopped between two of them, so
that the engine may advance many streams side by side.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from assistant.errors import StoreError
from assistant.events import Answer, Comment, Detail, StatusEvent, StatusKind, StreamEvent
from assistant.stream.mask_proposals import propose_masks
from assistant.stream.question_queue import PendingQuestion, Question, QuestionQueue, Unanswered
from assistant.stream.speaking import Decision, DecisionCurve, Observation, Reason, SpeakingPolicy
from assistant.stream.spoken_turns import SpokenTurn, TurnStream
from assistant.stream.stats import StreamStats
from assistant.stream.zones import ZoneGate
from models.errors import ModelError
from models.session.steps import StepGenerator, Steps, as_steps, drop_traceback
from streaming.types import Frame, Notice, NoticeKind

if TYPE_CHECKING:
    import numpy as np

    from assistant.timeline.recall import Recalled
    from models.eviction import Eviction
    from models.session.media_turns import Attachment
    from models.session.results import Check, Sight
    from models.session.turns import Utterance
    from streaming.clock import Clock
    from streaming.masks import MaskRegion

LOOK_FIRST_S = 1.0
"""How long a question about what is seen now waits, at most, for a picture that was taken after it was put."""
MASKS_AFTER_S = 60.0
"""How long to watch before a mask is proposed: shorter, and whatever moves looks as lasting as a clock."""
MASKS_EVERY = 32
"""Sampled frames between two looks at what might be masked."""

logger = logging.getLogger(__name__)

INSTRUCTION_CHECK = (
    'You were told: "{instruction}" Judging by the latest frames, should you say something now? Answer yes or no.'
)


class ModelSession(Protocol):
    """What a stream needs of the model's side (`models.session.session.Session`)."""

    def check_size(self, width_px: int, height_px: int) -> None: ...

    def check_instruction(self, text: str | None) -> None: ...

    def see(self, frame: Frame, *, speak_above: float | None = None) -> Steps[Sight]: ...

    def comment(self) -> Steps[Utterance]: ...

    def answer(
        self, question: str, attachments: Sequence[Attachment] = (), *, aside: bool = False
    ) -> Steps[Utterance]: ...

    def encode(self, attachments: Sequence[Attachment]) -> Steps[Sequence[Attachment]]: ...

    def check(self, question: str) -> Steps[Check]: ...

    def instruct(self, text: str | None) -> Steps[None]: ...

    def forget(self) -> Steps[None]: ...

    def expect(self, fps: float) -> Steps[None]: ...

    def note_gap(self, seconds: float) -> Steps[None]: ...

    def cut(self) -> Steps[Utterance | None]: ...

    def retract(self) -> Steps[None]: ...

    def take_evictions(self) -> tuple[Eviction, ...]: ...

    def hot_cells(self) -> np.ndarray: ...

    @property
    def remembered_s(self) -> float: ...

    @property
    def fitter(self) -> Callable[[Frame], Frame]: ...


class StreamSession:
    """Sees the frames of one stream, decides when to speak, and answers questions."""

    def __init__(
        self,
        model: ModelSession,
        policy: SpeakingPolicy,
        clock: Clock,
        emit: Callable[[StreamEvent], None],
        *,
        pace: float = 0.0,
        instruction: str | None = None,
        questions: Iterable[Question] = (),
        on_sight: Callable[[Frame, Sight, Decision], None] = lambda frame, sight, decision: None,
        zones: Sequence[MaskRegion] = (),
        recall: Callable[[str, float, float], Recalled | None] = lambda question, media_s, remembered_s: None,
    ) -> None:
        """`pace`: seconds of media a second while nothing is read: 1 for live sources, 0 where media time waits.

        on_sight: called with each frame, what the model made of it and what was decided, before anything is said.
        zones: where something must change for a remark; everywhere where there are none. recall: asked before the
        model about a question, with media time now and how far back the model remembers; None leaves it to the model.
        """
        self._model = model
        self._policy = policy
        self._clock = clock
        self._emit = emit
        self.pace = pace
        """Seconds of media a second while nothing is read; the engine's thread may change it."""
        self._instruction = instruction
        self._questions = QuestionQueue(questions)
        self._on_sight = on_sight
        self._recall = recall
        self._zones = ZoneGate(zones)
        self._stopping = threading.Event()
        self._frame: Frame | None = None
        self._is_answering = self._has_answered = False
        self._seen_at_s = -math.inf
        self._grid_told = False
        self._masks_told = False
        self._known_s = 0.0
        self.curve = DecisionCurve()
        self.stats = StreamStats()

    def ask(
        self,
        text: str,
        attachments: Sequence[Attachment] = (),
        *,
        aside: bool = False,
        asked: PendingQuestion | None = None,
    ) -> None:
        """Ask about what is seen now; any thread. Raises `TooManyQuestions` where too many wait.

        aside: leave no trace in memory. asked: who waits for the answer.
        """
        self._questions.ask(text, attachments, aside=aside, asked=asked, put_at_s=self._clock.now_s())

    @as_steps
    def encode(
        self, attachments: Sequence[Attachment], stop: Callable[[], bool]
    ) -> StepGenerator[Sequence[Attachment] | None]:
        """Encode a question's attachments, in turns with the frames of the stream; None where `stop` ended that."""
        listener = TurnStream(self._clock)
        return (
            yield from listener.left_off(self._model.encode(attachments), lambda: stop() or self._stopping.is_set())
        )

    @property
    def is_answering(self) -> bool:
        """Whether a question is being answered now."""
        return self._is_answering

    def take_answered(self) -> bool:
        """Whether a question was being answered since the last call."""
        taken, self._has_answered = self._has_answered, self._is_answering
        return taken

    @property
    def is_asked(self) -> bool:
        """Whether a question is due that could be answered now."""
        return self._frame is not None and self._questions.is_due(self._media_now_s())

    @property
    def asked_since_s(self) -> float | None:
        """Our clock when the oldest question was put that waits for a newer picture; None where none does."""
        since_s = self._questions.oldest_put_at_s
        return since_s if since_s is not None and since_s > self._seen_at_s else None

    def renew(self, model: ModelSession) -> None:
        """Go on with a fresh session of the model, which remembers nothing."""
        self._model = model
        self._masks_told = False

    def stop(self) -> None:
        """Stop the turn being said as soon as possible; any thread."""
        self._stopping.set()

    @as_steps
    def on_frame(self, frame: Frame) -> StepGenerator[None]:
        """See a frame, decide about it, and say what there is to say. Raises a `ModelError` for one that is refused.

        Who asks now asks about what is there now: the frame is seen first. Planned questions come at their own time.
        """
        if self._frame is None:  # one whose picture turns too narrow later on goes on
            self._model.check_size(frame.image.shape[1], frame.image.shape[0])
        yield from self._answer_due(math.nextafter(frame.pts_s, -math.inf), seen_at_s=-math.inf)
        started_s = self._clock.now_s()
        sight = yield from self._model.see(frame, speak_above=self._policy.speak_above)
        self._frame, self._seen_at_s = frame, max(frame.captured_at_s, started_s - LOOK_FIRST_S)
        self._note(frame, sight)
        self._propose_masks(sight)
        decision = self._policy.decide(_observation(frame, sight))
        self.curve.add(decision)
        if not self._zones.lets_through(frame, sight) and decision.speak:
            self._policy.withdraw()
            decision = self.curve.amend(decision, Reason.OUTSIDE_ZONES)
        self._on_sight(frame, sight, decision)
        self.stats.took(1000 * (self._clock.now_s() - started_s))
        yield from self._answer_due(self._media_now_s(), seen_at_s=self._seen_at_s)
        if decision.speak and (yield from self._is_called_for(decision)):
            yield from self._comment(frame, decision)

    @as_steps
    def on_notice(self, notice: Notice) -> StepGenerator[None]:
        """Publish a notice of the source as a status event, and tell the model of gaps."""
        self._known_s = max(self._known_s, notice.pts_s)
        if notice.kind is NoticeKind.DROPPED:
            self.stats.dropped += notice.count
        elif notice.kind is NoticeKind.DAMAGED:
            self.stats.damaged += notice.count
        elif notice.kind is NoticeKind.GRID_CHANGED:
            self._grid_told, self._masks_told = True, False
        elif notice.kind is NoticeKind.ENDED:
            self.stats.read = max(self.stats.read, notice.count)
            yield from self.on_end()
        kind = StatusKind(notice.kind.value)
        details: dict[str, Detail] = {"count": notice.count, **notice.details} if notice.count else dict(notice.details)
        self.say_status(kind, notice.reason, time_s=notice.pts_s, source=notice.source, details=details)
        gap_s = notice.details.get("gap_s")
        if notice.kind is NoticeKind.GAP and isinstance(gap_s, int | float) and self._frame is not None:
            yield from self._model.note_gap(float(gap_s))

    @as_steps
    def on_idle(self) -> StepGenerator[None]:
        """Answer questions while no frame comes."""
        if self._frame is not None:
            yield from self._answer_due(self._media_now_s())

    @as_steps
    def on_end(self) -> StepGenerator[None]:
        """End the stream: answer what was planned for its last moment, and publish which questions have no answer."""
        if self._frame is not None:
            self._known_s = max(self._known_s, self._media_now_s())
            if (put_off := self._policy.take_put_off()) is not None and not self._stopping.is_set():
                self.curve.add(put_off)
                yield from self._comment(self._frame, put_off)
            yield from self._answer_due(self._known_s)
        self._emit_evictions(self._model.take_evictions())
        for question in self._questions.pop_rest(self._known_s):
            is_due = question.at_s <= self._known_s
            reason = "it was stopped before the answer" if is_due else f"the stream ended before {question.at_s:g} s"
            self._leave_unanswered(
                question, Unanswered(f"{question.text!r}: {reason}; ask again while it is watched"), reason
            )

    def give_up(self, why: str) -> None:
        """Fail every question that waits: no more frames will come."""
        for question in self._questions.pop_rest(self._known_s):
            self._leave_unanswered(
                question, Unanswered(f"{question.text!r}: {why}; ask again while it is watched"), why
            )

    @property
    def waits_in_vain(self) -> bool:
        """Whether questions wait although no frame was seen from which to answer them."""
        return self._frame is None and self.num_waiting > 0

    def set_zones(self, zones: Sequence[MaskRegion]) -> None:
        """Set the zones, where something must change for a remark, from the next frame on."""
        self._zones = ZoneGate(zones)

    def close(self) -> None:
        """Free the model's session with its memory; nothing can be asked any more. May be called twice."""
        vars(self).pop("_model", None)

    @as_steps
    def expect(self, fps: float) -> StepGenerator[None]:
        """Get the model ready for another rate of frames. Raises `SettingsError` where that is beyond its memory."""
        yield from self._model.expect(fps)

    def tune(self, *, fps: float, talkativeness: float) -> None:
        """Decide from the next frame on for another rate of frames or another talkativeness."""
        self._policy.tune(fps=fps, talkativeness=talkativeness)

    @property
    def num_waiting(self) -> int:
        """Questions that people wait for; any thread."""
        return self._questions.num_asked

    @as_steps
    def forget(self) -> StepGenerator[None]:
        """Forget all that was seen and said but the instructions."""
        yield from self._model.forget()
        self.say_status(StatusKind.FORGOT, "asked to forget: all but the instructions is gone from memory")

    @as_steps
    def instruct(self, text: str | None) -> StepGenerator[None]:
        """Replace the standing instruction; None takes it away."""
        yield from self._model.instruct(text)
        self._instruction = text
        self.say_status(StatusKind.INSTRUCTED, f"standing instruction: {text}" if text else "no standing instruction")

    @as_steps
    def _is_called_for(self, decision: Decision) -> StepGenerator[bool]:
        """Whether the standing instruction allows a remark, where the policy does not know it; asked on a fork."""
        if not (self._policy.needs_check and self._instruction):
            return True
        check = yield from self._model.check(INSTRUCTION_CHECK.format(instruction=self._instruction))
        if not check.yes:
            self._policy.withdraw()
            self.curve.amend(decision, Reason.INSTRUCTED_SILENCE)
        return check.yes

    @as_steps
    def _objection(self, said: SpokenTurn) -> StepGenerator[Reason | None]:
        """The reason to hold a drafted remark back, or None; the standing instruction is checked on a fork."""
        reason = self._policy.veto(said.text)
        if reason is not None or self._policy.remark_check is None or not self._instruction:
            return reason
        question = self._policy.remark_check.format(instruction=self._instruction, remark=said.text.strip())
        if (yield from self._model.check(question)).yes:
            return None
        self._policy.withdraw()
        return Reason.INSTRUCTED_SILENCE

    @as_steps
    def _comment(self, frame: Frame, decision: Decision) -> StepGenerator[None]:
        """Say a remark; a question that comes meanwhile cuts it short."""
        said = yield from self._say(
            self._model.comment(),
            lambda: self._stopping.is_set() or self._questions.is_due(self._media_now_s()),
        )
        if said.cut and not said.text:
            self._policy.withdraw()
            self.curve.amend(decision, Reason.CUT_SHORT)
        elif not said.cut and said.utterance is not None and self._policy.waits(decision, said.utterance.logprob):
            self.curve.amend(decision, Reason.UNSURE)
            yield from self._model.retract()
        elif (reason := (yield from self._objection(said))) is None:
            self.stats.comments += 1
            self._emit(
                Comment(
                    source=frame.source,
                    time_s=frame.pts_s,
                    text=said.text,
                    reason=Reason.CUT_SHORT.value if said.cut else decision.reason.value,
                    score=decision.score,
                    probability=decision.probability,
                    threshold=decision.threshold,
                    latency_ms=said.latency_ms(frame),
                    frame_index=frame.index,
                )
            )
        else:
            self.curve.amend(decision, reason)
            held_back = f"a remark was held back: {reason.value}"
            self.say_status(StatusKind.VETOED, held_back, details={"remark": said.text})
            # Nobody heard it: the model is not to think that it was said.
            yield from self._model.retract()
        self._note_utterance(said, "a remark")
        yield from self._answer_due(self._media_now_s(), seen_at_s=self._seen_at_s)

    @as_steps
    def _answer_due(self, now_s: float, seen_at_s: float = math.inf) -> StepGenerator[None]:
        """Answer every question that has reached the assistant by media time `now_s`.

        What people ask now waits for a newer picture where it was put after `seen_at_s`, by our clock.
        """
        while (frame := self._frame) is not None and not self._stopping.is_set():
            question = self._questions.pop(now_s, seen_at_s)
            if question is None:
                return
            yield from self._answer(frame, question)

    @as_steps
    def _answer(self, frame: Frame, question: Question) -> StepGenerator[None]:
        """Answer one question; its future is completed whatever happens."""
        asked = question.asked
        if asked is not None and not asked.begin():
            return
        self._is_answering = self._has_answered = True
        try:
            answer = yield from self._say_answer(frame, question)
        except ModelError as error:
            if asked is None:
                raise
            drop_traceback(error)
            self._leave_unanswered(question, error, str(error))
            return
        except BaseException as error:
            if asked is not None:
                why = error if isinstance(error, Exception) else Unanswered(f"{question.text!r}: left off; ask again")
                asked.failed(why)
            raise
        finally:
            self._is_answering = False
        if asked is not None:
            asked.answered(answer)

    def _leave_unanswered(self, question: Question, error: Exception, reason: str) -> None:
        """Fail a question that gets no answer, and publish why."""
        if question.asked is not None:
            question.asked.failed(error)
        details: dict[str, Detail] = {"question": question.text, "asked_at_s": question.at_s}
        self.say_status(StatusKind.UNASKED, reason, details=details)

    @as_steps
    def _say_recalled(self, frame: Frame, question: Question, recalled: Recalled) -> StepGenerator[Answer]:
        """Answer from the timeline about another time; the model may be shown the pictures of then."""
        asked, text = question.asked, recalled.text
        if asked is not None:
            asked.say(text)
        pictures = recalled.pictures() if recalled.asks_model else []
        if pictures:
            said = yield from self._say(
                self._model.answer(recalled.prompt(question.text), pictures, aside=True),
                lambda: self._stopping.is_set() or (asked is not None and asked.is_cancelled),
            )
            text = recalled.with_words_of_the_model(said.text, len(pictures)) if said.text else text
            if asked is not None:
                asked.say(text.removeprefix(recalled.text))
        recalled = replace(recalled, text=text)
        answer = recalled.as_answer(question.text, source=frame.source, time_s=frame.pts_s, asked_at_s=question.at_s)
        self.stats.answers += 1
        self._emit(answer)
        return answer

    def _recalled(self, question: Question) -> Recalled | None:
        """The timeline's answer to a question about a time that the model's memory does not reach; else None."""
        if question.attachments:
            return None
        try:
            return self._recall(question.text, self._media_now_s(), self._model.remembered_s)
        except Exception as error:  # what was kept is nobody's memory: the model is asked instead
            if not isinstance(error, StoreError):
                logger.exception("what was kept could not be looked up")
            self.say_status(StatusKind.STORE, f"the timeline could not be asked: {error}")
            return None

    @as_steps
    def _say_answer(self, frame: Frame, question: Question) -> StepGenerator[Answer]:
        recalled = self._recalled(question)
        if recalled is not None:
            return (yield from self._say_recalled(frame, question, recalled))
        asked = question.asked
        said = yield from self._say(
            self._model.answer(question.text, question.attachments, aside=question.aside),
            lambda: self._stopping.is_set() or (asked is not None and asked.is_cancelled),
            asked.say if asked is not None else None,
        )
        self.stats.answers += 1
        answer = said.as_answer(question.text, frame=frame, asked_at_s=question.at_s)
        self._emit(answer)
        self._note_utterance(said, "an answer")
        return answer

    @as_steps
    def _say(
        self, steps: Steps[Utterance], stop: Callable[[], bool], on_piece: Callable[[str], None] | None = None
    ) -> StepGenerator[SpokenTurn]:
        """Say a turn; one that `stop` ends between two forward passes is closed properly."""
        listener = TurnStream(self._clock, on_piece)
        utterance = yield from listener.left_off(steps, stop)
        cut = utterance is None
        if cut:
            utterance = yield from self._model.cut()
        said = listener.said(utterance, cut=cut)
        self.stats.said_ms = said.took_ms
        return said

    def _media_now_s(self) -> float:
        """Media time now: that of the last frame, and on live sources the time passed since."""
        assert self._frame is not None
        if not self.pace:
            return self._frame.pts_s
        return self._frame.pts_s + self.pace * max(0.0, self._clock.now_s() - self._frame.captured_at_s)

    def _note(self, frame: Frame, sight: Sight) -> None:
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
        self._emit_evictions(sight.evictions)
        if sight.rebased:
            stats.rebases += 1
            self.say_status(StatusKind.REBASED, "the time shown to the model was set back into its trained range")

    def _emit_evictions(self, evictions: Iterable[Eviction]) -> None:
        for eviction in evictions:
            self.stats.evictions += 1
            self.say_status(
                StatusKind.EVICTED,
                eviction.reason,
                details={"tokens": eviction.num_evicted, "frames": eviction.num_frames, "turns": eviction.num_turns},
            )

    def _propose_masks(self, sight: Sight) -> None:
        """Propose masks, once, for cells that change in nearly every frame."""
        watched_s = self.stats.last_s - (self.stats.first_s or 0.0)
        if self._masks_told or watched_s < MASKS_AFTER_S or self.stats.sampled % MASKS_EVERY:
            return
        masks = propose_masks(self._model.hot_cells(), sight.grid.rows, sight.grid.cols)
        if masks:
            self._masks_told = True
            options = " ".join(f"--mask {mask}" for mask in masks)
            self.say_status(
                StatusKind.MASK_PROPOSED,
                f"a part of the picture changes in nearly every frame; if nothing is to be seen there: {options}",
                details={"masks": ";".join(masks)},
            )

    def _note_utterance(self, said: SpokenTurn, what: str) -> None:
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
        frame = self._frame
        self._emit(
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


def _observation(frame: Frame, sight: Sight) -> Observation:
    return Observation(
        time_s=frame.pts_s,
        appended=sight.appended,
        changed_share=float(sight.pruning.changed.mean()),
        score=sight.score,
        log_p_assistant=sight.log_p_assistant,
    )
