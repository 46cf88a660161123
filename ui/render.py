"""The feed as messages of Gradio's chatbot. Plain functions; any thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from assistant.viewers.feed import Badge, FeedItem
from ui.safe import attribute, clock, literal, span, with_time_links

MOST_SHOWN = 120
"""How many of the newest items the page shows; the Events tab finds older ones."""


def messages(items: Iterable[FeedItem]) -> list[dict[str, Any]]:
    """Messages for `gr.Chatbot`, oldest first: a question is its own message, before its answer."""
    shown: list[dict[str, Any]] = []
    source = ""
    for item in list(items)[-MOST_SHOWN:]:
        if item.event is not None and item.event.source and item.event.source != source:
            if source:  # times start again here
                shown.append({"role": "assistant", "content": _divider(item.event.source)})
            source = item.event.source
        if item.question is not None:
            shown.append({"role": "user", "content": _question(item)})
        shown.append({"role": "assistant", "content": _line(item)})
    return shown


def _divider(source: str) -> str:
    return f'<span class="sva-divider">{literal(source)}</span>'


def _question(item: FeedItem) -> str:
    attached = f'<span class="sva-attached">{literal(item.attached)}</span>' if item.attached else ""
    return f"{literal(item.question or '')}{attached}"


def _line(item: FeedItem) -> str:
    if item.is_open and not item.text:
        body = '<span class="sva-wait">answering…</span>'
    else:
        says = item.badge in (Badge.REMARK, Badge.ANSWER, Badge.ALERT)
        body = with_time_links(item.text, _time_link) if says else literal(item.text)
        body += '<span class="sva-cursor">▍</span>' if item.is_open else ""
        if item.is_cut:  # a remark was cut short by a question, an answer by a person
            is_whole = item.text.endswith((".", "!", "?"))  # only its end mark was cut
            mark = "" if is_whole else "…"
            body += mark if item.badge is Badge.REMARK else ' <span class="sva-cut">stopped</span>'
    kind = "error" if item.is_error else item.badge.name.lower()
    return f'<span class="sva-line sva-{kind}">{_head(item)} <span class="sva-text">{body}</span></span>'


def _head(item: FeedItem) -> str:
    parts = [f'<span class="sva-badge">{literal(item.badge.value)}</span>']
    parts.append(f'<a class="sva-at" href="#sva-event-{item.id}" title="Show the frames behind it">'
                 f"{literal(clock(item.time_s))}</a>")  # fmt: skip
    if item.latency_ms is not None:
        delay = span(item.latency_ms / 1000)
        parts.append(f'<span class="sva-delay" title="From the picture to the first word">&#43;{literal(delay)}</span>')
    if item.event is not None and item.event.probability is not None and item.badge is Badge.REMARK:
        why = attribute(f"Score {item.event.score or 0:.2f}, threshold {item.event.threshold or 0:.2f}")
        parts.append(f'<span class="sva-odds" title="{why}">{item.event.probability:.0%}</span>')
    return f'<span class="sva-head">{" ".join(parts)}</span>'


def _time_link(seconds: float, shown: str) -> str:
    return f'<a class="sva-time" href="#sva-moment-{seconds:.3f}" title="Show that moment">{shown}</a>'
