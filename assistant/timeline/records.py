"""Records that the timeline stores and returns. Immutable; any thread may hold them."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from assistant.errors import StoreError
from assistant.events import StatusEvent, StreamEvent, event_from_dict
from streaming.redact import redact_text

COLUMNS = ("source", "text", "reason", "score", "probability", "threshold", "latency_ms", "frame_index")
"""Fields of every event that are stored in a column of the same name."""
MOST_KEPT_S = 30.0
"""Most seconds that a clip holds before an event, and after it."""


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """A thumbnail file, with the frame it shows."""

    path: str
    """Relative to the timeline's folder."""
    frame_index: int
    media_s: float
    wall_s: float
    width_px: int
    height_px: int
    cells: str
    """Masks of the frame's cells as `EvidenceFrame.cells` writes them; empty if not known."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ClipMark:
    """The clip of an event, while it is still being recorded."""

    uid: str
    path: str
    """Relative to the timeline's folder."""
    wall_s: float
    """Time of day when recording began."""


@dataclass(frozen=True, slots=True)
class KeptClip:
    """A clip around one or more events."""

    uid: str
    path: str
    state: str
    """`recording`, `done` or `lost`."""
    reason: str
    start_s: float | None
    """Media time of its first picture."""
    end_s: float | None
    num_frames: int
    num_dropped: int
    size_bytes: int

    @property
    def absence(self) -> str:
        """Why the clip cannot be played."""
        return self.reason or (
            "it is being recorded; try again soon" if self.state == "recording" else "its file is gone"
        )


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message about an alert, addressed to one target, on its way into the outbox."""

    key: str
    """Idempotency key: a parcel that is written twice, or that a receiver gets twice, counts once."""
    target: str
    """Name of the target in the configuration."""
    rule: str
    severity: str
    occurrence: str
    """Identifies what is going on; its start and its end have the same."""
    phase: str
    """`started` or `ended`."""
    lane: str
    """Parcels of one target and one lane are sent one after the other, in order."""
    message: str
    """What to tell, as JSON."""
    created_s: float
    """Time of day when it was written, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Record:
    """One event to be stored in the timeline."""

    event: StreamEvent
    camera: str
    run: str
    """Identifies the run of the stream; media time is continuous within a run."""
    wall_s: float
    """Time of day when the event's picture was captured, seconds since 1970."""
    recorded_s: float
    """Time of day when it was passed to the timeline, seconds since 1970."""
    frames: tuple[KeptFrame, ...] = ()
    clip: ClipMark | None = None
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Unique id: a record that is written twice is stored once."""
    parcels: tuple[Parcel, ...] = ()
    """What is sent about it; written to the outbox in the event's own transaction."""

    def to_line(self) -> bytes:
        """The record as one line of UTF-8 JSON, including the newline."""
        values = {
            "uid": self.uid,
            "camera": self.camera,
            "run": self.run,
            "wall_s": self.wall_s,
            "recorded_s": self.recorded_s,
            "event": self.event.as_dict(),
            "frames": [asdict(frame) for frame in self.frames],
            "clip": asdict(self.clip) if self.clip else None,
            "parcels": [asdict(parcel) for parcel in self.parcels],
        }
        return (json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def record_from_line(line: bytes) -> Record:
    """Parse a line that `Record.to_line` wrote. Raises `StoreError` for anything else."""
    try:
        values: dict[str, Any] = json.loads(line)
        frames = tuple(KeptFrame(**frame) for frame in values.pop("frames"))
        clip = values.pop("clip")
        parcels = tuple(Parcel(**parcel) for parcel in values.pop("parcels", ()))
        event = event_from_dict(values.pop("event"))
        return Record(event=event, frames=frames, clip=ClipMark(**clip) if clip else None, parcels=parcels, **values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            f"a record in a file of waiting events: {error}; this program did not write the line"
        ) from error


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """One event as the timeline returns it."""

    id: int
    uid: str
    event: StreamEvent
    camera: str
    run: str
    wall_s: float
    recorded_s: float
    frames: tuple[KeptFrame, ...]
    clip: KeptClip | None
    verdict: str | None = None
    """What a person said of an alert, `right` or `wrong`; None where nothing was said."""

    def as_dict(self) -> dict[str, Any]:
        """Values for JSON: the event's, and those that the timeline adds."""
        return {
            "id": self.id,
            "uid": self.uid,
            "camera": self.camera,
            "run": self.run,
            "wall_s": self.wall_s,
            "recorded_s": self.recorded_s,
            **self.event.as_dict(),
            "frames": [asdict(frame) for frame in self.frames],
            "clip": asdict(self.clip) if self.clip else None,
            **({"verdict": self.verdict} if self.verdict else {}),
        }


def event_columns(event: StreamEvent) -> dict[str, Any]:
    """An event's values by column; values without their own column go as JSON into `other`."""
    values = event.as_dict()
    row: dict[str, Any] = {name: _clean(values.pop(name)) for name in COLUMNS}
    if row["frame_index"] is not None and not 0 <= row["frame_index"] < 1 << 63:
        values["frame_index"], row["frame_index"] = row["frame_index"], None
    row["type"] = values.pop("type")
    row["media_s"] = values.pop("time_s")
    row["kind"] = values.pop("kind", None)
    row["question"] = _clean(values.pop("question", None))
    # A media time that is NaN or infinite becomes 0, so that the event is stored nevertheless.
    row["media_s"] = 0.0 if row["media_s"] is None else row["media_s"]
    row["other"] = json.dumps(values, ensure_ascii=True, sort_keys=True)
    return row


def event_of_columns(row: dict[str, Any]) -> StreamEvent:
    """The event of a database row. Raises `StoreError` if another version of the program wrote it."""
    values = {name: row[name] for name in COLUMNS}
    values |= {"type": row["type"], "time_s": row["media_s"], **json.loads(row["other"])}
    for name in ("kind", "question"):
        if row[name] is not None:
            values[name] = row[name]
    return event_from_dict(values)


def redacted(event: StreamEvent) -> StreamEvent:
    """A status event with credentials in its texts redacted, which a library's message may quote; others unchanged."""
    if not isinstance(event, StatusEvent) or "://" not in event.text + event.reason + event.source:
        return event
    return replace(
        event,
        text=redact_text(event.text),
        reason=redact_text(event.reason),
        source=redact_text(event.source),
        details={k: redact_text(v) if isinstance(v, str) else v for k, v in event.details.items()},
    )


def _clean(value: Any) -> Any:
    """Text with invalid Unicode replaced, as SQLite requires; other values unchanged."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
