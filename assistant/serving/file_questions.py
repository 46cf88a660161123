"""Questions about pictures and clips alone: the model answers them beside the streams. Any thread may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assistant.serving.memory_budget import MemoryNeed
from assistant.stream.question_queue import PendingQuestion, Unanswered
from assistant.stream.spoken_turns import SpokenTurn, TurnStream
from models.session.steps import StepGenerator, as_steps
from models.spans import SpanKind
from streaming.clock import Clock

if TYPE_CHECKING:
    from assistant.serving.scheduler import Scheduler
    from models.session.media_turns import Attachment
    from models.session.token_sampling import TokenSampler


@dataclass(frozen=True, slots=True)
class FileQuestion:
    """A question about what is attached to it, with what the model is told besides."""

    text: str
    attachments: Sequence[Attachment] = ()
    system: str | None = None
    """The system turn; None for the checkpoint's own."""
    earlier: Sequence[tuple[SpanKind, str]] = ()
    """Questions and answers that went before."""
    max_tokens: int | None = None
    """Most tokens of the answer; never more than the checkpoint's own limit."""
    sampler: TokenSampler | None = None
    """How tokens are sampled; the likeliest where None."""

    @property
    def all_text(self) -> str:
        """All that is said to the model."""
        return "\n".join([self.system or "", *(text for _, text in self.earlier), self.text])


class FileQuestions:
    """Asked as a stream is asked; each question has a memory of its own, which goes with its answer."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self._scheduler = scheduler
        self._clock = clock

    def ask(
        self,
        text: str,
        attachments: Sequence[Attachment] = (),
        on_piece: Callable[[str], None] | None = None,
        *,
        aside: bool = True,
    ) -> PendingQuestion:
        """Ask about what is attached; pieces of the answer come on the engine's thread. Raises `TooManyQuestions`.

        aside: as a stream takes it; no question about files alone leaves a trace.
        """
        return self.put(FileQuestion(text, attachments), on_piece)

    def put(
        self,
        question: FileQuestion,
        on_piece: Callable[[str], None] | None = None,
        on_said: Callable[[SpokenTurn], None] = lambda said: None,
    ) -> PendingQuestion:
        """Put a question. on_said: called on the engine's thread with the answer's turn, before it is there.

        Raises `TooManyQuestions`.
        """
        from models.session.media_turns import Clip  # it loads torch

        pictures = [attached for attached in question.attachments if not isinstance(attached, Clip)]
        clips = [(attached.frames, attached.times_s) for attached in question.attachments if isinstance(attached, Clip)]
        asked = PendingQuestion(question.text, on_piece)

        @as_steps
        def steps(engine: Any) -> StepGenerator[SpokenTurn | None]:
            if not asked.begin():
                return None
            listener = TurnStream(self._clock, asked.say)
            answering = engine.ask(question.text, pictures, clips, **_told_besides(engine, question))
            utterance = yield from listener.left_off(answering, lambda: asked.is_cancelled)
            return listener.said(utterance, cut=utterance is None)

        def on_done(future: Future[SpokenTurn | None]) -> None:
            error = Unanswered("the model was stopped") if future.cancelled() else future.exception()
            if error is not None:
                asked.failed(error)
            elif (said := future.result()) is not None:
                on_said(said)
                asked.answered(said.as_answer(question.text))

        def size(engine: Any) -> MemoryNeed:
            text = question.all_text
            kept, working = engine.ask_bytes(text, pictures, clips), engine.ask_working_bytes(text, pictures, clips)
            return MemoryNeed(kept, working)

        submitted = self._scheduler.submit(steps, size=size)
        submitted.add_done_callback(on_done)
        return asked


def _told_besides(engine: Any, question: FileQuestion) -> dict[str, Any]:
    """The named arguments of `Engine.ask` that a question gives."""
    given: dict[str, Any] = {"system": question.system, "earlier": question.earlier, "sampler": question.sampler}
    if question.max_tokens is not None:
        given["max_tokens"] = min(question.max_tokens, engine.stream.speaking.max_answer_tokens)
    return {name: value for name, value in given.items() if value}
