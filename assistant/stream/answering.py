"""Answers the questions of one stream, from the model's memory or from the timeline. For the engine's thread.

The methods are steps (`models.session.steps`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from assistant.errors import StoreError
from assistant.events import Answer, Detail, StatusKind
from assistant.stream.journal import StreamJournal
from assistant.stream.question_queue import Question, QuestionQueue, Unanswered
from assistant.stream.spoken_turns import TurnSpeaker
from models.errors import ModelError
from models.session.steps import StepGenerator, as_steps, drop_traceback
from streaming.types import Frame

if TYPE_CHECKING:
    from assistant.timeline.recall import Recalled

logger = logging.getLogger(__name__)


class Answering:
    """Answers the questions of a queue, one after the other."""

    def __init__(
        self,
        questions: QuestionQueue,
        speaker: TurnSpeaker,
        journal: StreamJournal,
        recall: Callable[[str, float, float], Recalled | None],
    ) -> None:
        """recall: asked before the model about a question, with media time now and how far back the model remembers;
        None leaves it to the model."""
        self._questions = questions
        self._speaker = speaker
        self._journal = journal
        self._recall = recall
        self._is_answering = self._has_answered = False

    @property
    def is_answering(self) -> bool:
        """Whether a question is being answered now."""
        return self._is_answering

    def take_answered(self) -> bool:
        """Whether a question was being answered since the last call."""
        taken, self._has_answered = self._has_answered, self._is_answering
        return taken

    @as_steps
    def answer_due(self, now_s: float, seen_at_s: float = math.inf) -> StepGenerator[None]:
        """Answer every question that has reached the assistant by media time `now_s`.

        What people ask now waits for a newer picture where it was put after `seen_at_s`, by our clock.
        """
        while (frame := self._journal.frame) is not None and not self._speaker.is_stopping:
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
            self.leave_unanswered(question, error, str(error))
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

    def leave_unanswered(self, question: Question, error: Exception, reason: str) -> None:
        """Fail a question that gets no answer, and publish why."""
        if question.asked is not None:
            question.asked.failed(error)
        details: dict[str, Detail] = {"question": question.text, "asked_at_s": question.at_s}
        self._journal.say_status(StatusKind.UNASKED, reason, details=details)

    @as_steps
    def _say_recalled(self, frame: Frame, question: Question, recalled: Recalled) -> StepGenerator[Answer]:
        """Answer from the timeline about another time; the model may be shown the pictures of then."""
        asked, text = question.asked, recalled.text
        if asked is not None:
            asked.say(text)
        pictures = recalled.pictures() if recalled.asks_model else []
        if pictures:
            said = yield from self._speaker.say(
                self._speaker.model.answer(recalled.prompt(question.text), pictures, aside=True),
                lambda: asked is not None and asked.is_cancelled,
            )
            text = recalled.with_words_of_the_model(said.text, len(pictures)) if said.text else text
            if asked is not None:
                asked.say(text.removeprefix(recalled.text))
        recalled = replace(recalled, text=text)
        answer = recalled.as_answer(question.text, source=frame.source, time_s=frame.pts_s, asked_at_s=question.at_s)
        self._journal.stats.answers += 1
        self._journal.emit(answer)
        return answer

    def _recalled(self, question: Question) -> Recalled | None:
        """The timeline's answer to a question about a time that the model's memory does not reach; else None."""
        if question.attachments:
            return None
        try:
            return self._recall(question.text, self._journal.media_now_s(), self._speaker.model.remembered_s)
        except Exception as error:  # what was kept is nobody's memory: the model is asked instead
            if not isinstance(error, StoreError):
                logger.exception("what was kept could not be looked up")
            self._journal.say_status(StatusKind.STORE, f"the timeline could not be asked: {error}")
            return None

    @as_steps
    def _say_answer(self, frame: Frame, question: Question) -> StepGenerator[Answer]:
        recalled = self._recalled(question)
        if recalled is not None:
            return (yield from self._say_recalled(frame, question, recalled))
        asked = question.asked
        said = yield from self._speaker.say(
            self._speaker.model.answer(question.text, question.attachments, aside=question.aside),
            lambda: asked is not None and asked.is_cancelled,
            asked.say if asked is not None else None,
        )
        self._journal.stats.answers += 1
        answer = said.as_answer(question.text, frame=frame, asked_at_s=question.at_s)
        self._journal.emit(answer)
        self._journal.note_utterance(said, "an answer")
        return answer
