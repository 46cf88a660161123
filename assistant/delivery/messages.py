"""What people are told about an alert, and how it is written for each kind of receiver. Plain values and functions.

Text of a model is data: it is put on one line, and escaped where a receiver would read markup, links or mentions in it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import unicodedata
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from assistant.events import Alert, StatusEvent, StatusKind
from assistant.timeline.records import Record
from assistant.timeline.shown import shown_text

MOST_LETTERS = 1000
"""Characters of a model's text that are told; the timeline keeps all of it."""
_OF_ALERT = ("question", "hits", "zone")
"""Fields that only an alert has; the message about its end takes them from that about its start."""
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>=<])")
_MENTION = re.compile(r"([@#&])(?=[\w!&])|(<)(?=[!@#])")
_LINK = re.compile(r":(?=//)|(?<=\w)\.(?=\w{2})")
_BREAK = "\N{WORD JOINER}"
"""Invisible; where it stands, no program reads a link or a mention."""


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """One message about an alert."""

    key: str
    """Idempotency key: the same for every attempt, also after a restart."""
    rule: str
    severity: str
    camera: str
    text: str
    occurrence: str
    phase: str
    """`started` or `ended`."""
    wall_s: float
    """Time of day of the alert's picture, seconds since 1970."""
    time_s: float
    """Media time of the alert's picture."""
    reason: str = ""
    probability: float | None = None
    peak: float | None = None
    """The highest probability so far."""
    started_s: float | None = None
    """Media time at which it began; None if that is not known."""
    ended_s: float | None = None
    """Media time at which it ended; None while it goes on."""
    frame_index: int | None = None
    snapshot: str = ""
    """Path of the picture in the timeline's folder; empty for none."""
    clip: str = ""
    """Path of the clip in the timeline's folder; empty for none."""
    is_test: bool = False
    question: str = ""
    """What the model was asked."""
    hits: tuple[tuple[float, float], ...] = ()
    """Media time and probability of the frames that decided."""
    zone: tuple[tuple[float, float], ...] = ()
    """Corners of the rule's zone, as fractions of the picture; none for the whole picture."""
    frames: tuple[str, ...] = ()
    """Paths of the pictures of the frames that decided before the last one, which is the snapshot."""

    def to_json(self) -> str:
        """The message as JSON, for the outbox; `message_from_json` reads it back."""
        return json.dumps(asdict(self), ensure_ascii=True, allow_nan=False)

    def for_target(self, target: str) -> AlertMessage:
        """The same message with the key that it has at a target."""
        return replace(self, key=key_of(target, self.occurrence, self.phase))


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message."""

    name: str
    media_type: str
    data: bytes


def key_of(target: str, occurrence: str, phase: str) -> str:
    """The idempotency key of a message: 32 hexadecimal digits, the same wherever and whenever it is made."""
    return hashlib.sha256(f"{target}\0{occurrence}\0{phase}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def message_of(record: Record) -> AlertMessage | None:
    """The message about a record that is to be stored: an alert, or the status event that tells its end; else None."""
    event = record.event
    if isinstance(event, StatusEvent) and event.kind is StatusKind.ALERT_ENDED:
        told: dict[str, Any] = dict(event.details)
    elif isinstance(event, Alert):
        told = {name: getattr(event, name) for name in ("rule", "severity", "occurrence", "started_s", *_OF_ALERT)}
    else:
        return None
    ended_s = told.get("ended_s")
    return AlertMessage(
        key="",
        rule=told.get("rule") or "",
        severity=told.get("severity") or "warning",
        camera=record.camera,
        text=event.text,
        occurrence=told.get("occurrence") or record.uid,
        phase="started" if isinstance(event, Alert) else "ended",
        wall_s=record.wall_s,
        time_s=event.time_s,
        reason=event.reason,
        probability=event.probability,
        peak=told.get("peak"),
        started_s=told.get("started_s"),
        ended_s=event.time_s if ended_s is None and isinstance(event, StatusEvent) else ended_s,
        frame_index=event.frame_index,
        snapshot=record.frames[-1].path if record.frames else "",
        clip=record.clip.path if record.clip is not None else "",
        frames=tuple(frame.path for frame in record.frames[:-1]),
        **{name: told[name] for name in _OF_ALERT if name in told},
    )


def message_from_json(text: str) -> AlertMessage:
    """The message that `AlertMessage.to_json` wrote; keys of a newer program are ignored. Raises `ValueError`."""
    values = json.loads(text)
    try:
        known = {entry.name for entry in fields(AlertMessage)}
        values |= {name: tuple((float(a), float(b)) for a, b in values.get(name, ())) for name in ("hits", "zone")}
        values["frames"] = tuple(values.get("frames", ()))
        return AlertMessage(**{name: value for name, value in values.items() if name in known})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a message of the outbox: {error}; this program did not write it") from error


def as_payload(
    message: AlertMessage, attachments: tuple[Attachment, ...] = (), left_out: tuple[str, ...] = ()
) -> bytes:
    """A message as JSON in UTF-8, for programs. left_out: why an attachment is missing."""
    values: dict[str, Any] = {
        "key": message.key,
        "test": message.is_test,
        "phase": message.phase,
        "rule": message.rule,
        "severity": message.severity,
        "camera": message.camera,
        "text": message.text,
        "reason": message.reason,
        "probability": message.probability,
        "peak": message.peak,
        "occurrence": message.occurrence,
        "at": _iso(message.wall_s),
        "started_at": _iso_at(message, message.started_s),
        "ended_at": _iso_at(message, message.ended_s),
        "media_time_s": message.time_s,
        "frame_index": message.frame_index,
        "question": message.question,
        "zone": [list(corner) for corner in message.zone],
        "decided_by": [
            {"at": _iso_at(message, time_s), "media_time_s": time_s, "probability": probability}
            for time_s, probability in message.hits
        ],
    }
    if attachments or left_out:
        values["attachments"] = [
            {"name": file.name, "type": file.media_type, "base64": base64.b64encode(file.data).decode("ascii")}
            for file in attachments
        ]
        values["left_out"] = list(left_out)
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def title_of(message: AlertMessage) -> str:
    """The heading of a message, as plain text on one line."""
    what = "Test alert" if message.is_test else "Alert" if message.phase == "started" else "Over"
    return one_line(f"{what}: {message.rule or 'alert'} ({message.camera})", 150)


def lines_of(message: AlertMessage) -> list[str]:
    """A message as plain lines, the model's text first."""
    at = datetime.fromtimestamp(message.wall_s).strftime("%Y-%m-%d %H:%M:%S")
    facts = [f"{message.camera}, {at}", message.severity]
    sure = message.peak if message.peak is not None else message.probability
    if sure is not None:
        facts.append(f"{sure:.0%} sure")
    if message.started_s is not None and message.ended_s is not None:
        facts.append(f"lasted {message.ended_s - message.started_s:.0f} s")
    lines = [message.text, "; ".join(facts)]
    if message.reason and message.reason != message.text:
        lines.append(message.reason)
    return [one_line(line, MOST_LETTERS) for line in lines]


