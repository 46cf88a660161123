"""The Events tab: search, filter, the frames and the clip of an event, export."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from assistant.errors import AssistantError
from assistant.viewers.event_browser import FORMATS, TYPES, EventSearch, export_file, find
from ui.handlers import QUICK, result_html, viewer_of
from ui.safe import clock, literal

if TYPE_CHECKING:
    from assistant.timeline.records import FoundEvent
    from assistant.timeline.search import TimelineReader
    from assistant.viewers.backend import Backend
    from assistant.viewers.viewer_session import ViewerSession

OWN, CAMERAS = "This tab", "Cameras"
SINCE = [("all", ""), ("the last 10 minutes", "10m"), ("the last hour", "1h"), ("today", "today"), ("7 days", "7d")]
REFRESH_S = 2.0
"""Interval at which new events are looked for while the tab is open."""
PICK = "element.addEventListener('click', (event) => { const row = event.target.closest('[data-event]'); " \
    "if (row) trigger('picked', { id: Number(row.dataset.event) }); })"  # fmt: skip


@dataclass(slots=True)
class EventsTab:
    """The components of the Events tab."""

    where: gr.Radio
    text: gr.Textbox
    since: gr.Dropdown
    types: gr.CheckboxGroup
    find: gr.Button
    found: gr.HTML
    detail: gr.HTML
    form: gr.Dropdown
    export: gr.Button
    file: gr.HTML
    ticks: gr.Timer
    """Runs while the tab is open."""
    shown: gr.State
    """The list's HTML, so that an unchanged list is not drawn again."""


def build_events() -> EventsTab:
    """Add the tab's components to the page."""
    with gr.Row(equal_height=False):
        where = gr.Radio([OWN, CAMERAS], value=OWN, label="Events of", scale=1, min_width=190)
        text = gr.Textbox(label="Search", placeholder='circle "on the left"', max_lines=1, scale=3, min_width=180)
        since = gr.Dropdown(SINCE, value="", label="Since", scale=1, min_width=150)
        types = gr.CheckboxGroup(list(TYPES), value=[], label="Only", scale=2, min_width=260)
        button = gr.Button("Find events", variant="primary", scale=0, min_width=110)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            found = gr.HTML("", js_on_load=PICK, elem_id="sva-found")
        with gr.Column(scale=2, min_width=300):
            detail = gr.HTML("", elem_id="sva-detail")
    with gr.Row(equal_height=False):
        form = gr.Dropdown(list(FORMATS.items()), value="jsonl", label="Export as", scale=0, min_width=220)
        export = gr.Button("Export", scale=0, min_width=110)
        file = gr.HTML("", elem_id="sva-export")
    ticks = gr.Timer(REFRESH_S, active=False)
    return EventsTab(where, text, since, types, button, found, detail, form, export, file, ticks, gr.State(""))


def wire_events(backend: Backend, tab_parts: EventsTab, page: gr.Tab, pages: gr.Tabs) -> None:
    """Connect the tab to the backend. page: the Events tab itself, among `pages`."""
    wanted = [tab_parts.where, tab_parts.text, tab_parts.since, tab_parts.types]

    def listed(where: str, text: str, since: str, types: list[str], request: gr.Request) -> str:
        try:
            reader = backend.timeline(viewer_of(backend, request), of_cameras=where == CAMERAS)
            events = find(reader, EventSearch(text, since, "", tuple(types)), time.time()) if reader is not None else []
        except AssistantError as error:
            return result_html(False, str(error))
        return found_html(
            events, has_any=reader is not None, of_cameras=where == CAMERAS, is_filtered=bool(text or since or types)
        )

    def look(where: str, text: str, since: str, types: list[str], request: gr.Request) -> tuple[str, ...]:
        now = listed(where, text, since, types, request)
        return now, now, "", ""

    def come(where: str, text: str, since: str, types: list[str], request: gr.Request) -> tuple[Any, ...]:
        """Show events when the tab opens: the cameras' if nothing was watched in this browser tab."""
        has_own = backend.timeline(viewer_of(backend, request), of_cameras=False) is not None
        if not has_own and where == OWN and backend.timeline(viewer_of(backend, request), of_cameras=True) is not None:
            where = CAMERAS
        now = listed(where, text, since, types, request)
        return where, now, now, gr.Timer(active=True)

    def refresh(where: str, text: str, since: str, types: list[str], before: str, request: gr.Request) -> Any:
        now = listed(where, text, since, types, request)
        return (gr.skip(), gr.skip()) if now == before else (now, now)

    def leave(data: gr.SelectData) -> Any:
        return gr.skip() if data.value == page.label else gr.Timer(active=False)

    def pick(where: str, data: gr.EventData, request: gr.Request) -> str:
        viewer = viewer_of(backend, request)
        number = data._data.get("id") if isinstance(data._data, dict) else None
        reader = backend.timeline(viewer, of_cameras=where == CAMERAS)
        event = reader.get(number) if reader is not None and isinstance(number, int) else None
        return detail_html(viewer, reader, event) if reader is not None and event is not None else ""

    def export(where: str, text: str, since: str, types: list[str], form: str, request: gr.Request) -> str:
        viewer = viewer_of(backend, request)
        try:
            reader = backend.timeline(viewer, of_cameras=where == CAMERAS)
            events = find(reader, EventSearch(text, since, "", tuple(types)), time.time()) if reader is not None else []
            if reader is None or not events:
                return result_html(False, "There is nothing to export yet.")
            name, data = export_file(reader, events, form)
        except AssistantError as error:
            return result_html(False, str(error))
        return link_html(viewer, name, data, f"Download {name} ({len(events)} events)")

    listing = [tab_parts.found, tab_parts.shown]
    shown = [*listing, tab_parts.detail, tab_parts.file]
    page.select(come, wanted, [tab_parts.where, *listing, tab_parts.ticks], **QUICK)
    pages.select(leave, None, tab_parts.ticks, **QUICK)
    tab_parts.ticks.tick(refresh, [*wanted, tab_parts.shown], listing, **QUICK)
    gr.on([tab_parts.find.click, tab_parts.text.submit, tab_parts.since.input, tab_parts.types.input,
           tab_parts.where.input], look, wanted, shown, **QUICK)  # fmt: skip
    tab_parts.found.picked(pick, tab_parts.where, tab_parts.detail, **QUICK)
    tab_parts.export.click(export, [*wanted, tab_parts.form], tab_parts.file, **QUICK)


