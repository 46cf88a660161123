"""The components of the page that handlers read or update. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from ui.events_tab import EventsTab
from ui.health import HealthPanel

if TYPE_CHECKING:
    pass


@dataclass(slots=True)
class Parts:
    """The components of the page that handlers read or update."""

    tabs: gr.Tabs
    banner: gr.HTML
    token: gr.Textbox
    stop: gr.Button
    chooser: gr.Accordion
    samples: list[tuple[str, gr.Button]]
    samples_test: gr.Button
    webcam_start: gr.Button
    webcam_test: gr.Button
    webcam_error: gr.Textbox
    url: gr.Textbox
    limits: list[gr.Number]
    url_start: gr.Button
    url_test: gr.Button
    file: gr.File
    file_start: gr.Button
    file_test: gr.Button
    results: dict[str, gr.HTML]
    """The result of testing or starting a source, one component a kind of source."""
    viewer: gr.HTML
    pause: gr.Button
    speed: gr.Dropdown
    forget: gr.Button
    talkative: gr.Slider
    instruction: gr.Textbox
    instruct: gr.Button
    filters: gr.CheckboxGroup
    feed: gr.Chatbot
    suggestions: list[gr.Button]
    box: gr.MultimodalTextbox
    sent: gr.MultimodalTextbox
    stop_answer: gr.Button
    grid: gr.HTML
    health: HealthPanel
    events: EventsTab
