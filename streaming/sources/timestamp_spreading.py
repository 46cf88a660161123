"""Spreads pictures whose timestamps coincide evenly by the frame rate. For the thread that reads the stream.

Recorders without a clock, and tools that confuse time bases, write minutes of pictures within a few milliseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from streaming.sources.pictures import DecodedPicture, Event
from streaming.sources.timestamps import DEFAULT_FPS

NUM_CROWDED = 8
"""Number of successive pictures within `CROWD_S` that count as a crowd."""
CROWD_S = 0.004
"""No camera takes 8 pictures in 4 ms; 960 a second take 7."""


def spread_crowds(events: Iterable[Event], fps: float | None) -> Iterator[Event]:
    """`events` with crowded pictures spread at `fps`, or at 25 a second if `fps` is None.

    Later pictures continue from the end of the crowd. Up to 7 pictures within 4 ms are held back until it is known
    whether they are a crowd.
    """
    spreader = _Spreader(1.0 / (fps or DEFAULT_FPS))
    for event in events:
        yield from spreader.push(event)
    yield from spreader.flush()


class _Spreader:
    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._stamps_s: deque[float] = deque(maxlen=NUM_CROWDED)
        self._held: list[Event] = []
        self._is_crowd = False
        self._last_s = 0.0
        """The timestamp assigned to the last picture."""
        self._offset_s = 0.0

    def push(self, event: Event) -> Iterator[Event]:
        """Add the next event; yield the events whose timestamps are settled now."""
        if not isinstance(event, DecodedPicture) or event.stamp_s is None:
            yield from self._after_held(event)
            return
        is_near = bool(self._stamps_s) and abs(event.stamp_s - self._stamps_s[-1]) < CROWD_S
        self._stamps_s.append(event.stamp_s)
        spans_s = max(self._stamps_s) - min(self._stamps_s)
        if len(self._stamps_s) == NUM_CROWDED and spans_s < CROWD_S:
            self._is_crowd = True
        elif self._is_crowd:
            self._is_crowd = False
            self._offset_s = self._last_s + self._interval_s - event.stamp_s
        if self._is_crowd:
            yield from map(self._spread, [*self._held, event])
            self._held = []
        elif is_near:
            self._held.append(event)
        else:
            yield from self.flush()
            yield self._shifted(event)

    def flush(self) -> Iterator[Event]:
        """Yield the events that were held back and are not a crowd."""
        held, self._held = self._held, []
        for event in held:
            yield self._shifted(event) if isinstance(event, DecodedPicture) and event.stamp_s is not None else event

    def _after_held(self, event: Event) -> Iterator[Event]:
        if self._held:
            self._held.append(event)
        else:
            yield event

    def _spread(self, event: Event) -> Event:
        if not isinstance(event, DecodedPicture) or event.stamp_s is None:
            return event
        self._last_s += self._interval_s
        return replace(event, stamp_s=self._last_s, duration_s=self._interval_s, is_spread=True)

    def _shifted(self, event: DecodedPicture) -> DecodedPicture:
        assert event.stamp_s is not None
        self._last_s = event.stamp_s + self._offset_s
        return event if not self._offset_s else replace(event, stamp_s=self._last_s)
