"""The Alerts panel: who may send a test alert, and an outbox in which a receiver's words are only words."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.config.targets import WebhookTarget
from assistant.delivery.delivery import Delivery
from assistant.errors import ConfigError
from assistant.timeline.store import Timeline
from streaming.clock import FakeClock
from tests.ui.desks import Office
from ui.alerts_panel import outbox_html, send_test
from ui.build import build_page

HOOK = WebhookTarget(kind="webhook", url="http://127.0.0.1:9/hook")


@pytest.fixture
def delivery(tmp_path: Path) -> Iterator[Delivery]:
    """A delivery whose couriers do not run."""
    with Timeline(tmp_path) as timeline:
        made = Delivery(timeline, {"hook": HOOK, "yard": HOOK}, clock=FakeClock())
        yield made
        made.outbox.close()


def buttons(office: Office) -> set[str]:
    config: dict[str, Any] = dict(build_page(office.backend).get_config_file())
    return {part["props"]["value"] for part in config["components"] if part["type"] == "button"}


def test_each_target_has_a_test_button_and_without_targets_there_is_no_panel(delivery: Delivery) -> None:
    office = Office()
    assert not {"Test hook", "Test yard"} & buttons(office)
    office.backend.alerts = delivery
    assert {"Test hook", "Test yard"} <= buttons(office)


def test_a_test_alert_goes_through_the_outbox(delivery: Delivery) -> None:
    office = Office()
    office.backend.alerts = delivery
    send_test(office.backend, "hook")
    (entry,) = delivery.outbox.entries()
    assert (entry.target, entry.rule, entry.state) == ("hook", "Test", "waiting")
    shown = html.unescape(outbox_html([entry]))
    assert "waiting" in shown and "hook" in shown and "Test started, 0 tries" in shown


def test_strangers_may_not_send_one(delivery: Delivery) -> None:
    office = Office()
    office.backend.alerts, office.backend.may_draw = delivery, False
    with pytest.raises(ConfigError, match="only viewers who logged in"):
        send_test(office.backend, "hook")
    assert delivery.outbox.entries() == []


def test_what_a_receiver_says_is_never_markup(delivery: Delivery) -> None:
    delivery.test("hook")
    (entry,) = delivery.outbox.entries()
    delivery.outbox.failed(entry.id, "<img src=x onerror=alert(1)>", 1.0)
    shown = outbox_html(delivery.outbox.entries())
    assert "<img" not in shown and "<img src=x onerror=alert(1)>" in html.unescape(shown)
    assert "Nothing was to be sent" in outbox_html([])
