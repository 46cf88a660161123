"""The state of a tab as JSON values for the page's scripts. Plain functions; any thread."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.events import Comment, StatusEvent, StatusKind, StreamEvent
from assistant.viewers.feed import Badge, FeedItem
from ui.safe import clock, span

if TYPE_CHECKING:
    from assistant.cameras.views import CameraCard
    from assistant.evidence import EvidenceFrame
    from assistant.serving.channel_types import ChannelSnapshot
    from assistant.stream.speaking import Decision
    from assistant.viewers.model_status import ModelNews
    from assistant.viewers.viewer_session import ViewerSession

PUSH_FACTOR = 4.0
"""Webcam pictures sent for each frame that the model takes, so that one is close to each of its ticks."""
MOST_PUSH_FPS = 15.0
MARKED = {StatusKind.GAP, StatusKind.DROPPED, StatusKind.RECONNECTING, StatusKind.FROZEN, StatusKind.BROKEN}
"""Status events that are drawn on the timeline."""


@dataclass(slots=True)
class SentState:
    """What one connection has been sent already."""

    run: int = -1
    num_decisions: int = 0
    last_item: int = 0
    open_items: set[int] = field(default_factory=set)
    """Answers under way, which have no mark yet."""


def pulse_of(viewer: ViewerSession, model: ModelNews, told: SentState, *, recording: bool = False) -> dict[str, Any]:
    """The tab's state now, with the points of the curve and the marks that are new since `told`.

    recording: whether clips of anything watched here are recorded.
    """
    values: dict[str, Any] = {
        "type": "pulse",
        "run": viewer.run,
        "model": {"state": model.state, "text": model.text, "seconds": model.seconds, "share": model.share},
        "place": viewer.place,
        "feed": viewer.feed.version,
        "open": viewer.feed.num_open,
        "said": _said(viewer),
        "recording": recording,
        "watching": False,
        "title": viewer.wanted.title
        if viewer.wanted is not None and (viewer.stream is not None or viewer.place)
        else "",
        "state": "QUEUED" if viewer.place else "IDLE",
    }
    if told.run != viewer.run:
        told.run, told.num_decisions, told.last_item = viewer.run, 0, viewer.first_item
        told.open_items.clear()
        values["reset"] = True
    stream = viewer.stream
    if stream is None or viewer.wanted is None:
        return values
    seen = stream.snapshot()
    values |= _watched(seen) | {"kind": viewer.wanted.kind, "shared": viewer.is_shared}
    told.num_decisions, decisions = stream.decisions(told.num_decisions)
    values["curve"] = [_point(decision) for decision in decisions]
    values["marks"] = [_mark(item) for item in _settled(viewer, told) if _is_marked(item)]
    return values


def _said(viewer: ViewerSession) -> list[dict[str, Any]]:
    """The words so far of unfinished answers: the page shows the first ones before it has fetched the feed."""
    if not viewer.feed.num_open:
        return []
    return [{"id": item.id, "text": item.text} for item in viewer.feed.items(()) if item.is_open and item.text]


def _settled(viewer: ViewerSession, told: SentState) -> list[FeedItem]:
    """Items that are new, or whose answer has ended, since the last call."""
    items = viewer.feed.items(after_id=told.last_item)
    before = [item for item_id in told.open_items if (item := viewer.feed.get(item_id)) is not None]
    told.last_item = max([told.last_item, *(item.id for item in items)])
    told.open_items = {item.id for item in [*before, *items] if item.is_open}
    return [item for item in [*before, *items] if not item.is_open]


def _watched(seen: ChannelSnapshot) -> dict[str, Any]:
    said = seen.last_comment
    return {
        "watching": True,
        "state": "PAUSED" if seen.source.is_paused else seen.state.value.upper(),
        "reason": seen.state_reason,
        "age_s": seen.newest_seen_age_s,
        "media_s": seen.media_s,
        "duration_s": seen.source.duration_s if seen.source.is_live is False else None,
        "speed": seen.source.speed,
        "caption": {"time_s": said.time_s, "text": said.text} if isinstance(said, Comment) else None,
        "rows": seen.view.rows,
        "cols": seen.view.cols,
        "kept": bits(seen.view.kept),
        "refreshed": bits(seen.view.refreshed),
        "push_fps": min(MOST_PUSH_FPS, PUSH_FACTOR * (seen.rates.fps_wanted or 2.0)),
        "rate": seen.rates.factor,
    }


def bits(mask: np.ndarray | None) -> str:
    """A bool mask as base64, eight cells a byte, the first in the highest bit."""
    return "" if mask is None else base64.b64encode(np.packbits(mask.astype(bool)).tobytes()).decode()


def evidence_of(
    item: FeedItem | None, frames: tuple[EvidenceFrame, ...], *, moment_s: float, can_seek: bool
) -> dict[str, Any]:
    """The frames behind an item, or around a moment, for the evidence panel."""
    facts = _facts(item.event) if item is not None and item.event is not None else ""
    return {
        "type": "evidence",
        "id": item.id if item is not None else None,
        "title": f"{item.badge.value if item is not None else 'Around'} {clock(moment_s)}",
        "facts": facts,
        "text": item.text if item is not None else "",
        "seek_s": moment_s if can_seek else None,
        "none": "No frames of it are in memory; the Events tab may have them.",
        "frames": [_frame(frame) for frame in frames],
    }


def cameras_of(cards: Sequence[CameraCard], recording: str) -> dict[str, Any]:
    """All cameras for the page's grid. recording: as `Backend.recording`."""
    return {
        "type": "cameras",
        "recording": recording,
        "cameras": [
            {
                "name": card.name,
                "state": card.state.upper(),
                "reason": card.reason,
                "health": card.health,
                "alert": card.has_alert,
                "said": card.said,
                "jpeg": base64.b64encode(card.jpeg).decode(),
                "regions": [
                    {
                        "kind": region.kind,
                        "name": region.name,
                        "points": [list(point) for point in region.points],
                        "drawn": region.is_drawn,
                    }
                    for region in card.regions
                ],
            }
            for card in cards
        ],
    }