def found_html(events: list[FoundEvent], *, has_any: bool, of_cameras: bool, is_filtered: bool) -> str:
    """The list of events as HTML, newest first."""
    if not events:
        none = ("No event matches." if is_filtered else "No events yet; they appear as they happen.") if has_any else (
            "No cameras are watched here: start with --config cameras.yaml." if of_cameras
            else "Nothing was watched in this tab yet."
        )  # fmt: skip
        return f'<p class="sva-none">{literal(none)}</p>'
    rows = "".join(_row(event) for event in events)
    return f'<ul class="sva-events" data-testid="events">{rows}</ul>'


def _row(found: FoundEvent) -> str:
    event = found.event
    kind = event.type if event.type != "comment" else "remark"
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.wall_s))
    question = getattr(event, "question", "")
    text = f"{question} — {event.text}" if question else event.text
    return (
        f'<li><button type="button" class="sva-event sva-{kind}" data-event="{found.id}">'
        f'<span class="sva-badge">{literal(kind.capitalize())}</span><span class="sva-when">{literal(day)}</span>'
        f'<span class="sva-camera">{literal(found.camera)} {literal(clock(event.time_s))}</span>'
        f'<span class="sva-text">{literal(text)}</span></button></li>'
    )


def detail_html(viewer: ViewerSession, reader: TimelineReader, found: FoundEvent) -> str:
    """One event with its frames and its clip, as HTML."""
    figures = []
    for frame in found.frames:
        data = reader.folder.read(frame.path)
        if data is not None:
            source = "data:image/jpeg;base64," + base64.b64encode(data).decode()
            at = literal(clock(frame.media_s))
            figures.append(f'<figure><img src="{source}" alt="Frame at {at}"><figcaption>{at}</figcaption></figure>')
    strip = "".join(figures) or '<p class="sva-none">No frames of it were kept.</p>'
    player = ""
    clip = found.clip
    data = reader.folder.read_clip(clip) if clip is not None else None
    if data is not None:
        name = viewer.offer_file(f"event-{found.id}.mp4", data)
        player = f'<video controls playsinline src="{_address(viewer, name)}" aria-label="Clip of this event"></video>'
    elif clip is not None:
        player = f'<p class="sva-none">The clip around it: {literal(clip.absence)}.</p>'
    event = found.event
    facts = [f"{name} {value:.2f}" for name, value in (
        ("score", event.score), ("threshold", event.threshold), ("probability", event.probability)
    ) if value is not None]  # fmt: skip
    shown = literal(" · ".join([event.reason, *facts]) if event.reason != event.text else " · ".join(facts))
    return (
        f'<div class="sva-evidence" data-testid="detail"><p class="sva-said">{literal(event.text)}</p>'
        f'<p class="sva-facts">{shown}</p><div class="sva-strip">{strip}</div>{player}</div>'
    )


def link_html(viewer: ViewerSession, name: str, data: bytes, text: str) -> str:
    """A link to a file that only this browser tab may download."""
    address = _address(viewer, viewer.offer_file(name, data))
    return f'<a class="sva-download" data-testid="download" href="{address}" download="{name}">{literal(text)}</a>'


def _address(viewer: ViewerSession, name: str) -> str:
    return f"sva/files/{viewer.token}/{name}"
