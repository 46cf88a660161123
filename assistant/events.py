"""What a stream gives out: comments, answers, alerts, and what happened to it. Frozen; any thread may hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar

from assistant.errors import StoreError

Detail = float | int | str | bool


class StatusKind(StrEnum):
    """What happened to a stream, to its source or to its memory."""

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
    CLOCK = "clock"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """What every event carries."""

    type: ClassVar[str]

    source: str
    """The source's display name, credentials redacted."""
    time_s: float
    """Media time of the frame it is about, seconds."""
    text: str
    """For a person: the remark, the answer, or what happened."""
    reason: str = ""
    """Why it came about."""
    score: float | None = None
    """What the decision was made from, where one was made."""
    probability: float | None = None
    """Chance that speaking was right, in [0, 1], where the checkpoint's decision is calibrated."""
    threshold: float | None = None
    """What the score had to pass."""
    latency_ms: float | None = None
    """From the frame's capture to the event's first token."""
    frame_index: int | None = None
    """Which frame of its source it is about."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, `None` where nothing was measured; `event_from_dict` reads them back."""
        values: dict[str, Any] = {"type": self.type}
        for entry in fields(self):
            value = getattr(self, entry.name)
            values[entry.name] = _finite(value) if isinstance(value, float) else value
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment(_Event):
    """A remark of the assistant's own accord."""

    type: ClassVar[str] = "comment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(_Event):
    """What the assistant said to a question."""

    type: ClassVar[str] = "answer"

    question: str
    asked_at_s: float
    """Media time at which the question reached the assistant."""
    frames: tuple[str, ...] | None = None
    """Of an answer from the timeline, the thumbnails of then, as it names them; None for one about what is seen now."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `frames` only of an answer from the timeline."""
        values = _Event.as_dict(self)
        frames = values.pop("frames")
        return values if frames is None else {**values, "frames": list(frames)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(_Event):
    """Something a person wanted to be told of at once."""

    type: ClassVar[str] = "alert"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent(_Event):
    """Something that happened to the stream or to its memory."""

    type: ClassVar[str] = "status"

    kind: StatusKind
    details: dict[str, Detail] = field(default_factory=dict)
    """Figures that belong to the kind."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; figures that are no numbers become `None`."""
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
    """Build the event that `as_dict` wrote. Raises `StoreError` on anything else."""
    values = dict(values)
    name = values.pop("type", None)
    kind = _CLASSES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise StoreError(f"event type {name!r}: one of {', '.join(_CLASSES)}; the line was not written by this program")
    try:
        if kind is StatusEvent:
            values["kind"] = StatusKind(values["kind"])
        if kind is Answer and values.get("frames") is not None:
            values["frames"] = tuple(values["frames"])
        return kind(**values)
    except (TypeError, ValueError, KeyError) as error:
        raise StoreError(f"event of type {name}: {error}; the line was written by another version") from error


def _finite(value: float) -> float | None:
    """JSON has no infinities; a score that is one says nothing a number could."""
    return value if math.isfinite(value) else None
