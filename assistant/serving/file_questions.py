"""Questions about pictures and clips alone: the model answers them beside the streams. Any thread may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from assistant.serving.memory_budget import MemoryNeed
from assistant.stream.question_queue import PendingQuestion, Unanswered
from assistant.stream.spoken_turns import SpokenTurn, TurnStream
from models.session.steps import StepGenerator, as_steps
from streaming.clock import Clock

if TYPE_CHECKING:
    from assistant.serving.scheduler import Scheduler
    from models.session.media_turns import Attachment


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
        from models.session.media_turns import Clip  # it loads torch

        pictures = [attached for attached in attachments if not isinstance(attached, Clip)]
        clips = [(attached.frames, attached.times_s) for attached in attachments if isinstance(attached, Clip)]
        asked = PendingQuestion(text, on_piece)

        @as_steps
        def steps(engine: Any) -> StepGenerator[SpokenTurn | None]:
            if not asked.begin():
                return None
            listener = TurnStream(self._clock, asked.say)
            utterance = yield from listener.left_off(engine.ask(text, pictures, clips), lambda: asked.is_cancelled)
            return listener.said(utterance, cut=utterance is None)

        def on_done(future: Future[SpokenTurn | None]) -> None:
            error = Unanswered("the model was stopped") if future.cancelled() else future.exception()
            if error is not None:
                asked.failed(error)
            elif (said := future.result()) is not None:
                asked.answered(said.as_answer(text))

        def size(engine: Any) -> MemoryNeed:
            kept, working = engine.ask_bytes(text, pictures, clips), engine.ask_working_bytes(text, pictures, clips)
            return MemoryNeed(kept, working)

        submitted = self._scheduler.submit(steps, size=size)
        submitted.add_done_callback(on_done)
        return asked
