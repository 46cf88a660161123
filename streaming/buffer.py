"""Bounded queues that pass frames and notices from one thread to another: one thread puts, another gets.

`LatestFrame` is for live sources: it keeps the newest frame, and counts the frames it drops. `FrameQueue` is for
recordings: `put` blocks while the queue is full, and no frame is ever dropped. Both keep notices in their order among
the frames, and lose none.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections import deque

from streaming.clock import Clock, SystemClock
from streaming.errors import OptionError
from streaming.types import Frame, Notice, NoticeKind

Item = Frame | Notice
"""One item of a source's stream: a frame or a notice."""

_MAX_WAITING_NOTICES = 256
_NOTICE_INTERVAL_S = 1.0


class HandOver(ABC):
    """Base class of both queues. Every method may be called from any thread."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._cancelled = False

    @property
    def num_dropped(self) -> int:
        """Number of frames dropped so far."""
        return 0

    @property
    def is_drained(self) -> bool:
        """Whether `get` will never return another item."""
        with self._changed:
            return self._cancelled or (self._finished and not self._has_next())

    def put(self, item: Item) -> bool:
        """Add `item`, blocking while there is no room; return False after `cancel`: the producer should stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._has_room(item))
            if self._cancelled:
                return False
            self._append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> Item | None:
        """Return the next item, or None after `timeout_s` (None: no limit) or at the end; see `is_drained`."""
        with self._changed:
            self._clock.wait_for(
                self._changed, lambda: self._cancelled or self._finished or self._has_next(), timeout_s
            )
            if self._cancelled or not self._has_next():
                return None
            item = self._pop()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Say that no more items will be put; `get` still returns the items that are queued."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Discard all items, and wake every thread that waits in `put` or `get`."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    @abstractmethod
    def _has_room(self, item: Item) -> bool:
        """Whether `item` can be put now."""

    def _has_next(self) -> bool:
        return bool(self._items)

    def _append(self, item: Item) -> None:
        self._items.append(item)

    def _pop(self) -> Item:
        return self._items.popleft()


class FrameQueue(HandOver):
    """A first-in, first-out queue that drops nothing; `put` blocks while it holds `max_items`."""

    def __init__(self, max_items: int = 4, clock: Clock | None = None) -> None:
        super().__init__(clock)
        if max_items < 1:
            raise OptionError(f"max_items={max_items}", "a queue holds at least one item", "4 is a good number")
        self._max_items = max_items

    def _has_room(self, item: Item) -> bool:
        return len(self._items) < self._max_items


class LatestFrame(HandOver):
    """Holds only the newest frame, and the notices before and after it.

    A frame that nobody fetched before the next one arrived is dropped. `DROPPED` notices report the drops, at most one
    a second, each with the number since the last notice. `put` blocks only while hundreds of notices are unread.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._num_dropped = 0
        self._num_unreported = 0
        self._last_dropped: Frame | None = None
        self._reported_at_s = -math.inf

    @property
    def num_dropped(self) -> int:
        """Number of frames dropped so far."""
        with self._changed:
            return self._num_dropped

    def _has_room(self, item: Item) -> bool:
        return isinstance(item, Frame) or len(self._items) < _MAX_WAITING_NOTICES

    def _has_next(self) -> bool:
        return bool(self._items) or (self._finished and self._num_unreported > 0)

    def _append(self, item: Item) -> None:
        if isinstance(item, Frame):
            waiting = next((old for old in self._items if isinstance(old, Frame)), None)
            if waiting is not None:
                self._items = deque(old for old in self._items if old is not waiting)
                self._num_dropped += 1
                self._num_unreported += 1
                self._last_dropped = waiting
        self._items.append(item)

    def _pop(self) -> Item:
        if self._last_dropped is not None and self._num_unreported and self._is_report_due():
            return self._drop_notice(self._last_dropped)
        return self._items.popleft()

    def _is_report_due(self) -> bool:
        """Whether to report drops now: before a frame at most once a second, before the end of the stream always."""
        following = self._items[0] if self._items else None
        if isinstance(following, Frame):
            return self._clock.now_s() - self._reported_at_s >= _NOTICE_INTERVAL_S
        return following is None or following.kind is NoticeKind.ENDED

    def _drop_notice(self, last_dropped: Frame) -> Notice:
        count, self._num_unreported = self._num_unreported, 0
        frames = "frame" if count == 1 else "frames"
        self._reported_at_s = self._clock.now_s()
        return Notice(
            kind=NoticeKind.DROPPED,
            source=last_dropped.source,
            pts_s=last_dropped.pts_s,
            reason=f"{count} {frames} came faster than they were used; the newest was kept",
            count=count,
        )
