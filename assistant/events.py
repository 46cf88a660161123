"""The events of a stream: comments, answers, alerts and status events. Immutable; any thread may hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar

from assistant.errors import StoreError

Detail = float | int | str | bool
_PAIRS = ("hits", "zone")
"""Fields of an alert that are tuples of pairs of numbers."""


class StatusKind(StrEnum):
    """Kinds of status events, about a stream, its source or its memory."""

    OPENED = "opened"
    GAP = "gap"
    DROPPED = "dropped"
    DAMAGED = "damaged"
    GRID_CHANGED = "grid_changed"
    SLOWED = "slowed"
    LOOPED = "looped"
    RECONNECTING = "reconnecting"
    FROZEN = "frozen"
    EVICTED = "evicted"
    TRUNCATED = "truncated"
    REBASED = "rebased"
    WIDENED = "widened"
    VETOED = "vetoed"
    INSTRUCTED = "instructed"
    TALKATIVE = "talkative"
    FORGOT = "forgot"
    PAUSED = "paused"
    RESUMED = "resumed"
    SOUGHT = "sought"
    RATE = "rate"
    FAULT = "fault"
    STALLED = "stalled"
    UNASKED = "unasked"
    REFUSED = "refused"
    MASK_PROPOSED = "mask_proposed"
    BROKEN = "broken"
    STORE = "store"
    RULE = "rule"
    ALERT_ENDED = "alert_ended"
    ALERT_HELD_BACK = "alert_held_back"
    ALERT_MUTED = "alert_muted"
    CLOCK = "clock"
    AUDIO = "audio"
    UNSPOKEN = "unspoken"
    UNDELIVERED = "undelivered"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """The fields that every event has."""

    type: ClassVar[str]

    source: str
    """The source's display name, credentials redacted."""
    time_s: float
    """Media time of the event's frame, seconds."""
    text: str
    """Text to show: the remark, the answer, or a sentence about what happened."""
    reason: str = ""
    """The cause of the event."""
    score: float | None = None
    """The score that the decision to speak was made from; None if there was no decision."""
    probability: float | None = None
    """Calibrated probability that speaking was right, in [0, 1]; None without a calibration."""
    threshold: float | None = None
    """The value that the score had to exceed."""
    latency_ms: float | None = None
    """Milliseconds from the frame's capture to the event's first token."""
    frame_index: int | None = None
    """Index of the event's frame in its source."""

    def as_dict(self) -> dict[str, Any]:
        """The event as values for JSON, `None` where nothing was measured; `event_from_dict` reads them back."""
        values: dict[str, Any] = {"type": self.type}
        for entry in fields(self):
            value = getattr(self, entry.name)
            values[entry.name] = _finite(value) if isinstance(value, float) else value
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment(_Event):
    """A remark that the assistant made without being asked."""

    type: ClassVar[str] = "comment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(_Event):
    """The assistant's answer to a question."""

    type: ClassVar[str] = "answer"

    question: str
    asked_at_s: float
    """Media time at which the question reached the assistant."""
    frames: tuple[str, ...] | None = None
    """Paths of the thumbnails behind an answer from the timeline; None for an answer about the current picture."""

    def as_dict(self) -> dict[str, Any]:
        """The event as values for JSON; with `frames` only for an answer from the timeline."""
        values = _Event.as_dict(self)
        frames = values.pop("frames")
        return values if frames is None else {**values, "frames": list(frames)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(_Event):
    """A rule that a user made holds. A status event `alert_ended` with the same occurrence tells its end and peak."""

    type: ClassVar[str] = "alert"

    rule: str = ""
    """The rule's name."""
    severity: str = "warning"
    """`info`, `warning` or `critical`."""
    occurrence: str = ""
    """Identifies the stretch of time in which the rule holds."""
    started_s: float | None = None
    """Media time of the first frame at which it held."""
    question: str = ""
    """What the model was asked, as one question to answer with yes or no."""
    hits: tuple[tuple[float, float], ...] = ()
    """Media time and probability of the frames that decided, oldest first."""
    zone: tuple[tuple[float, float], ...] = ()
    """Corners of the rule's zone as fractions of the picture's width and height; none for the whole picture."""

    def as_dict(self) -> dict[str, Any]:
        """The event as values for JSON."""
        values = _Event.as_dict(self)
        return {**values, **{name: [list(pair) for pair in values[name]] for name in _PAIRS}}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent(_Event):
    """Something that happened to the stream, its source or its memory."""

    type: ClassVar[str] = "status"

    kind: StatusKind
    details: dict[str, Detail] = field(default_factory=dict)
    """Further values, which depend on the kind."""

    def as_dict(self) -> dict[str, Any]:
        """The event as values for JSON; infinities and NaN become `None`."""
        values = _Event.as_dict(self)
        values["kind"] = self.kind.value
        values["details"] = {key: _finite(v) if isinstance(v, float) else v for key, v in self.details.items()}
        return values


StreamEvent = Comment | Answer | Alert | StatusEvent

_CLASSES: dict[str, type[Comment] | type[Answer] | type[Alert] | type[StatusEvent]] = {
    "comment": Comment,
    "answer": Answer,
    "alert": Alert,
    "status": StatusEvent,
}


def event_from_dict(values: dict[str, Any]) -> StreamEvent:
    """The event of a dictionary that `as_dict` wrote. Raises `StoreError` for anything else."""
    values = dict(values)
    name = values.pop("type", None)
    kind = _CLASSES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise StoreError(
            f"event type {name!r}: it must be one of {', '.join(_CLASSES)}; this program did not write the line"
        )
    try:
        if kind is StatusEvent:
            values["kind"] = StatusKind(values["kind"])
        if kind is Alert:
            values |= {name: tuple((float(a), float(b)) for a, b in values.get(name, ())) for name in _PAIRS}
        if kind is Answer and values.get("frames") is not None:
            values["frames"] = tuple(values["frames"])
        return kind(**values)
    except (TypeError, ValueError, KeyError) as error:
        raise StoreError(f"event of type {name}: {error}; the line was written by another version") from error


def _finite(value: float) -> float | None:
    """`value`, or None for an infinity or NaN, which JSON cannot hold."""
    return value if math.isfinite(value) else None