def _facts(event: StreamEvent) -> str:
    parts = [f"reason: {event.reason.replace('_', ' ')}"] if event.reason and event.reason != event.text else []
    if event.score is not None:
        parts.append(f"score {event.score:.2f}")
    if event.threshold is not None:
        parts.append(f"threshold {event.threshold:.2f}")
    if event.probability is not None:
        parts.append(f"odds {event.probability:.0%}")
    if event.latency_ms is not None:
        parts.append(f"delay {span(event.latency_ms / 1000)}")
    return " · ".join(parts)


def _frame(frame: EvidenceFrame) -> dict[str, Any]:
    share = float(np.mean(frame.kept)) if len(frame.kept) else 0.0
    return {
        "time_s": frame.time_s,
        "clock": time.strftime("%H:%M:%S", time.localtime(frame.wall_s)),
        "share": f"{share:.0%} of cells kept",
        "jpeg": base64.b64encode(frame.picture.data).decode(),
        "rows": frame.rows,
        "cols": frame.cols,
        "kept": bits(frame.kept),
        "refreshed": bits(frame.refreshed),
    }


def _point(decision: Decision) -> list[float | int | None]:
    score = None if decision.score is None else round(decision.score, 3)
    return [round(decision.time_s, 3), score, round(decision.threshold, 3), int(decision.speak)]


def _is_marked(item: FeedItem) -> bool:
    if item.event is None:
        return False
    return not isinstance(item.event, StatusEvent) or item.event.kind in MARKED


def _mark(item: FeedItem) -> dict[str, Any]:
    event = item.event
    length_s = 0.0
    kind = item.badge.name.lower()
    if isinstance(event, StatusEvent):
        kind = "drop" if event.kind is StatusKind.DROPPED else "gap"
        gap_s = event.details.get("gap_s")
        length_s = float(gap_s) if isinstance(gap_s, int | float) else 0.0
    badge = item.badge.value if item.badge is not Badge.STATUS else kind.capitalize()
    text = item.text if len(item.text) <= 120 else item.text[:119] + "…"
    return {"id": item.id, "time_s": item.time_s, "kind": kind, "badge": badge, "text": text, "length_s": length_s}