def one_line(text: str, most: int) -> str:
    """`text` on one line, without control and direction-changing characters, cut to `most` characters.

    >>> one_line("a\\r\\nBcc: b", 100)
    'a Bcc: b'
    """
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    line = shown_text("".join(c for c in kept if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn")))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def as_html(text: str) -> str:
    """Plain text for a receiver that reads HTML.

    >>> as_html("<b>x</b> & http://evil.example")
    '&lt;b&gt;x&lt;/b&gt; &amp; http:\\u2060//evil\\u2060.example'
    """
    return html.escape(_without_links(text))


def as_markdown(text: str) -> str:
    """Plain text for a receiver that reads Markdown.

    >>> as_markdown("[a](b) *c*")
    '\\\\[a\\\\]\\\\(b\\\\) \\\\*c\\\\*'
    """
    return _MARKUP.sub(r"\\\1", _without_links(text))


def as_plain(text: str) -> str:
    """Plain text for people, with what their program would read as a link or a mention taken apart.

    >>> as_plain("@everyone see http://evil.example") == "@\\u2060everyone see http:\\u2060//evil\\u2060.example"
    True
    """
    return _without_links(text)


def _without_links(text: str) -> str:
    return _MENTION.sub(rf"\g<0>{_BREAK}", _LINK.sub(lambda found: _broken(found.group()), text))


def _broken(mark: str) -> str:
    return f"{mark}{_BREAK}" if mark == ":" else f"{_BREAK}{mark}"


def _iso(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")


def _iso_at(message: AlertMessage, media_s: float | None) -> str | None:
    """Time of day of another media time of the same stream."""
    return None if media_s is None else _iso(message.wall_s + media_s - message.time_s)
