"""One stream from its frames to its events: see, decide, speak. The engine's thread drives it; `ask` is for any thread.

The methods are steps (`models.steps`): they yield forward passes and can be stopped between two of them, so that the
engine may advance many streams side by side.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from assistant.events import Answer, Comment, Detail, StatusEvent, StatusKind, StreamEvent
from assistant.proposals import propose_masks
from assistant.questions import Question, QuestionBox
from assistant.speak import Decision, DecisionCurve, Observation, Reason, SpeakingPolicy
from assistant.stats import StreamStats
from models.steps import Output, Piece, Steps
from streaming.types import Frame, Notice, NoticeKind

if TYPE_CHECKING:
    import numpy as np

    from models.sight import Check, Sight
    from models.turns import Utterance
    from streaming.clock import Clock

T = TypeVar("T")

MASKS_AFTER_S = 60.0
"""How long to watch before a mask is proposed: shorter, and whatever moves looks as lasting as a clock."""
MASKS_EVERY = 32
"""Sampled frames between two looks at what might be masked."""

INSTRUCTION_CHECK = (
    'You were told: "{instruction}" Judging by the latest frames, should you say something now? Answer yes or no.'
)


class ModelSession(Protocol):
    """What a stream needs of the model's side (`models.session.Session`)."""

    def see(self, frame: Frame, *, speak_above: float | None = None) -> Steps[Sight]: ...

    def comment(self) -> Steps[Utterance]: ...

    def answer(self, question: str) -> Steps[Utterance]: ...

    def check(self, question: str) -> Steps[Check]: ...

    def instruct(self, text: str | None) -> Steps[None]: ...

    def note_gap(self, seconds: float) -> Steps[None]: ...

    def cut(self) -> Steps[Utterance | None]: ...

    def hot_cells(self) -> np.ndarray: ...


