"""What is to be said aloud: announcements, and the queue that orders them and drops stale ones.

Nothing here waits or locks; the announcer calls it while it holds its own lock.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from assistant.speech.clauses import ClauseSplitter, clauses


class SpokenKind(IntEnum):
    """Kinds of announcements, the more urgent the higher: a more urgent one interrupts the one being said."""

    REMARK = 0
    ALERT = 1
    ANSWER = 2

    @property
    def word(self) -> str:
        """`remark`, `alert` or `answer`."""
        return self.name.lower()


class Unspoken(StrEnum):
    """Why something was not said aloud, or not to its end."""

    STALE = "stale"
    INTERRUPTED = "interrupted"
    CROWDED = "crowded"
    STALLED = "stalled"
    HUSHED = "hushed"
    NO_DEVICE = "no_device"
    VOICE_FAILED = "voice_failed"


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds after which an announcement that has not begun is dropped, and how many may wait."""

    remark_s: float = 4.0
    alert_s: float = 30.0
    answer_s: float = 120.0
    most_waiting: int = 8

    def of(self, kind: SpokenKind) -> float:
        """The limit of one kind."""
        return {SpokenKind.REMARK: self.remark_s, SpokenKind.ALERT: self.alert_s, SpokenKind.ANSWER: self.answer_s}[
            kind
        ]


@dataclass(slots=True, eq=False)
class Announcement:
    """One thing to say, whose text may still grow."""

    kind: SpokenKind
    put_at_s: float
    """When it was put, by our clock."""
    source: str = ""
    """The stream that it is about."""
    text: str = ""
    """All text so far."""
    is_ended: bool = False
    """Whether no more text will come."""
    num_said: int = 0
    """Pieces that were said to their end."""
    spoken: list[str] = field(default_factory=list)
    """The pieces that have begun to be said."""
    _pieces: deque[str] = field(default_factory=deque)
    _splitter: ClauseSplitter = field(default_factory=ClauseSplitter)

    @classmethod
    def of_text(cls, kind: SpokenKind, text: str, put_at_s: float, source: str = "") -> Announcement:
        """An announcement whose text is known."""
        return cls(kind, put_at_s, source, text, is_ended=True, _pieces=deque(clauses(text)))

    def feed(self, piece: str) -> None:
        """Add text to its end."""
        if not self.is_ended:
            self.text += piece
            self._pieces.extend(self._splitter.feed(piece))

    def end(self) -> None:
        """No more text comes."""
        if not self.is_ended:
            self._pieces.extend(self._splitter.flush())
            self.is_ended = True

    def stop(self) -> None:
        """Nothing more of it is said."""
        self._pieces.clear()
        self.is_ended = True

    @property
    def is_ready(self) -> bool:
        """Whether a piece of it can be said now."""
        return bool(self._pieces)

    @property
    def is_over(self) -> bool:
        """Whether all of it was taken."""
        return self.is_ended and not self._pieces

    def take(self) -> str | None:
        """The next piece to say; None if there is none now."""
        if not self._pieces:
            return None
        self.spoken.append(self._pieces.popleft())
        return self.spoken[-1]

    def again(self) -> Announcement:
        """The same text from its beginning, put when it was put."""
        return Announcement.of_text(self.kind, self.text, self.put_at_s, self.source)


@dataclass(frozen=True, slots=True)
class Dropped:
    """An announcement that was not said, or not to its end, and why."""

    announcement: Announcement
    why: Unspoken
    after_s: float
    """How long after it was put."""

    @property
    def sentence(self) -> str:
        """The same in words."""
        what, age = self.announcement.kind.word, f"{self.after_s:.1f} s"
        reasons = {
            Unspoken.STALE: f"its turn came {age} after it",
            Unspoken.INTERRUPTED: "something more urgent came",
            Unspoken.CROWDED: "too much waited to be said",
            Unspoken.STALLED: "its next words did not come",
            Unspoken.HUSHED: "somebody asked for silence",
            Unspoken.NO_DEVICE: "no audio device is there",
            Unspoken.VOICE_FAILED: "the voice could not say it",
        }
        how = "not said to its end" if self.announcement.spoken else "not said aloud"
        return f"{what} {how}: {reasons[self.why]}; its text stands in the events"


class SpeechQueue:
    """Announcements that wait to be said. An answer waits from the moment of its question, so that it is said first."""

    def __init__(self, freshness: Freshness | None = None) -> None:
        self._fresh = freshness or Freshness()
        self._waiting: list[Announcement] = []
        self.counts: Counter[Unspoken] = Counter()
        """How many were not said, by reason."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, announcement: Announcement, now_s: float) -> list[Dropped]:
        """Add an announcement; returns what is dropped for it: the oldest of the least urgent where too many wait."""
        self._waiting.append(announcement)
        if len(self._waiting) <= self._fresh.most_waiting:
            return []
        least = min(self._waiting, key=lambda other: (other.kind, other.put_at_s))
        self._waiting.remove(least)
        return [self.drop(least, Unspoken.CROWDED, now_s)]

    def put_back(self, announcement: Announcement) -> None:
        """Add what was interrupted once more, before others of its kind."""
        self._waiting.insert(0, announcement)

    def next(self, now_s: float) -> tuple[Announcement | None, list[Dropped]]:
        """The announcement to say next, and those that are stale by now. None while an answer is awaited."""
        stale = [u for u in self._waiting if not u.spoken and now_s - u.put_at_s > self._fresh.of(u.kind)]
        self._waiting = [u for u in self._waiting if u not in stale and not u.is_over]
        dropped = [self.drop(announcement, Unspoken.STALE, now_s) for announcement in stale]
        first = max(self._waiting, key=lambda other: other.kind, default=None)
        if first is None or not first.is_ready:
            return None, dropped
        self._waiting.remove(first)
        return first, dropped

    def is_more_urgent(self, than: Announcement) -> bool:
        """Whether something waits that interrupts `than`."""
        return any(announcement.kind > than.kind and not announcement.is_over for announcement in self._waiting)

    def clear(self, why: Unspoken, now_s: float) -> list[Dropped]:
        """Drop everything that waits, answers too."""
        gone, self._waiting = self._waiting, []
        for announcement in gone:
            announcement.stop()
        return [self.drop(announcement, why, now_s) for announcement in gone]

    def drop(self, announcement: Announcement, why: Unspoken, now_s: float) -> Dropped:
        """Count an announcement that is not said, or not to its end."""
        self.counts[why] += 1
        return Dropped(announcement, why, now_s - announcement.put_at_s)
