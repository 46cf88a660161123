"""Says a stream's events aloud, and turns what became of them into status events.

`append` is for the engine's thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from assistant.errors import ConfigError
from assistant.events import Alert, Answer, Comment, Detail, StatusEvent, StatusKind, StreamEvent
from assistant.speech.announcements import Dropped, SpokenKind
from assistant.speech.announcer import Announcer, Caption, SpokenAnswer
from assistant.speech.errors import SpeechError

MOST_NEWS = 64
"""Most news of a announcer that wait to become events; further ones are counted."""
WORDS = {f"{kind.word}s": kind for kind in SpokenKind}
"""What may be spoken, as settings name it."""


def spoken_kinds(words: Iterable[str]) -> frozenset[SpokenKind]:
    """The kinds that `words` name. Raises `ConfigError` for another word.

    >>> sorted(spoken_kinds(["remarks", "alerts"]))
    [<SpokenKind.REMARK: 0>, <SpokenKind.ALERT: 1>]
    """
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise ConfigError(f"speak {unknown[0]!r}: it must be among {', '.join(sorted(WORDS))}; as remarks,alerts")
    return frozenset(WORDS[word] for word in words)


@dataclass(frozen=True, slots=True)
class SpeechNews:
    """Something that became of speech: an announcement was not said, a voice or a device failed."""

    kind: StatusKind
    source: str
    text: str
    details: dict[str, Detail]


class SpeechLog:
    """A listener of a announcer that keeps its news until somebody takes them. Any thread."""

    def __init__(
        self,
        on_caption: Callable[[Caption | None], None] = lambda caption: None,
        on_news: Callable[[SpeechNews], None] | None = None,
    ) -> None:
        """on_news: takes each of the news at once, on the thread that they come from, in place of keeping them."""
        self.on_caption = on_caption
        self._on_news = on_news
        self._news: deque[SpeechNews] = deque()
        self._lock = threading.Lock()
        self._last_trouble = ""
        self.num_lost = 0
        """News that nobody took in time."""

    def on_dropped(self, dropped: Dropped) -> None:
        """Note an announcement that was not said, or not to its end."""
        what = dropped.announcement
        details: dict[str, Detail] = {
            "why": dropped.why.value,
            "what": what.kind.word,
            "after_s": round(dropped.after_s, 3),
            "said": what.num_said,
            "words": what.text,
        }
        self._keep(SpeechNews(StatusKind.UNSPOKEN, what.source, dropped.sentence, details))

    def on_trouble(self, error: SpeechError) -> None:
        """Note what is wrong with a voice or a device, once until it is something else."""
        self.on_change(str(error))

    def on_change(self, text: str) -> None:
        """Note in words that a device was lost, or that another is used."""
        if text != self._last_trouble:
            self._last_trouble = text
            self._keep(SpeechNews(StatusKind.AUDIO, "", text, {}))

    def take(self) -> list[SpeechNews]:
        """The news since the last call, oldest first."""
        with self._lock:
            news = list(self._news)
            self._news.clear()
        return news

    def _keep(self, news: SpeechNews) -> None:
        if self._on_news is not None:
            self._on_news(news)
            return
        with self._lock:
            if len(self._news) < MOST_NEWS:
                self._news.append(news)
            else:
                self.num_lost += 1


class AnswersAloud:
    """Answers that are said piece by piece, so that their events are not said once more. Any thread."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer
        self._asked: deque[str] = deque(maxlen=MOST_NEWS)

    def begin(self, question: str, source: str = "") -> SpokenAnswer:
        """A question is asked now: what is being said makes room for its answer."""
        self._asked.append(question)
        return self._announcer.await_answer(source)

    def is_said(self, answer: Answer) -> bool:
        """Whether an answer is being said by its pieces; asked once for each."""
        try:
            self._asked.remove(answer.question)
        except ValueError:
            return False
        return True


class SpeakingSink:
    """A sink that says comments, answers and alerts aloud, and publishes the announcer's news among the events."""

    def __init__(
        self,
        announcer: Announcer,
        log: SpeechLog,
        kinds: frozenset[SpokenKind],
        publish: Callable[[StatusEvent], None],
        answers: AnswersAloud | None = None,
    ) -> None:
        """publish: takes a status event, in its place among the stream's; called from `append` and `close`."""
        self._announcer = announcer
        self._log = log
        self._kinds = kinds
        self._publish = publish
        self._answers = answers
        self._last: StreamEvent | None = None

    def append(self, event: StreamEvent) -> None:
        """Have an event said when its turn comes; returns at once."""
        kind = kind_of(event)
        is_said = isinstance(event, Answer) and self._answers is not None and self._answers.is_said(event)
        if kind is not None and kind in self._kinds and not is_said:
            self._announcer.say(kind, event.text, event.source)
        self._last = event
        self._tell()

    def close(self) -> None:
        """Publish what is still to be told."""
        self._tell()

    def _tell(self) -> None:
        source, time_s = ("", 0.0) if self._last is None else (self._last.source, self._last.time_s)
        for news in self._log.take():
            self._publish(
                StatusEvent(
                    source=news.source or source,
                    time_s=time_s,
                    text=news.text,
                    reason=news.text,
                    kind=news.kind,
                    details=news.details,
                )
            )


def kind_of(event: StreamEvent) -> SpokenKind | None:
    """What an event is when it is said aloud; None for what is not."""
    if isinstance(event, Alert):
        return SpokenKind.ALERT
    if isinstance(event, Answer):
        return SpokenKind.ANSWER
    return SpokenKind.REMARK if isinstance(event, Comment) else None
