"""Counts the events of a span of time by camera and kind, with first, last and busiest hour. Uses no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from assistant.events import Answer, StatusEvent, StatusKind
from assistant.timeline.records import FoundEvent
from assistant.timeline.search import Query, TimelineReader
from assistant.timeline.shown import shown_kind, shown_moment, shown_span, shown_text

MOST_COMMON = 3
"""Most remarks that are quoted, the most frequent ones."""
MIN_REPEATS = 2


@dataclass(frozen=True, slots=True)
class KindRecap:
    """The events of one kind at one camera."""

    kind: str
    count: int
    first_s: float
    """Time of day, seconds since 1970."""
    last_s: float
    most_common: tuple[tuple[str, int], ...] = ()
    """Texts that occurred more than once, each with its count."""
    total_s: float | None = None
    """Total duration of the kind's events, seconds; None if they have none."""


@dataclass(frozen=True, slots=True)
class CameraRecap:
    """The events of one camera."""

    camera: str
    kinds: tuple[KindRecap, ...]
    busiest_hour_s: float | None
    """Start of the hour with the most remarks and alerts, seconds since 1970; None without any."""
    busiest_count: int


@dataclass(frozen=True, slots=True)
class Recap:
    """The events of a span of time, counted."""

    since_s: float | None
    until_s: float
    num_events: int
    cameras: tuple[CameraRecap, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The recap as values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The recap as lines of text."""
        until = shown_moment(self.until_s)
        span = f"from {shown_moment(self.since_s)} to {until}" if self.since_s is not None else f"up to {until}"
        what = "event" if self.num_events == 1 else "events"
        lines = [f"{self.num_events} {what} {span}"]
        for camera in self.cameras:
            lines += ["", shown_text(camera.camera)]
            lines += [f"  {line}" for kind in camera.kinds for line in _kind_lines(kind, self.until_s)]
            if camera.busiest_hour_s is not None and camera.busiest_count >= MIN_REPEATS:
                start = datetime.fromtimestamp(camera.busiest_hour_s)
                hour = f"{start:%Y-%m-%d %H:%M} to {start + timedelta(hours=1):%H:%M}"
                lines.append(f"  busiest hour: {hour}, {camera.busiest_count} remarks and alerts")
        return lines


def recap(reader: TimelineReader, query: Query, now_s: float) -> Recap:
    """Count all events that match a query; its limit is ignored. now_s: time of day."""
    by_camera: dict[str, list[FoundEvent]] = {}
    num_events = 0
    for found in reader.every(query, bare=True):
        by_camera.setdefault(found.camera, []).append(found)
        num_events += 1
    cameras = tuple(_camera_recap(name, by_camera[name]) for name in sorted(by_camera))
    return Recap(query.since_s, now_s if query.until_s is None else query.until_s, num_events, cameras)


def _camera_recap(camera: str, events: Sequence[FoundEvent]) -> CameraRecap:
    by_kind: dict[str, list[FoundEvent]] = {}
    hours: Counter[float] = Counter()
    for found in events:
        by_kind.setdefault(shown_kind(found), []).append(found)
        if not isinstance(found.event, StatusEvent | Answer):
            hours[_hour(found.wall_s)] += 1
    kinds = tuple(_kind_recap(kind, found) for kind, found in sorted(by_kind.items(), key=lambda item: _rank(item[1])))
    busiest = min(hours, key=lambda hour: (-hours[hour], hour)) if hours else None
    return CameraRecap(camera, kinds, busiest, hours[busiest] if busiest is not None else 0)


def _kind_recap(kind: str, events: Sequence[FoundEvent]) -> KindRecap:
    texts = Counter(found.event.text for found in events if not isinstance(found.event, StatusEvent))
    lengths = [
        float(length)
        for found in events
        if isinstance(found.event, StatusEvent) and found.event.kind is StatusKind.GAP
        if isinstance(length := found.event.details.get("gap_s"), int | float)
    ]
    return KindRecap(
        kind=kind,
        count=len(events),
        first_s=min(found.wall_s for found in events),
        last_s=max(found.wall_s for found in events),
        most_common=tuple((text, n) for text, n in texts.most_common(MOST_COMMON) if n >= MIN_REPEATS),
        total_s=sum(lengths) if lengths else None,
    )


def _kind_lines(kind: KindRecap, now_s: float) -> list[str]:
    times = f"at {shown_moment(kind.first_s, now_s)}"
    if kind.count > 1:
        times = f"first {shown_moment(kind.first_s, now_s)}, last {shown_moment(kind.last_s, now_s)}"
    total = f", {shown_span(kind.total_s)} together" if kind.total_s is not None else ""
    lines = [f"{kind.kind} {kind.count}: {times}{total}"]
    lines += [f'  {count} times "{shown_text(text)}"' for text, count in kind.most_common]
    return lines


def _rank(events: Sequence[FoundEvent]) -> tuple[int, str]:
    """Sort key of kinds: alerts first, then remarks, answers and status events."""
    order = {"alert": 0, "comment": 1, "answer": 2, "status": 3}
    return order[events[0].event.type], shown_kind(events[0])


def _hour(wall_s: float) -> float:
    return datetime.fromtimestamp(wall_s).replace(minute=0, second=0, microsecond=0).timestamp()
