"""Parses typed times: `2h`, `30m`, `10:15`, `2026-11-22T10:00`; local time unless an offset is given."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from assistant.errors import ConfigError

LONGEST_SPAN_S = 1e11
"""Longest span that is accepted, three thousand years."""
UNITS_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_RULE = "a span back from now (90s, 30m, 2h, 1h30m, 1d), a time of day (10:15) or a date (2026-11-22, 2026-11-22T10:00)"


def parse_when(text: str, now_s: float) -> float:
    """Parse a typed time into seconds since 1970. now_s: the current time. Raises `ConfigError` for anything else.

    A time of day means the last one that has passed.

    >>> parse_when("2h", 10_000.0)
    2800.0
    >>> parse_when("1h30m", 10_000.0)
    4600.0
    """
    typed = text.strip()
    try:
        span_s = parse_span(typed)
        if span_s is not None and span_s <= LONGEST_SPAN_S:
            return now_s - span_s
        clock = _CLOCK.fullmatch(typed)
        if clock is not None:
            return time_of_day(clock, now_s)
        if re.match(r"\d{4}-\d{2}-\d{2}", typed, re.ASCII):
            return datetime.fromisoformat(typed).timestamp()
        if typed in ("now", "today", "yesterday"):
            midnight = datetime.fromtimestamp(now_s).replace(hour=0, minute=0, second=0, microsecond=0)
            start = midnight - timedelta(days=typed == "yesterday")
            return now_s if typed == "now" else start.timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"time {text!r}: {error}; it must be {_RULE}; correct it") from error
    raise ConfigError(f"time {text!r}: it must be {_RULE}; correct it")


def parse_span(text: str) -> float | None:
    """Parse a span like `1h30m` into seconds; None for anything else.

    >>> parse_span("90s"), parse_span("1.5d"), parse_span("ten")
    (90.0, 129600.0, None)
    """
    parts = _SPAN.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        return None
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def time_of_day(clock: re.Match[str], now_s: float) -> float:
    """The last time, up to `now_s`, at which a clock showed this time of day. Raises `ValueError` for 25:00."""
    hour, minute, second = (int(part or 0) for part in clock.groups())
    now = datetime.fromtimestamp(now_s)
    then = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
    return (then if then <= now else then - timedelta(days=1)).timestamp()
