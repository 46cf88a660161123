"""What a tab's scripts are told about alerts that were raised, of the cameras and of its own streams. Any thread."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assistant.errors import AssistantError, ConfigError
from assistant.events import Alert, StatusEvent, StatusKind
from assistant.timeline.search import Query
from assistant.viewers.viewer_rules import Place

if TYPE_CHECKING:
    from assistant.timeline.records import FoundEvent
    from assistant.timeline.search import TimelineReader
    from assistant.viewers.backend import Backend
    from assistant.viewers.viewer_session import ViewerSession

MOST_SHOWN = 12
"""Alerts of the cameras, and of the tab's own streams, that the page shows; the Events tab finds older ones."""
SINCE_S = 86_400.0
"""Older alerts are not shown to a page that was opened later."""
MOST_AT_ONCE = 200


@dataclass(slots=True)
class _Told:
    """What is known of one timeline."""

    reader: TimelineReader
    last_id: int = 0
    """Events up to this one were looked at."""
    alerts: dict[int, FoundEvent] = field(default_factory=dict)
    """By number, oldest first."""
    ended: dict[str, StatusEvent] = field(default_factory=dict)
    """By occurrence."""
    verdicts: dict[int, str] = field(default_factory=dict)
    """`right` or `wrong`, by number."""


