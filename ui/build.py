"""The layout of the page. What its components do is in `callbacks` and `api`. For the main thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from assistant.config.bounds import MOST_LETTERS, VIEWER_TIMEOUTS
from assistant.viewers.backend import ANOTHER_SCENE, SAMPLE_TITLES, SAMPLES
from assistant.viewers.feed import Badge
from assistant.viewers.viewer_session import TimeLimits
from ui.alerts_panel import build_alerts, wire_alerts
from ui.api import add_api
from ui.callbacks import wire
from ui.events_tab import build_events, wire_events
from ui.handlers import banner
from ui.health import build_health, wire_health
from ui.parts import Parts
from ui.theme import TITLE, static_text

if TYPE_CHECKING:
    from assistant.viewers.backend import Backend

MOUNT_VIEWER = "sva.mountViewer(element, (name, data) => trigger(name, data)); /* 'fresh' 'changed' */"
MOUNT_STATUS = "sva.mountStatus(element);"
MOUNT_VOICE = "sva.mountVoice(element);"
MOUNT_RAISED = "sva.mountRaised(element);"
MOUNT_RULES = "sva.mountRules(element);"
MOUNT_GRID = "sva.mountGrid(element, (name, data) => trigger(name, data)); /* 'opened' */"
SHOWN_AT_FIRST = [Badge.REMARK.value, Badge.ANSWER.value, Badge.ALERT.value, Badge.STATUS.value]
NOTHING_YET = "### Nothing was said yet\n\nRemarks appear by themselves while something is watched. Ask at any time."
SPEEDS = [("0.5×", 0.5), ("1×", 1.0), ("2×", 2.0), ("4×", 4.0), ("as fast as possible", 0.0)]
"""0 means as fast as the model can; nothing is dropped at any speed."""


def build_page(backend: Backend) -> gr.Blocks:
    """The whole page, which calls `backend`."""
    about = backend.model.about()
    blocks = gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False)
    with blocks:
        with gr.Row(elem_id="sva-top", equal_height=True):
            gr.HTML(f"<h1>{TITLE}</h1>", elem_classes="sva-brand", scale=0, min_width=190)
            gr.HTML(html_template=static_text("status.html"), js_on_load=MOUNT_STATUS, scale=1)
            stop = gr.Button("Stop watching", size="sm", scale=0, min_width=110, interactive=False)
        about_model = gr.HTML(banner(backend), elem_id="sva-banner")  # filled at once, so that nothing moves later
        token = gr.Textbox(visible="hidden", label="Session", elem_id="sva-token")
        with gr.Tabs(elem_id="sva-tabs") as tabs:
            with gr.Tab("Watch", id="watch"), gr.Row(elem_id="sva-watch"):
                with gr.Column(scale=3, min_width=340, elem_id="sva-left"):
                    left = _left()
                with gr.Column(scale=2, min_width=320, elem_id="sva-right"):
                    right = _right(about.questions)
            with gr.Tab("Cameras", id="cameras"):
                grid = gr.HTML(html_template=static_text("grid.html"), js_on_load=MOUNT_GRID)
                alerts = build_alerts(backend)
            with gr.Tab("Rules", id="rules"):
                gr.HTML(html_template=static_text("rules.html"), js_on_load=MOUNT_RULES, elem_id="sva-rules")
            with gr.Tab("Events", id="events") as events_page:
                events = build_events()
        parts = Parts(tabs=tabs, banner=about_model, token=token, stop=stop, grid=grid, events=events, **left, **right)
        add_api(backend)  # first, since Gradio renames later endpoints whose name is taken
        wire(blocks, backend, parts)
        wire_health(backend, parts.health)
        wire_alerts(backend, alerts)
        wire_events(backend, events, events_page, tabs)
    return blocks


def _left() -> dict[str, Any]:
    """The left column: sources, picture, controls, settings."""
    made = _sources()
    made["viewer"] = gr.HTML(html_template=static_text("viewer.html"), js_on_load=MOUNT_VIEWER, elem_id="sva-viewer")
    with gr.Row(elem_id="sva-controls", equal_height=True):
        made["pause"] = gr.Button("Pause", size="sm", min_width=90, scale=0, interactive=False)
        made["speed"] = gr.Dropdown(
            SPEEDS, value=1.0, label="Speed", show_label=False, min_width=150, scale=0, interactive=True,
            container=False,
        )  # fmt: skip
        made["forget"] = gr.Button("Forget", size="sm", min_width=90, scale=0, interactive=False)
    with gr.Accordion("How it speaks", open=False, elem_id="sva-speaking"):
        made["talkative"] = gr.Slider(
            -4, 4, value=0, step=0.25, label="Talkativeness", info="Right speaks more, left less; takes effect at once."
        )
        with gr.Row(equal_height=True):
            made["instruction"] = gr.Textbox(
                label="Standing instruction", placeholder="Tell me only when someone comes in.", max_lines=3, scale=4,
                max_length=MOST_LETTERS,
            )  # fmt: skip
            made["instruct"] = gr.Button("Set instruction", size="sm", min_width=110, scale=0)
    made["health"] = build_health()
    return made


def _sources() -> dict[str, Any]:
    """The choice of sources, each kind with a line for its result."""
    results: dict[str, gr.HTML] = {}
    made: dict[str, Any] = {"results": results}
    with (
        gr.Accordion("What to watch", open=True, elem_id="sva-chooser") as made["chooser"],
        gr.Tabs(elem_id="sva-sources"),
    ):
        with gr.Tab("Sample"):
            with gr.Row():
                made["samples"] = [
                    (name, gr.Button(title, variant="primary" if number == 0 else "secondary", min_width=120))
                    for number, (name, title) in enumerate(
                        [*((name, SAMPLE_TITLES[name]) for name in SAMPLES), (ANOTHER_SCENE, "Another scene")]
                    )
                ]
                made["samples_test"] = gr.Button("Test samples", min_width=120)
            results["sample"] = _result()
        with gr.Tab("Webcam"):
            with gr.Row():
                made["webcam_start"] = gr.Button("Start webcam", variant="primary", min_width=120)
                made["webcam_test"] = gr.Button("Test webcam", min_width=120)
                made["webcam_error"] = gr.Textbox(visible="hidden", label="Webcam result", elem_id="sva-webcam-error")
            results["webcam"] = _result()
        with gr.Tab("Camera URL"):
            made["url"] = gr.Textbox(
                label="Camera URL", placeholder="rtsp://user:password@192.168.1.20/stream", max_lines=1,
                info="rtsp, rtsps, http or https; user and password are never shown again",
            )  # fmt: skip
            with gr.Row():
                made["url_start"] = gr.Button("Start camera", variant="primary", min_width=120)
                made["url_test"] = gr.Button("Test camera", min_width=120)
            results["url"] = _result()
            made["limits"] = _limits()
        with gr.Tab("File"):
            # Of any type: browsers know no type for recorders' own formats. Other files are refused with a reason.
            made["file"] = gr.File(label="Video file", height=110, elem_id="sva-file")
            with gr.Row():
                made["file_start"] = gr.Button("Start file", variant="primary", min_width=120)
                made["file_test"] = gr.Button("Test file", min_width=120)
            results["file"] = _result()
    return made


def _result() -> gr.HTML:
    return gr.HTML("", elem_classes="sva-result")


def _limits() -> list[gr.Number]:
    """Fields for how long to wait for a camera, with the names that messages use."""
    usual = TimeLimits()
    with gr.Accordion("How long to wait for it (seconds)", open=False), gr.Row():
        return [
            gr.Number(getattr(usual, name), label=f"{label} ({name})", info=f"at most {accepted.most:g}", min_width=150)
            for label, (name, accepted) in zip(
                ("To connect", "While nothing arrives", "For the first key frame"), VIEWER_TIMEOUTS.items(), strict=True
            )
        ]


def _right(questions: tuple[str, str, str]) -> dict[str, Any]:
    """The right column: the latest alerts, the feed and the question box."""
    made: dict[str, Any] = {}
    gr.HTML(html_template=static_text("alerts.html"), js_on_load=MOUNT_RAISED, elem_id="sva-raised")
    made["filters"] = gr.CheckboxGroup(
        [badge.value for badge in Badge], value=SHOWN_AT_FIRST, label="Show in the feed", show_label=False,
        container=False, elem_id="sva-filters",
    )  # fmt: skip
    made["feed"] = gr.Chatbot(
        label="Feed", elem_id="sva-feed", height="max(320px, calc(100vh - 20rem))", layout="panel",
        latex_delimiters=[], buttons=["copy_all"], feedback_options=None, group_consecutive_messages=False,
        allow_tags=False, allow_file_downloads=False, show_label=False,
        placeholder=NOTHING_YET,
    )  # fmt: skip
    with gr.Row(elem_id="sva-suggestions"):
        made["suggestions"] = [gr.Button(question, size="sm", min_width=80) for question in questions]
        made["stop_answer"] = gr.Button("Stop answer", size="sm", min_width=80, visible=False, variant="stop")
    gr.HTML(html_template=static_text("voice.html"), js_on_load=MOUNT_VOICE, elem_id="sva-voice")
    made["box"] = gr.MultimodalTextbox(
        label="Question", show_label=False, placeholder="Ask; attach pictures or a clip.",
        file_count="multiple", sources=["upload"], max_plain_text_length=MOST_LETTERS, lines=1,
        max_lines=5, elem_id="sva-question",
    )  # fmt: skip
    made["sent"] = gr.MultimodalTextbox(visible="hidden", label="Sent question", elem_id="sva-sent")
    return made
