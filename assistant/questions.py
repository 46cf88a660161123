"""Questions on their way to a stream: those with a media time, and those that people ask while it runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from assistant.errors import AssistantError

MOST_WAITING = 16
"""Questions that may wait at once for one stream."""


class TooManyQuestions(AssistantError):
    """More questions wait than are worth answering late."""


@dataclass(frozen=True, slots=True, order=True)
class Question:
    """A question and the media time at which it reaches the assistant."""

    at_s: float
    text: str


class QuestionBox:
    """Questions that wait. `ask` may be called from any thread; the rest belongs to the engine's."""

    def __init__(self, planned: Iterable[Question] = ()) -> None:
        self._planned = deque(sorted(planned, key=lambda question: question.at_s))
        self._asked: deque[str] = deque()
        self._lock = threading.Lock()

    def ask(self, text: str) -> None:
        """Ask now. Raises `TooManyQuestions` where too many wait."""
        with self._lock:
            if len(self._asked) >= MOST_WAITING:
                raise TooManyQuestions(
                    f"{len(self._asked)} questions wait; {MOST_WAITING} may; ask again when some are answered"
                )
            self._asked.append(text)

    def is_due(self, now_s: float) -> bool:
        """Whether a question waits at media time `now_s`."""
        return bool(self._asked) or bool(self._planned) and self._planned[0].at_s <= now_s

    def take(self, now_s: float) -> Question | None:
        """The next question at media time `now_s`, earlier ones first, then as given; None where none waits."""
        if self._planned and self._planned[0].at_s <= now_s:
            return self._planned.popleft()
        with self._lock:
            # A time just before a frame's is that frame's to a reader.
            return Question(round(now_s, 6), self._asked.popleft()) if self._asked else None

    def take_rest(self, now_s: float) -> list[Question]:
        """All that still wait: for a media time that never came, or, as asked at `now_s`, for their turn."""
        with self._lock:
            asked = [Question(round(now_s, 6), text) for text in self._asked]
            self._asked.clear()
        rest = list(self._planned)
        self._planned.clear()
        return rest + asked