class AlertLink:
    """The latest alerts for one tab; each picture is told once."""

    def __init__(self, backend: Backend, viewer: ViewerSession) -> None:
        self._backend, self._viewer = backend, viewer
        self._timelines: dict[Place, _Told] = {}
        self._pictured: set[str] = set()
        self._clips: dict[str, str] = {}
        self._last: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def news(self, wall_s: float) -> dict[str, Any] | None:
        """The alerts, newest first, where anything changed since the last call; None otherwise. wall_s: time now."""
        with self._lock:
            return self._news(wall_s)

    def _news(self, wall_s: float) -> dict[str, Any] | None:
        try:
            self._look("own", wall_s)
            self._look("cameras", wall_s)
        except AssistantError as error:
            return self._if_new({"type": "alerts", "alerts": [], "muted": [], "wrong": str(error)})
        raised = sorted(self._raised(), key=lambda each: each[1].wall_s, reverse=True)
        told = self._if_new(
            {
                "type": "alerts",
                "alerts": [self._row(place, found) for place, found in raised],
                "muted": [
                    [each.place, each.standing.rule.name]
                    for each in self._backend.rules.shown(self._viewer)
                    if each.standing.rule.muted
                ],
                "may_change": self._backend.rules.may_change_cameras,
            }
        )
        if told is None:
            return None
        return {**told, "alerts": [row | self._picture(row["key"]) for row in told["alerts"]]}

    def answer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Do what the tab orders about an alert; returns what became of it, errors as text."""
        key = str(order.get("key"))
        told: dict[str, Any] = {"type": "alerted", "do": str(order.get("do")), "key": key}
        try:
            with self._lock:
                if told["do"] == "clip":
                    told["address"] = self._clip(key)
                    return told
                if told["do"] == "mark":
                    self._mark(key, order.get("verdict"))
                    return told
                raise ConfigError(f"order {told['do']!r}: it must be clip or mark; reload the page")
        except AssistantError as error:
            told["wrong"] = str(error)
        return told

    def _raised(self) -> Iterator[tuple[Place, FoundEvent]]:
        for place, told in self._timelines.items():
            yield from ((place, found) for found in told.alerts.values())

    def _look(self, place: Place, wall_s: float) -> None:
        """Read what is new in a timeline."""
        reader = self._backend.timeline(self._viewer, of_cameras=place == "cameras")
        if reader is None:
            return
        told = self._timelines.get(place)
        if told is None or told.reader is not reader:
            told = self._timelines[place] = _Told(reader)
        newest = int(reader.rows("SELECT coalesce(max(id), 0) FROM events", [])[0][0])
        if newest > told.last_id:
            self._read(told, wall_s)
            told.last_id = newest
        for number, found in told.alerts.items():
            if found.clip is not None and found.clip.state == "recording":
                told.alerts[number] = reader.get(number) or found
        if told.alerts:  # other viewers and the command line mark them, too
            numbers = list(told.alerts)
            marks = ", ".join("?" * len(numbers))
            rows = reader.rows(f"SELECT event_id, verdict FROM marks WHERE event_id IN ({marks})", numbers)
            told.verdicts = dict(rows)

    def _read(self, told: _Told, wall_s: float) -> None:
        kinds = ("alert", StatusKind.ALERT_ENDED.value)
        if told.last_id:
            query = Query(types=kinds, after_id=told.last_id, oldest_first=True, limit=MOST_AT_ONCE)
            found = told.reader.search(query)
        else:
            query = Query(types=kinds, since_s=wall_s - SINCE_S, limit=4 * MOST_SHOWN)
            found = told.reader.search(query)[::-1]
        for each in found:
            if isinstance(each.event, Alert):
                told.alerts[each.id] = each
            elif isinstance(each.event, StatusEvent):
                told.ended[str(each.event.details.get("occurrence", ""))] = each.event
        for number in list(told.alerts)[:-MOST_SHOWN]:
            del told.alerts[number]
        known = {each.event.occurrence for each in told.alerts.values() if isinstance(each.event, Alert)}
        told.ended = {occurrence: event for occurrence, event in told.ended.items() if occurrence in known}

    def _row(self, place: Place, found: FoundEvent) -> dict[str, Any]:
        event = found.event
        assert isinstance(event, Alert)
        ended = self._timelines[place].ended.get(event.occurrence) if event.occurrence else None
        return {
            "key": f"{place}-{found.id}",
            "place": place,
            "rule": event.rule,
            "text": event.text,
            "severity": event.severity,
            "camera": found.camera,
            "wall_s": found.wall_s,
            "probability": event.probability,
            "reason": event.reason,
            "goes_on": bool(event.occurrence) and ended is None,
            "over": ended.reason if ended is not None else "",
            "clip": found.clip.state if found.clip is not None else "",
            "verdict": self._timelines[place].verdicts.get(found.id, ""),
        }

    def _if_new(self, told: dict[str, Any]) -> dict[str, Any] | None:
        if told == self._last:
            return None
        self._last = told
        return told

    def _find(self, key: str) -> tuple[_Told, FoundEvent]:
        for place, found in self._raised():
            if key == f"{place}-{found.id}":
                return self._timelines[place], found
        raise ConfigError(f"alert {key!r}: it is shown here no more; the Events tab finds older ones")

    def _picture(self, key: str) -> dict[str, str]:
        """The thumbnail of the frame that decided, the first time that an alert is told."""
        if key in self._pictured:
            return {}
        told, found = self._find(key)
        data = told.reader.folder.read(found.frames[-1].path) if found.frames else None
        if data is None:
            return {}
        self._pictured.add(key)
        return {"jpeg": base64.b64encode(data).decode()}

    def _mark(self, key: str, verdict: Any) -> None:
        _, found = self._find(key)
        if verdict is not None and not isinstance(verdict, str):
            raise ConfigError(f"verdict {verdict!r}: it must be right, wrong or nothing; reload the page")
        place: Place = "own" if key.startswith("own-") else "cameras"
        self._backend.marks.mark(self._viewer, place, found.id, verdict)

    def _clip(self, key: str) -> str:
        """Address of an alert's clip, which only this tab may fetch."""
        if key not in self._clips:
            told, found = self._find(key)
            clip = found.clip
            if clip is None:
                raise ConfigError("clip: none is recorded; set timeline.keep_clips_s in the configuration")
            data = told.reader.folder.read_clip(clip)
            if data is None:
                raise ConfigError(f"clip: {clip.absence}")
            name = self._viewer.offer_file(f"alert-{found.id}.mp4", data)
            self._clips[key] = f"sva/files/{self._viewer.token}/{name}"
        return self._clips[key]
