"""The Alerts panel: a test button for each target, and what the outbox holds, updated while it is open. Any thread."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import gradio as gr

from assistant.errors import AssistantError, ConfigError
from ui.handlers import QUICK, result_html
from ui.safe import literal

if TYPE_CHECKING:
    from assistant.delivery.outbox import OutboxEntry
    from assistant.viewers.backend import Backend

EVERY_S = 1.0
MOST_SHOWN = 20
BADGES = {"waiting": "sva-status", "sent": "sva-remark", "failed": "sva-alert"}
"""The class of each state's badge."""


@dataclass(slots=True)
class AlertsPanel:
    """The components of the Alerts panel."""

    fold: gr.Accordion
    tests: list[tuple[str, gr.Button]]
    """The target and its test button."""
    result: gr.HTML
    outbox: gr.HTML
    timer: gr.Timer


def build_alerts(backend: Backend) -> AlertsPanel | None:
    """Add the panel to the page; None where no targets are configured."""
    if backend.alerts is None:
        return None
    with gr.Accordion("Alerts", open=False, elem_id="sva-alerts") as fold:
        with gr.Row():
            tests = [
                (name, gr.Button(f"Test {name}", size="sm", scale=0, min_width=110)) for name in backend.alerts.targets
            ]
        result = gr.HTML("", elem_classes="sva-result")
        outbox = gr.HTML("", elem_id="sva-outbox")
        timer = gr.Timer(EVERY_S, active=False)
    return AlertsPanel(fold, tests, result, outbox, timer)


def wire_alerts(backend: Backend, panel: AlertsPanel | None) -> None:
    """Send test alerts at a press, and show the outbox while the panel is open."""
    if panel is None:
        return

    def read() -> str:
        try:
            return outbox_html(backend.alerts.outbox.entries(limit=MOST_SHOWN) if backend.alerts is not None else [])
        except AssistantError as error:
            return result_html(False, str(error))

    def test(target: str) -> tuple[str, str]:
        try:
            send_test(backend, target)
        except AssistantError as error:
            return result_html(False, str(error)), read()
        return result_html(None, f"A test alert to {target} is on its way; below is what the receiver says."), read()

    for name, button in panel.tests:
        button.click(partial(test, name), None, [panel.result, panel.outbox], **QUICK)
    panel.timer.tick(read, None, panel.outbox, **QUICK)
    panel.fold.expand(lambda: gr.Timer(active=True), None, panel.timer, **QUICK)
    panel.fold.expand(read, None, panel.outbox, **QUICK)
    panel.fold.collapse(lambda: gr.Timer(active=False), None, panel.timer, **QUICK)


def send_test(backend: Backend, target: str) -> None:
    """Put a test alert into the outbox. Raises `ConfigError` where viewers may not, or there is no such target."""
    if backend.alerts is None or not backend.may_draw:
        raise ConfigError(
            f"test alert to {target}: only viewers who logged in, or use this machine, may send one; use alerts test"
        )
    backend.alerts.test(target)


def outbox_html(entries: list[OutboxEntry]) -> str:
    """Messages of the outbox as HTML, newest first, with the receiver's words."""
    if not entries:
        return '<p class="sva-none">Nothing was to be sent so far.</p>'
    return f'<ul class="sva-events" data-testid="outbox">{"".join(_row(entry) for entry in entries)}</ul>'


def _row(entry: OutboxEntry) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.created_s))
    tries = f"{entry.attempts} {'try' if entry.attempts == 1 else 'tries'}"
    said = f" — {entry.said}" if entry.said else ""
    text = f"{entry.rule} {entry.phase}, {tries}{said}"
    return (
        f'<li><div class="sva-event {BADGES[entry.state]}"><span class="sva-badge">{literal(entry.state)}</span>'
        f'<span class="sva-when">{literal(at)}</span><span class="sva-camera">{literal(entry.target)}</span>'
        f'<span class="sva-text">{literal(text)}</span></div></li>'
    )
