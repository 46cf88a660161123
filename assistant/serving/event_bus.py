"""Publishes a channel's events: to its sinks first, then to its subscribers; the latest are kept for later ones."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from assistant.stream.listener_guard import ListenerGuard

if TYPE_CHECKING:
    from assistant.events import StreamEvent
    from assistant.sinks import EventSink

MOST_EVENTS = 2000
"""Events that are kept for later subscribers."""

logger = logging.getLogger(__name__)


class EventBus:
    """One channel's events. Any thread may call it."""

    def __init__(self, name: str, sinks: Sequence[EventSink], guard: ListenerGuard | None = None) -> None:
        """`sinks` take every event before subscribers do. guard: counts what subscribers raise."""
        self._name = name
        self._guard = guard or ListenerGuard(name)
        self._sinks = tuple(sinks)
        self._lock = threading.Lock()
        self._subscribers: tuple[Callable[[StreamEvent], None], ...] = ()
        self._events: deque[StreamEvent] = deque(maxlen=MOST_EVENTS)
        self.num_events = 0
        self.num_unstored = 0
        """Events that a sink did not take."""

    def publish(self, event: StreamEvent) -> None:
        """Give an event to the sinks, then to the subscribers."""
        for sink in self._sinks:
            try:
                sink.append(event)
            except Exception as error:  # an event that cannot be stored is still shown
                self.num_unstored += 1
                logger.error("%s: an event was not stored: %s", self._name, error)
        with self._lock:
            self._events.append(event)
            self.num_events += 1
            subscribers = self._subscribers
        for subscriber in subscribers:
            self._guard.tell(subscriber, event)

    def subscribe(self, subscriber: Callable[[StreamEvent], None]) -> Callable[[], None]:
        """Call `subscriber` with every event, after it was stored; it returns at once. The result ends that."""
        with self._lock:
            self._subscribers = (*self._subscribers, subscriber)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(other for other in self._subscribers if other is not subscriber)

        return unsubscribe

    def since(self, index: int) -> tuple[int, list[StreamEvent]]:
        """The events from the one numbered `index` on, as far as they are kept, and the next number."""
        with self._lock:
            start = max(0, index - (self.num_events - len(self._events)))
            return self.num_events, list(self._events)[start:]
