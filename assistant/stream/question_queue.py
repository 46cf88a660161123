"""Questions on their way to a stream: those with a media time, and those that people ask while it runs."""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from assistant.errors import AssistantError
from assistant.stream.listener_guard import ListenerGuard

if TYPE_CHECKING:
    from assistant.events import Answer
    from models.session.media_turns import Attachment

MOST_WAITING = 16
"""Questions that may wait at once for one stream."""

_ids = itertools.count(1)


class TooManyQuestions(AssistantError):
    """More questions wait than are worth answering late."""


class Unanswered(AssistantError):
    """A question was left without an answer; the message says why."""


class PendingQuestion:
    """A question that somebody waits for. `cancel` and `future` are for any thread, the rest is the engine's.

    >>> asked = PendingQuestion("What is on the left?")
    >>> asked.cancel(), asked.begin(), asked.done
    (None, False, True)
    """

    def __init__(
        self, text: str, on_piece: Callable[[str], None] | None = None, guard: ListenerGuard | None = None
    ) -> None:
        """`on_piece` is called on the engine's thread with each piece of text as it comes; it returns at once.

        guard: counts what it raises; the answer goes on without it.
        """
        self.id = next(_ids)
        self.text = text
        self.future: Future[Answer] = Future()
        """The answer, or `Unanswered`, or what else went wrong. One that was stopped has the words said so far."""
        self._on_piece = (guard or ListenerGuard("a question")).guarded(on_piece or (lambda piece: None))
        self._cancelled = threading.Event()
        self._has_begun = False
        self._lock = threading.Lock()

    @property
    def done(self) -> bool:
        """Whether it was answered, has failed or was cancelled."""
        return self.future.done()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop the answer where it stands; a question that still waits is never put, and fails at once."""
        with self._lock:
            self._cancelled.set()
            waits = not self._has_begun
        if waits:
            self.failed(Unanswered(f"{self.text!r}: stopped before it was answered; ask again"))

    def begin(self) -> bool:
        """Begin to answer it. Returns False where it was cancelled."""
        with self._lock:
            self._has_begun = not self._cancelled.is_set()
            return self._has_begun

    def say(self, piece: str) -> None:
        """Pass a piece of the answer on."""
        self._on_piece(piece)

    def answered(self, answer: Answer) -> None:
        """Complete it with the whole answer."""
        with suppress(InvalidStateError):  # it was stopped a moment ago
            self.future.set_result(answer)

    def failed(self, error: BaseException) -> None:
        """Complete it with an error."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True, order=True)
class Question:
    """A question and the media time at which it reaches the assistant."""

    at_s: float
    text: str
    attachments: tuple[Attachment, ...] = field(default=(), compare=False)
    """Pictures and clips that it is about; they are seen for its answer alone."""
    aside: bool = field(default=False, compare=False)
    """Whether question and answer leave no trace in the stream's memory."""
    asked: PendingQuestion | None = field(default=None, compare=False)
    """Who waits for the answer; None for those that were planned."""
    put_at_s: float = field(default=-math.inf, compare=False)
    """Our clock when somebody asked it: pictures taken before then are too old to answer it from."""


class QuestionQueue:
    """Questions that wait. `ask` may be called from any thread; the rest belongs to the engine's."""

    def __init__(self, planned: Iterable[Question] = ()) -> None:
        self._planned = deque(sorted(planned, key=lambda question: question.at_s))
        self._asked: deque[Question] = deque()
        self._lock = threading.Lock()

    def ask(
        self,
        text: str,
        attachments: Sequence[Attachment] = (),
        *,
        aside: bool = False,
        asked: PendingQuestion | None = None,
        put_at_s: float = -math.inf,
    ) -> None:
        """Ask at `put_at_s` by our clock. Raises `TooManyQuestions` where too many wait."""
        with self._lock:
            self._asked = deque(each for each in self._asked if each.asked is None or not each.asked.done)
            if len(self._asked) >= MOST_WAITING:
                raise TooManyQuestions(
                    f"{len(self._asked)} questions wait; {MOST_WAITING} may; ask again when some are answered"
                )
            self._asked.append(Question(0.0, text, tuple(attachments), aside, asked, put_at_s))

    @property
    def num_asked(self) -> int:
        """Questions that people have asked and that wait."""
        return len(self._asked)

    def is_due(self, now_s: float) -> bool:
        """Whether a question waits at media time `now_s`."""
        return bool(self._asked) or bool(self._planned) and self._planned[0].at_s <= now_s

    @property
    def oldest_put_at_s(self) -> float | None:
        """Our clock when the first of the questions that people wait for was asked; None where none waits."""
        with self._lock:
            return self._asked[0].put_at_s if self._asked else None

    def pop(self, now_s: float, seen_at_s: float = math.inf) -> Question | None:
        """The next question at media time `now_s`, earlier ones first, then as given; None where none waits.

        Of those that people ask now, only what was put by `seen_at_s`, our clock when the newest picture was taken.
        """
        if self._planned and self._planned[0].at_s <= now_s:
            return self._planned.popleft()
        with self._lock:
            if not self._asked or self._asked[0].put_at_s > seen_at_s:
                return None
            return self._now(now_s, self._asked.popleft())

    def pop_rest(self, now_s: float) -> list[Question]:
        """Remove and return all questions that still wait; those that people asked get the media time `now_s`."""
        with self._lock:
            asked = [self._now(now_s, question) for question in self._asked]
            self._asked.clear()
        rest = list(self._planned)
        self._planned.clear()
        return rest + asked

    @staticmethod
    def _now(now_s: float, question: Question) -> Question:
        # A time just before a frame's is that frame's to a reader.
        return replace(question, at_s=round(now_s, 6))
