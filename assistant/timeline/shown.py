"""Formats times, spans and events of the timeline as text, safe for a terminal. Plain functions."""

from __future__ import annotations

from datetime import datetime

from assistant.events import Answer, StatusEvent
from assistant.timeline.records import FoundEvent


def shown_moment(wall_s: float, now_s: float | None = None) -> str:
    """Local time as text: `10:15:02` if it is the day of `now_s`, otherwise `2026-11-21 10:15:02`."""
    try:
        then = datetime.fromtimestamp(wall_s)
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
    if now_s is not None and then.date() == datetime.fromtimestamp(now_s).date():
        return then.strftime("%H:%M:%S")
    return then.strftime("%Y-%m-%d %H:%M:%S")


def shown_span(seconds: float) -> str:
    """A span of time as text.

    >>> shown_span(59.6), shown_span(7_260), shown_span(200_000)
    ('1 min', '2 h 1 min', '2 d 7 h')
    """
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{number} {unit}" for number, unit in [part for part in parts if part[0]][:2])


def shown_text(text: str) -> str:
    """`text` on one line without control characters, which could move a terminal's cursor.

    >>> shown_text("a\\x1b[2J  b\\n")
    'a [2J b'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shown_kind(found: FoundEvent) -> str:
    """The event's type, or its kind for a status event, in words."""
    event = found.event
    return event.kind.value.replace("_", " ") if isinstance(event, StatusEvent) else event.type


def shown_line(found: FoundEvent, now_s: float, *, width: int = 0) -> str:
    """An event on one line. width: to pad the camera's name to, characters."""
    event = found.event
    text = shown_text(event.text)
    if isinstance(event, Answer):
        text = f"{shown_text(event.question)} — {text}"
    extras = [f"{len(found.frames)} frames"] if found.frames else []
    if found.clip is not None:
        extras.append("clip" if found.clip.state == "done" else f"clip {found.clip.state}")
    extras += [f"marked {found.verdict}"] if found.verdict else []
    tail = f"  [{', '.join(extras)}]" if extras else ""
    camera = shown_text(found.camera)
    return f"{shown_moment(found.wall_s, now_s)}  #{found.id:<5} {camera:{width}}  {shown_kind(found):8} {text}{tail}"
