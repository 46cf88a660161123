"""Finds the time that a question is about: `at 10:15`, `20 minutes ago`, `yesterday between 9 and 10:30`.

Plain functions; English, local time. A time of day means the last one that has passed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
_NUMBERS |= {"nine": 9, "ten": 10, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_COUNT = rf"(half an?|a few|a couple of|\d{{1,5}}(?:\.\d)?|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
_FEW = {"a few": 3.0, "a couple of": 2.0, "half a": 0.5, "half an": 0.5}
_UNIT_S = {"second": 1.0, "sec": 1.0, "s": 1.0, "minute": 60.0, "min": 60.0, "m": 60.0, "hour": 3600.0, "h": 3600.0}
_UNIT_S |= {"day": 86_400.0, "week": 604_800.0}
_UNIT = rf"({'|'.join(sorted(_UNIT_S, key=len, reverse=True))})s?"
_CLOCK = (
    r"(?:(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap]\.?m\b\.?)?"
    r"|(\d{1,2})\s*(?:([ap]\.?m\b\.?)|o'?clock\b)|(noon|midnight)\b)"
)
_BARE_CLOCK = _CLOCK.replace(r"(?:([ap]\.?m\b\.?)|o'?clock\b)", r"(?:([ap]\.?m\b\.?)|o'?clock\b|(?![\w:.%]))")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PARTS = {"morning": (5, 12), "afternoon": (12, 18), "evening": (17, 23), "night": (21, 29)}

_AGO = re.compile(rf"\b{_COUNT}\s*{_UNIT}\s+ago\b", re.I)
_LAST = re.compile(rf"\b(?:last|past)\s+(?:{_COUNT}\s*)?{_UNIT}\b", re.I)
_BETWEEN = re.compile(rf"\b(?:between|from)\s+{_BARE_CLOCK}\s+(?:and|to|until|till)\s+{_BARE_CLOCK}", re.I)
_SINCE = re.compile(rf"\b(?:since|after)\s+{_CLOCK}", re.I)
_AT = re.compile(rf"\b(at|around|about|by)?\s*(?:around|about)?\s*(?<![\d:.]){_CLOCK}", re.I)
_DATE = re.compile(r"\b(\d{4}-\d{2}-\d{2})\b", re.ASCII)
_DAY = re.compile(
    rf"\b(?:(yesterday|today|this|last|tonight|on\s+(?:{'|'.join(_DAYS)}))\s*(morning|afternoon|evening|night)?)\b",
    re.I,
)
_SECOND = re.compile(
    r"\b(?:at|around|about)\s+(?:(?:(\d{1,3}):)?(\d{1,2}):(\d{2}(?:\.\d+)?)|(?:second\s+)?(\d+(?:\.\d+)?)\s*"
    r"(?:s\b|secs?\b|seconds?\b)|second\s+(\d+(?:\.\d+)?))(?!\s*[ap]\.?m\b)",
    re.I,
)
_GROUPS = 7
"""Number of groups of `_CLOCK`."""


@dataclass(frozen=True, slots=True)
class TimeReference:
    """The span of time that a question is about."""

    start_s: float
    """Seconds since 1970; seconds of media time if `in_media`."""
    end_s: float
    said: str
    """The words of the question that name the time."""
    in_media: bool = False


def find_moment(question: str, now_s: float, media_s: float | None = None) -> TimeReference | None:
    """The time that a question names; None if it names none that is understood, or none in the past.

    now_s: time of day, seconds since 1970. media_s: current media time of a recording, so that `at 1:20` and `20
    seconds ago` are times of the recording; None for live sources.
    """
    try:
        if media_s is not None and (moment := _in_media(question, media_s)) is not None:
            return moment
        for reader in (_ago, _last, _between, _since, _at, _day):
            moment = reader(question, now_s)
            if moment is not None and 0 <= moment.start_s < now_s:
                return TimeReference(moment.start_s, min(moment.end_s, now_s), moment.said)
            if moment is not None:
                return None
    except (ValueError, OverflowError, OSError):  # 25:00, 2026-02-30, a million weeks
        return None
    return None


def _in_media(question: str, media_s: float) -> TimeReference | None:
    match = _AGO.search(question)
    if match is not None:
        middle_s = media_s - _length_s(match[1], match[2])
        return _around(middle_s, 2.0, match[0], in_media=True) if middle_s >= 0 else None
    match = _SECOND.search(question)
    if match is None:
        return None
    hours, minutes, seconds, short, named = match.groups()
    if seconds is not None:
        middle_s = 3600.0 * int(hours or 0) + 60.0 * int(minutes) + float(seconds)
    else:
        middle_s = float(short or named)
    # A time that the recording has not reached yet is taken as a time of day.
    return _around(middle_s, 2.0, match[0], in_media=True) if middle_s <= media_s else None


def _ago(question: str, now_s: float) -> TimeReference | None:
    match = _AGO.search(question)
    if match is None:
        return None
    length_s = _length_s(match[1], match[2])
    if _UNIT_S[match[2].lower()] >= _UNIT_S["day"]:
        midnight = datetime.combine(datetime.fromtimestamp(now_s - length_s).date(), time())
        return TimeReference(midnight.timestamp(), (midnight + timedelta(days=1)).timestamp(), match[0])
    # "20 minutes ago" may be off by two minutes, a tenth.
    return _around(now_s - length_s, max(5.0, 0.1 * length_s), match[0])


def _last(question: str, now_s: float) -> TimeReference | None:
    match = _LAST.search(question)
    if match is None:
        return None
    return TimeReference(now_s - _length_s(match[1] or "one", match[2]), now_s, match[0])


def _between(question: str, now_s: float) -> TimeReference | None:
    match = _BETWEEN.search(question)
    if match is None:
        return None
    day = _named_day(question, now_s)
    groups = match.groups()
    second, _ = _clock(groups[_GROUPS:])
    half = groups[_GROUPS + 3] or groups[_GROUPS + 5]
    first_groups = list(groups[:_GROUPS])
    if half and not (first_groups[3] or first_groups[5] or first_groups[6]):  # between 9 and 10 pm
        first_groups[5 if first_groups[4] else 3] = half
    first, _ = _clock(first_groups)
    end = _last_passed(second, now_s, day)
    start = datetime.combine(end.date(), first)
    if start > end:
        start -= timedelta(days=1)
    return TimeReference(start.timestamp(), end.timestamp(), match[0])


def _since(question: str, now_s: float) -> TimeReference | None:
    match = _SINCE.search(question)
    if match is None:
        return None
    clock, _ = _clock(match.groups())
    day = _named_day(question, now_s)
    end_s = now_s if day is None else datetime.combine(day + timedelta(days=1), time()).timestamp()
    return TimeReference(_last_passed(clock, now_s, day).timestamp(), end_s, match[0])


def _at(question: str, now_s: float) -> TimeReference | None:
    match = _AT.search(question)
    if match is None:
        return None
    clock, width_s = _clock(match.groups()[1:])
    is_rough = re.search(r"\b(around|about)\b", match[0], re.I) is not None
    middle_s = _last_passed(clock, now_s, _named_day(question, now_s)).timestamp()
    slack_s = 300.0 if is_rough or width_s >= 3600 else 60.0 if width_s >= 60 else 10.0
    return TimeReference(middle_s - slack_s, middle_s + min(width_s, 60.0) + slack_s, match[0].strip())


def _day(question: str, now_s: float) -> TimeReference | None:
    day = _named_day(question, now_s)
    match = _DAY.search(question) or _DATE.search(question)
    if day is None or match is None:
        return None
    part = match[2].lower() if match.re is _DAY and match[2] else "night" if "tonight" in match[0].lower() else None
    start_hour, end_hour = _PARTS[part] if part else (0, 24)
    if match[0].lower().startswith("last night"):
        start_hour, end_hour = 18, 30
    midnight = datetime.combine(day, time())
    start, end = midnight + timedelta(hours=start_hour), midnight + timedelta(hours=end_hour)
    return TimeReference(start.timestamp(), end.timestamp(), match[0])


def _named_day(question: str, now_s: float) -> date | None:
    """The day that the question names; "this" and "last" name one only with a part of the day."""
    today = datetime.fromtimestamp(now_s).date()
    dated = _DATE.search(question)
    if dated is not None:
        return date.fromisoformat(dated[1])
    for match in _DAY.finditer(question):
        word, part = match[1].lower().split()[-1], match[2]
        if word in ("today", "tonight") or (word == "this" and part):
            return today
        if word == "yesterday" or (word == "last" and part):
            return today - timedelta(days=1)
        if word in _DAYS:
            return today - timedelta(days=(today.weekday() - _DAYS.index(word)) % 7 or 7)
    return None


def _clock(groups: tuple[str | None, ...] | list[str | None]) -> tuple[time, float]:
    """A time of day and its precision as written (hour, minute or second), seconds. Raises `ValueError` for 25:00."""
    hour_text, minute, second, half, hour_alone, half_alone, word = groups[:_GROUPS]
    if word is not None:
        return time(12 if word.lower() == "noon" else 0), 3600.0
    hour, half = int(hour_text or hour_alone or 0), (half or half_alone or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise ValueError(f"{hour} {half}")
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    width_s = 3600.0 if minute is None else 60.0 if second is None else 1.0
    return time(hour, int(minute or 0), int(second or 0)), width_s


def _last_passed(clock: time, now_s: float, day: date | None) -> datetime:
    now = datetime.fromtimestamp(now_s)
    if day is not None:
        return datetime.combine(day, clock)
    then = datetime.combine(now.date(), clock)
    return then if then <= now else then - timedelta(days=1)


def _length_s(count: str, unit: str) -> float:
    number = count.lower()
    return (_FEW.get(number) or float(_NUMBERS.get(number, 0) or number)) * _UNIT_S[unit.lower()]


def _around(middle_s: float, slack_s: float, said: str, *, in_media: bool = False) -> TimeReference:
    return TimeReference(middle_s - slack_s, middle_s + slack_s, said, in_media)
