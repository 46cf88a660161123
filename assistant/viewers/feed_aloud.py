"""Says what a viewer's feed shows: remarks and alerts when they come, answers while they grow.

Any thread may call it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from assistant.speech.announcements import SpokenKind
from assistant.viewers.feed import Badge

if TYPE_CHECKING:
    from assistant.speech.announcer import Announcer, SpokenAnswer
    from assistant.viewers.feed import Feed, FeedItem

KINDS = {Badge.REMARK: SpokenKind.REMARK, Badge.ALERT: SpokenKind.ALERT}


class FeedAloud:
    """Follows a feed from now on. Listen to the feed with `update`."""

    def __init__(self, feed: Feed, announcer: Announcer) -> None:
        self._feed = feed
        self._announcer = announcer
        self._last_id = feed.last_id
        self._answers: dict[int, tuple[SpokenAnswer, int]] = {}
        """Answers under way, with the number of letters that were passed on."""
        self._lock = threading.Lock()

    def update(self) -> None:
        """Have said what is new in the feed since the last call; returns at once."""
        with self._lock:
            for item in self._feed.items(after_id=self._last_id):
                if item.id <= self._last_id:
                    continue
                self._last_id = item.id
                self._begin(item)
            for item_id in list(self._answers):
                self._go_on(item_id)

    def _begin(self, item: FeedItem) -> None:
        source = item.event.source if item.event is not None else ""
        if item.badge is Badge.ANSWER and not item.is_error:
            self._answers[item.id] = (self._announcer.await_answer(source), 0)
        elif item.badge in KINDS:
            self._announcer.say(KINDS[item.badge], item.text, source)

    def _go_on(self, item_id: int) -> None:
        answer, num_letters = self._answers[item_id]
        item = self._feed.get(item_id)
        if item is None or item.is_error or item.is_cut:
            answer.cancel()
            del self._answers[item_id]
            return
        answer.add(item.text[num_letters:])
        if item.is_open:
            self._answers[item_id] = (answer, len(item.text))
        else:
            answer.end()
            del self._answers[item_id]
