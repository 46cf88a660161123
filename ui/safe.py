"""Escapes text of models, cameras and people for the page, and formats times. Plain functions; any thread."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

_TIME = re.compile(r"\b(?:(?:(\d{1,2}):)?(\d{1,2}):(\d{2}(?:\.\d+)?)|(\d+(?:\.\d+)?) ?(?:s|seconds)\b)")
"""`12:05`, `1:12:05.5`, `12.5 s`, `12 seconds`."""


def literal(text: str) -> str:
    """`text` escaped for Markdown and HTML: every character that either could interpret is an entity.

    >>> literal("<b>*a*")
    '&#60;b&#62;&#42;a&#42;'
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "<br>".join("".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in line) for line in lines)


def attribute(text: str) -> str:
    """`text` escaped for an HTML attribute in quotes."""
    return escape(" ".join(text.split()), quote=True)


def with_time_links(text: str, link: Callable[[float, str], str]) -> str:
    """`literal(text)` with the times in it replaced by `link(seconds, shown)`.

    >>> with_time_links("at 0:12 *it*", lambda seconds, shown: f"[{seconds:g}]")
    'at [12] &#42;it&#42;'
    """
    parts: list[str] = []
    end = 0
    for match in _TIME.finditer(text):
        parts += [literal(text[end : match.start()]), link(_seconds(match), literal(match[0]))]
        end = match.end()
    return "".join([*parts, literal(text[end:])])


def clock(seconds: float) -> str:
    """Media time in seconds as a clock for people.

    >>> clock(3725.55), clock(12.5)
    ('1:02:05.5', '00:12.5')
    """
    tenths = max(0, int(seconds * 10 + 0.5 - 1e-6))
    minutes, rest = divmod(tenths, 600)
    head = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes:02d}"
    return f"{head}:{rest // 10:02d}.{rest % 10}"


def span(seconds: float) -> str:
    """A duration in seconds for people.

    >>> span(0.34), span(75), span(7300)
    ('0.3 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {int(seconds % 60)} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _seconds(match: re.Match[str]) -> float:
    hours, minutes, seconds, alone = match.groups()
    if alone is not None:
        return float(alone)
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds)