class StreamSession:
    """Watches one stream."""

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
    ) -> None:
        """`pace`: seconds of media a second while nothing is read: 1 for live sources, 0 where media time waits."""
        self._model = model
        self._policy = policy
        self._clock = clock
        self._emit = emit
        self._pace = pace
        self._instruction = instruction
        self._questions = QuestionBox(questions)
        self._stopping = threading.Event()
        self._frame: Frame | None = None
        self._grid_told = False
        self._masks_told = False
        self._known_s = 0.0
        self.curve = DecisionCurve()
        self.stats = StreamStats()

    def ask(self, text: str) -> None:
        """Ask about what is seen now; any thread. Raises `TooManyQuestions` where too many wait."""
        self._questions.ask(text)

    def stop(self) -> None:
        """Leave off what is being said as soon as possible; any thread."""
        self._stopping.set()

    def on_frame(self, frame: Frame) -> Steps[None]:
        """See a frame, decide about it, and say what there is to say."""
        yield from self._answer_due(math.nextafter(frame.pts_s, -math.inf))
        started_s = self._clock.now_s()
        sight = yield from self._model.see(frame, speak_above=self._policy.speak_above)
        self._frame = frame
        self._note(frame, sight)
        self._propose_masks(sight)
        decision = self._policy.decide(_observation(frame, sight))
        self.curve.add(decision)
        self.stats.took(1000 * (self._clock.now_s() - started_s))
        yield from self._answer_due(self._media_now_s())
        if decision.speak and (yield from self._is_called_for(decision)):
            yield from self._comment(frame, decision)

    def on_notice(self, notice: Notice) -> Steps[None]:
        """Pass on what happened to the source, and tell the model of gaps."""
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
        self._say_status(kind, notice.reason, time_s=notice.pts_s, source=notice.source, details=details)
        gap_s = notice.details.get("gap_s")
        if notice.kind is NoticeKind.GAP and isinstance(gap_s, int | float) and self._frame is not None:
            yield from self._model.note_gap(float(gap_s))

    def on_idle(self) -> Steps[None]:
        """Answer what people ask while no frame comes."""
        if self._frame is not None:
            yield from self._answer_due(self._media_now_s())

    def on_end(self) -> Steps[None]:
        """The source has ended: answer what was planned for its last moment, and own up to the rest."""
        if self._frame is not None:
            self._known_s = max(self._known_s, self._media_now_s())
            yield from self._answer_due(self._known_s)
        for question in self._questions.take_rest(self._known_s):
            is_due = question.at_s <= self._known_s
            reason = "it was stopped before the answer" if is_due else f"the stream ended before {question.at_s:g} s"
            details: dict[str, Detail] = {"question": question.text, "asked_at_s": question.at_s}
            self._say_status(StatusKind.UNASKED, reason, details=details)

    def instruct(self, text: str | None) -> Steps[None]:
        """Replace the standing instruction; None takes it away."""
        yield from self._model.instruct(text)
        self._instruction = text
        self._say_status(StatusKind.INSTRUCTED, f"standing instruction: {text}" if text else "no standing instruction")

    def _is_called_for(self, decision: Decision) -> Steps[bool]:
        """Whether the standing instruction lets a policy speak that knows nothing of it; asked on a fork."""
        if not (self._policy.needs_check and self._instruction):
            return True
        check = yield from self._model.check(INSTRUCTION_CHECK.format(instruction=self._instruction))
        if not check.yes:
            self._policy.withdraw()
            self.curve.amend(decision, Reason.INSTRUCTED_SILENCE)
        return check.yes

    def _comment(self, frame: Frame, decision: Decision) -> Steps[None]:
        """Say a remark; a question that comes meanwhile cuts it short."""
        said = yield from self._say(
            self._model.comment(),
            lambda: self._stopping.is_set() or self._questions.is_due(self._media_now_s()),
        )
        if said.cut and not said.text:
            self._policy.withdraw()
            self.curve.amend(decision, Reason.CUT_SHORT)
        elif (reason := self._policy.veto(said.text)) is None:
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
            self._say_status(StatusKind.VETOED, held_back, details={"remark": said.text})
        self._note_utterance(said, "a remark")
        yield from self._answer_due(self._media_now_s())

    def _answer_due(self, now_s: float) -> Steps[None]:
        """Answer every question that has reached the assistant by media time `now_s`."""
        while (frame := self._frame) is not None and not self._stopping.is_set():
            question = self._questions.take(now_s)
            if question is None:
                return
            yield from self._answer(frame, question)

    def _answer(self, frame: Frame, question: Question) -> Steps[None]:
        said = yield from self._say(self._model.answer(question.text), self._stopping.is_set)
        self.stats.answers += 1
        self._emit(
            Answer(
                source=frame.source,
                time_s=frame.pts_s,
                text=said.text,
                reason=Reason.CUT_SHORT.value if said.cut else "asked",
                latency_ms=said.latency_ms(frame),
                frame_index=frame.index,
                question=question.text,
                asked_at_s=question.at_s,
            )
        )
        self._note_utterance(said, "an answer")

    def _say(self, steps: Steps[Utterance], stop: Callable[[], bool]) -> Steps[Said]:
        """Say a turn; one that `stop` leaves off between two forward passes is closed properly."""
        listener = _Listener(self._clock)
        utterance = yield from listener.left_off(steps, stop)
        cut = utterance is None
        if cut:
            utterance = yield from self._model.cut()
        return Said(utterance, cut, listener.first_at_s)

    def _media_now_s(self) -> float:
        """Media time now: that of the last frame, and what has passed since on sources whose time does not wait."""
        assert self._frame is not None
        if not self._pace:
            return self._frame.pts_s
        return self._frame.pts_s + self._pace * max(0.0, self._clock.now_s() - self._frame.captured_at_s)

    def _note(self, frame: Frame, sight: Sight) -> None:
        """Count what was seen, and pass on what happened to the memory."""
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
            self._say_status(StatusKind.GRID_CHANGED, f"the picture is now {size} cells; its next frame was kept whole")
        self._grid_told = False
        for eviction in sight.evictions:
            stats.evictions += 1
            self._say_status(
                StatusKind.EVICTED,
                eviction.reason,
                details={"tokens": eviction.num_evicted, "frames": eviction.num_frames, "turns": eviction.num_turns},
            )
        if sight.rebased:
            stats.rebases += 1
            self._say_status(StatusKind.REBASED, "the time shown to the model was set back into its trained range")

    def _propose_masks(self, sight: Sight) -> None:
        """Say once where something changes in nearly every frame."""
        watched_s = self.stats.last_s - (self.stats.first_s or 0.0)
        if self._masks_told or watched_s < MASKS_AFTER_S or self.stats.sampled % MASKS_EVERY:
            return
        masks = propose_masks(self._model.hot_cells(), sight.grid.rows, sight.grid.cols)
        if masks:
            self._masks_told = True
            options = " ".join(f"--mask {mask}" for mask in masks)
            self._say_status(
                StatusKind.MASK_PROPOSED,
                f"a part of the picture changes in nearly every frame; if nothing is to be seen there: {options}",
                details={"masks": ";".join(masks)},
            )

    def _note_utterance(self, said: Said, what: str) -> None:
        if said.utterance is None:
            return
        if said.utterance.truncated:
            tokens = len(said.utterance.token_ids)
            reason = f"{what} reached its longest length, {tokens} tokens, and was closed"
            self._say_status(StatusKind.TRUNCATED, reason, details={"tokens": tokens})

    def _say_status(
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


@dataclass(frozen=True, slots=True)
class Said:
    """A turn that is over."""

    utterance: Utterance | None
    """None where it was left off before its first token."""
    cut: bool
    first_at_s: float | None
    """Our clock at its first words."""

    @property
    def text(self) -> str:
        """Its words."""
        return self.utterance.text.strip() if self.utterance is not None else ""

    def latency_ms(self, frame: Frame) -> float | None:
        """From the frame's capture to the first words; None where nothing was said."""
        return None if self.first_at_s is None else 1000 * max(0.0, self.first_at_s - frame.captured_at_s)


class _Listener:
    """Notes when the first words come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.first_at_s: float | None = None

    def left_off(self, steps: Steps[T], stop: Callable[[], bool]) -> Steps[T | None]:
        """Run `steps` to their end, or leave them off between two forward passes once `stop` says so: None then."""
        output: Output | None = None
        try:
            while True:
                request = steps.send(output)
                if isinstance(request, Piece):
                    self.first_at_s = self.first_at_s if self.first_at_s is not None else self._clock.now_s()
                elif stop():
                    return None
                output = yield request
        except StopIteration as end:
            return end.value
        finally:
            steps.close()


def _observation(frame: Frame, sight: Sight) -> Observation:
    return Observation(
        time_s=frame.pts_s,
        appended=sight.appended,
        changed_share=float(sight.pruning.changed.mean()),
        score=sight.score,
        log_p_assistant=sight.log_p_assistant,
    )
