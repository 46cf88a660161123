"""Schedules: the days and times of day at which a rule is armed. Immutable; any thread may hold them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from assistant.errors import ConfigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTES_A_DAY = 24 * 60
_PART = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:\s*[-,]\s*[a-z]{3})*)(?:\s+|$))?(?:(?P<start>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2}))?"
)
_FORM = 'write days, times or both, as "mon-fri 08:00-18:00; sat,sun" or "22:00-06:00"'


@dataclass(frozen=True, slots=True)
class _Span:
    """A stretch of minutes on some weekdays; one that ends at or before its start ends on the next day."""

    days: frozenset[int]
    """Weekdays on which it begins, 0 for Monday."""
    start_min: int
    end_min: int

    def contains(self, day: int, minute: int) -> bool:
        if self.start_min < self.end_min:
            return day in self.days and self.start_min <= minute < self.end_min
        began_today = day in self.days and minute >= self.start_min
        return began_today or ((day - 1) % 7 in self.days and minute < self.end_min)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Weekly times, in the local time of the machine.

    >>> parse_schedule("mon-fri 22:00-06:00").contains(datetime(2026, 11, 28, 5, 59))
    True
    >>> parse_schedule("sat, sun").contains(datetime(2026, 11, 30, 12, 0))
    False
    """

    text: str
    spans: tuple[_Span, ...]

    def contains(self, local: datetime) -> bool:
        """Whether a local date and time is within the schedule."""
        minute = 60 * local.hour + local.minute
        return any(span.contains(local.weekday(), minute) for span in self.spans)

    def next_start(self, local: datetime) -> datetime:
        """The first minute at or after a local date and time that is within the schedule."""
        at = local.replace(second=0, microsecond=0)
        at += timedelta(minutes=int(at < local and not self.contains(at)))
        while not self.contains(at):
            at += timedelta(minutes=1)
        return at


def parse_schedule(text: str) -> Schedule:
    """Read a schedule. Raises `ConfigError` for anything that is none, and for times that never come."""
    parts = [part.strip().lower() for part in text.split(";")]
    return Schedule(text, tuple(_span(text, part) for part in parts))


def _span(text: str, part: str) -> _Span:
    found = _PART.fullmatch(part)
    if not part or found is None:
        raise ConfigError(f"schedule {text!r}: {part!r} is neither days nor times; {_FORM}")
    days = frozenset(_days(text, found["days"])) if found["days"] else frozenset(range(7))
    if found["start"] is None:
        return _Span(days, 0, _MINUTES_A_DAY)
    start_min, end_min = _minutes(text, found["start"]), _minutes(text, found["end"])
    if start_min in (end_min, _MINUTES_A_DAY):
        raise ConfigError(
            f"schedule {text!r}: {found['start']}-{found['end']} never comes; "
            "the end must differ from the start; leave the times out for whole days"
        )
    return _Span(days, start_min, end_min)


def _days(text: str, written: str) -> list[int]:
    days: list[int] = []
    for piece in re.split(r"\s*,\s*", written):
        first, _, last = (name.strip() for name in piece.partition("-"))
        for name in (first, last or first):
            if name not in DAYS:
                raise ConfigError(
                    f"schedule {text!r}: {name!r} is no day; days are {', '.join(DAYS)}; write one of them"
                )
        start, end = DAYS.index(first), DAYS.index(last or first)
        days += [(start + step) % 7 for step in range((end - start) % 7 + 1)]
    return days


def _minutes(text: str, written: str) -> int:
    hours, minutes = (int(number) for number in written.split(":"))
    if hours > 24 or minutes > 59 or (hours == 24 and minutes):
        raise ConfigError(f"schedule {text!r}: {written} is no time of day; times go from 0:00 to 24:00; correct it")
    return 60 * hours + minutes
