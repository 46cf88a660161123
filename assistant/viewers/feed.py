"""The feed of one viewer: remarks, growing answers, alerts and status events. Any thread may call it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from assistant.events import Alert, Answer, Comment, StatusEvent, StatusKind, StreamEvent
from assistant.stream.listener_guard import ListenerGuard

MOST_ITEMS = 400
"""Most items of a feed; older ones are removed, except unfinished answers."""


class Badge(StrEnum):
    """Kind of a feed item, which the page shows and filters by."""

    REMARK = "Remark"
    ANSWER = "Answer"
    ALERT = "Alert"
    STATUS = "Status"
    MEMORY = "Memory"


OF_MEMORY = frozenset(
    {
        StatusKind.EVICTED,
        StatusKind.REBASED,
        StatusKind.TRUNCATED,
        StatusKind.VETOED,
        StatusKind.GRID_CHANGED,
        StatusKind.DAMAGED,
        StatusKind.UNSPOKEN,
    }
)
"""Kinds of status events about the model's memory and output, which the page hides by default."""


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One line of the feed; immutable, a change replaces it."""

    id: int
    badge: Badge
    time_s: float
    """Media time."""
    text: str
    event: StreamEvent | None = None
    """The event that it shows; None for an unfinished answer and for the page's own notes."""
    question: str | None = None
    attached: str = ""
    """Names of the files attached to the question."""
    is_open: bool = False
    """Whether it is an unfinished answer."""
    is_error: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether the answer was stopped before its end."""
        return self.event is not None and self.event.reason == "cut_short"

    @property
    def latency_ms(self) -> float | None:
        """Milliseconds from the frame's capture to the first token."""
        return self.event.latency_ms if self.event is not None else None


class Feed:
    """The feed items of one viewer, oldest first."""

    def __init__(self, most_items: int = MOST_ITEMS) -> None:
        self._most = most_items
        self._items: OrderedDict[int, FeedItem] = OrderedDict()
        self._next_id = 1
        self._version = 0
        self._lock = threading.Lock()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._guard = ListenerGuard("feed")

    @property
    def version(self) -> int:
        """Number of changes so far."""
        return self._version

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after every change, on the changing thread. Returns a function that removes the listener."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def remove() -> None:
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not listener)

        return remove

    def add(self, event: StreamEvent) -> FeedItem:
        """Add an event."""
        question = event.question if isinstance(event, Answer) else None
        return self._enter(FeedItem(0, badge_of(event), event.time_s, event.text, event, question))

    def note(self, text: str, *, time_s: float = 0.0, is_error: bool = False) -> FeedItem:
        """Add a note of the page itself, for example why a question failed."""
        return self._enter(FeedItem(0, Badge.STATUS, time_s, text, is_error=is_error))

    def begin_answer(self, question: str, time_s: float, attached: str = "") -> FeedItem:
        """Add an unfinished answer; `say` appends to it."""
        return self._enter(FeedItem(0, Badge.ANSWER, time_s, "", None, question, attached, is_open=True))

    def say(self, item_id: int, piece: str) -> None:
        """Append a piece of text to an unfinished answer."""
        self._change(item_id, lambda item: replace(item, text=item.text + piece) if item.is_open else item)

    def finish_answer(self, item_id: int, answer: Answer) -> None:
        """Replace an unfinished answer with the finished one."""
        cut = answer.reason == "cut_short"
        text = answer.text or ("Stopped before its first word." if cut else "The model answered without a word.")
        self._change(item_id, lambda item: replace(item, text=text, time_s=answer.time_s, event=answer, is_open=False))

    def fail_answer(self, item_id: int, reason: str) -> None:
        """End an answer that failed or was stopped: keep its text so far, or show `reason` as an error."""
        self._change(
            item_id,
            lambda item: replace(item, text=item.text or reason, is_open=False, is_error=not item.text),
        )

    def get(self, item_id: int) -> FeedItem | None:
        """An item by its number; None if it was removed."""
        with self._lock:
            return self._items.get(item_id)

    def items(self, badges: Collection[Badge] | None = None, *, after_id: int = 0) -> list[FeedItem]:
        """Items with these badges (None for all), numbered above `after_id`; unfinished answers are always included."""
        with self._lock:
            items = list(self._items.values())
        return [
            item for item in items if item.id > after_id and (badges is None or item.badge in badges or item.is_open)
        ]

    @property
    def last_id(self) -> int:
        """Number of the newest item; 0 before the first."""
        return self._next_id - 1

    @property
    def num_open(self) -> int:
        """Number of unfinished answers."""
        with self._lock:
            return sum(item.is_open for item in self._items.values())

    def clear(self) -> None:
        """Remove every item."""
        with self._lock:
            self._items.clear()
        self._notify()

    def _enter(self, item: FeedItem) -> FeedItem:
        with self._lock:
            item = replace(item, id=self._next_id)
            self._next_id += 1
            self._items[item.id] = item
            settled = [other.id for other in self._items.values() if not other.is_open]
            for item_id in settled[: max(0, len(self._items) - self._most)]:
                del self._items[item_id]
        self._notify()
        return item

    def _change(self, item_id: int, change: Callable[[FeedItem], FeedItem]) -> None:
        with self._lock:
            if item_id not in self._items:
                return
            self._items[item_id] = change(self._items[item_id])
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            self._version += 1
            listeners = self._listeners
        for listener in listeners:
            self._guard.tell(listener)


def badge_of(event: StreamEvent) -> Badge:
    """The badge that an event is shown with."""
    if isinstance(event, Comment):
        return Badge.REMARK
    if isinstance(event, Answer):
        return Badge.ANSWER
    if isinstance(event, Alert):
        return Badge.ALERT
    assert isinstance(event, StatusEvent)
    return Badge.MEMORY if event.kind in OF_MEMORY else Badge.STATUS
