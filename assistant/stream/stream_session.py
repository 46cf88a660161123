"""One stream from its frames to its events: see, decide, speak. The engine's thread drives it; `ask` is for any thread.

The methods are steps (`models.session.steps`): they yield forward passes and can be stopped between two of them, so
that the engine may advance many streams side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from assistant.events import Comment, Detail, StatusKind, StreamEvent
from assistant.stream.answering import Answering
from assistant.stream.journal import StreamJournal
from assistant.stream.model_session import FrameRules, ModelSession
from assistant.stream.question_queue import PendingQuestion, Question, QuestionQueue, Unanswered
from assistant.stream.speaking import Decision, DecisionCurve, Observation, Reason, SpeakingPolicy
from assistant.stream.spoken_turns import SpokenTurn, TurnSpeaker
from assistant.stream.zones import ZoneGate
from models.session.steps import StepGenerator, as_steps
from streaming.types import Frame, Notice, NoticeKind

if TYPE_CHECKING:
    from assistant.timeline.recall import Recalled
    from models.session.media_turns import Attachment
    from models.session.results import Sight
    from streaming.clock import Clock
    from streaming.masks import MaskRegion

_BREAKS = frozenset({NoticeKind.GAP, NoticeKind.RECONNECTING, NoticeKind.FROZEN, NoticeKind.ENDED, NoticeKind.LOOPED})
"""Notices after which it is not known whether what was true before still is."""
LOOK_FIRST_S = 1.0
"""How long a question about what is seen now waits, at most, for a picture that was taken after it was put."""
INSTRUCTION_CHECK = (
    'You were told: "{instruction}" Judging by the latest frames, should you say something now? Answer yes or no.'
)


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
        rules: FrameRules | None = None,
    ) -> None:
        """`pace`: seconds of media a second while nothing is read: 1 for live sources, 0 where media time waits.

        on_sight: called with each frame, what the model made of it and what was decided, before anything is said.
        zones: where something must change for a remark; everywhere where there are none. recall: asked before the
        model about a question, with media time now and how far back the model remembers; None leaves it to the model.
        rules: judge each frame before a question about it is answered; they leave no trace in the model's memory.
        """
        self._policy = policy
        self._clock = clock
        self._instruction = instruction
        self._on_sight = on_sight
        self._rules = rules
        self._zones = ZoneGate(zones)
        self._known_s = 0.0
        self._journal = StreamJournal(clock, emit, pace)
        self.stats = self._journal.stats
        self.curve = DecisionCurve()
        self._speaker = TurnSpeaker(model, clock, self.stats)
        self._questions = QuestionQueue(questions)
        self._answering = Answering(self._questions, self._speaker, self._journal, recall)

    @property
    def pace(self) -> float:
        """Seconds of media a second while nothing is read; the engine's thread may change it."""
        return self._journal.pace

    @pace.setter
    def pace(self, pace: float) -> None:
        self._journal.pace = pace

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
        return (yield from self._speaker.encode(attachments, stop))

    @property
    def is_answering(self) -> bool:
        """Whether a question is being answered now."""
        return self._answering.is_answering

    def take_answered(self) -> bool:
        """Whether a question was being answered since the last call."""
        return self._answering.take_answered()

    @property
    def is_asked(self) -> bool:
        """Whether a question is due that could be answered now."""
        return self._journal.frame is not None and self._questions.is_due(self._journal.media_now_s())

    @property
    def asked_since_s(self) -> float | None:
        """Our clock when the oldest question was put that waits for a newer picture; None where none does."""
        since_s = self._questions.oldest_put_at_s
        return since_s if since_s is not None and since_s > self._journal.seen_at_s else None

    def renew(self, model: ModelSession) -> None:
        """Go on with a fresh session of the model, which remembers nothing."""
        self._speaker.model = model
        self._journal.begin_anew()

    def stop(self) -> None:
        """Stop the turn being said as soon as possible; any thread."""
        self._speaker.stop()

    @as_steps
    def on_frame(self, frame: Frame) -> StepGenerator[None]:
        """See a frame, decide about it, and say what there is to say. Raises a `ModelError` for one that is refused.

        Who asks now asks about what is there now: the frame is seen first. Planned questions come at their own time.
        """
        if self._journal.frame is None:  # one whose picture turns too narrow later on goes on
            self._model.check_size(frame.image.shape[1], frame.image.shape[0])
        yield from self._answering.answer_due(math.nextafter(frame.pts_s, -math.inf), seen_at_s=-math.inf)
        started_s = self._clock.now_s()
        sight = yield from self._model.see(frame, speak_above=self._policy.speak_above)
        self._journal.frame, self._journal.seen_at_s = frame, max(frame.captured_at_s, started_s - LOOK_FIRST_S)
        self._journal.note_frame(frame, sight)
        self._journal.propose_masks(self._model.hot_cells, sight)
        decision = self._policy.decide(_observation(frame, sight))
        self.curve.add(decision)
        if not self._zones.lets_through(frame, sight) and decision.speak:
            self._policy.withdraw()
            decision = self.curve.amend(decision, Reason.OUTSIDE_ZONES)
        self._on_sight(frame, sight, decision)
        self.stats.took(1000 * (self._clock.now_s() - started_s))
        if self._rules is not None:
            yield from self._rules.on_sight(self._model, frame, sight)
        yield from self._answering.answer_due(self._journal.media_now_s(), seen_at_s=self._journal.seen_at_s)
        if decision.speak and (yield from self._is_called_for(decision)):
            yield from self._comment(frame, decision)

    @as_steps
    def on_notice(self, notice: Notice) -> StepGenerator[None]:
        """Publish a notice of the source as a status event, and tell the model of gaps."""
        self._known_s = max(self._known_s, notice.pts_s)
        if notice.kind is NoticeKind.ENDED:
            self.stats.read = max(self.stats.read, notice.count)
            yield from self.on_end()
        self._journal.note_notice(notice)
        if self._rules is not None and notice.kind in _BREAKS:
            self._rules.on_break(notice.reason)
        gap_s = notice.details.get("gap_s")
        if notice.kind is NoticeKind.GAP and isinstance(gap_s, int | float) and self._journal.frame is not None:
            yield from self._model.note_gap(float(gap_s))

    @as_steps
    def on_idle(self) -> StepGenerator[None]:
        """Answer questions while no frame comes."""
        if self._journal.frame is not None:
            yield from self._answering.answer_due(self._journal.media_now_s())

    @as_steps
    def on_end(self) -> StepGenerator[None]:
        """End the stream: answer what was planned for its last moment, and publish which questions have no answer."""
        if self._journal.frame is not None:
            self._known_s = max(self._known_s, self._journal.media_now_s())
            if (put_off := self._policy.take_put_off()) is not None and not self._speaker.is_stopping:
                self.curve.add(put_off)
                yield from self._comment(self._journal.frame, put_off)
            yield from self._answering.answer_due(self._known_s)
        self._journal.note_evictions(self._model.take_evictions())
        for question in self._questions.pop_rest(self._known_s):
            is_due = question.at_s <= self._known_s
            reason = "it was stopped before the answer" if is_due else f"the stream ended before {question.at_s:g} s"
            self._answering.leave_unanswered(
                question, Unanswered(f"{question.text!r}: {reason}; ask again while it is watched"), reason
            )

    def give_up(self, why: str) -> None:
        """Fail every question that waits: no more frames will come."""
        for question in self._questions.pop_rest(self._known_s):
            self._answering.leave_unanswered(
                question, Unanswered(f"{question.text!r}: {why}; ask again while it is watched"), why
            )

    @property
    def waits_in_vain(self) -> bool:
        """Whether questions wait although no frame was seen from which to answer them."""
        return self._journal.frame is None and self.num_waiting > 0

    def set_zones(self, zones: Sequence[MaskRegion]) -> None:
        """Set the zones, where something must change for a remark, from the next frame on."""
        self._zones = ZoneGate(zones)

    def close(self) -> None:
        """Free the model's session with its memory; nothing can be asked any more. May be called twice."""
        self._speaker.close()

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
        said = yield from self._speaker.say(
            self._model.comment(), lambda: self._questions.is_due(self._journal.media_now_s())
        )
        if said.cut and not said.text:
            self._policy.withdraw()
            self.curve.amend(decision, Reason.CUT_SHORT)
        elif not said.cut and said.utterance is not None and self._policy.waits(decision, said.utterance.logprob):
            self.curve.amend(decision, Reason.UNSURE)
            yield from self._model.retract()
        elif (reason := (yield from self._objection(said))) is None:
            self.stats.comments += 1
            self._journal.emit(
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
        self._journal.note_utterance(said, "a remark")
        yield from self._answering.answer_due(self._journal.media_now_s(), seen_at_s=self._journal.seen_at_s)

    def say_status(self, kind: StatusKind, reason: str, *, details: dict[str, Detail] | None = None) -> None:
        """Publish a status event at the last frame."""
        self._journal.say_status(kind, reason, details=details)

    @property
    def _model(self) -> ModelSession:
        return self._speaker.model


def _observation(frame: Frame, sight: Sight) -> Observation:
    return Observation(
        time_s=frame.pts_s,
        appended=sight.appended,
        changed_share=float(sight.pruning.changed.mean()),
        score=sight.score,
        log_p_assistant=sight.log_p_assistant,
    )
