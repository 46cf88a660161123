"""Test alerts from the page: three clicks from its first view to an alert at a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from assistant.delivery.home_assistant import Topics
from tests.assistant.brokers import Broker, Listener
from tests.browser.chromium import open_window
from tests.browser.screen import Screen, opened
from tests.browser.serving import app_served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOPICS = Topics("video-assistant", "homeassistant")
CONFIG = """
cameras: {{door: {{url: "synthetic:7"}}}}
targets:
  home: {{kind: mqtt, host: 127.0.0.1, port: {port}}}
  gone: {{kind: webhook, url: "http://127.0.0.1:9/hook", timeout_s: 1}}
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def alerting(broker: Broker, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    folder = tmp_path_factory.mktemp("alerting")
    path = folder / "house.yaml"
    path.write_text(CONFIG.format(port=broker.port))
    with (
        app_served(folder, "--config", str(path), "--data", str(folder / "data")) as served,
        open_window(browser, served.url) as context,
        opened(context) as screen,
    ):
        yield screen


@pytest.mark.needs_broker
def test_three_clicks_lead_to_a_delivered_test_alert(alerting: Screen, broker: Broker) -> None:
    with Listener(broker) as listener:
        alerting.choose("Cameras")
        alerting.page.locator("#sva-alerts").get_by_role("button", name="Alerts").click()
        alerting.press("Test home")
        listener.wait(
            lambda: any(topic == TOPICS.alerts and b'"test": true' in body for topic, body, _ in listener.heard),
            "the test alert did not reach the broker",
        )
        assert listener.latest(TOPICS.of("Test", "snapshot"))
    row = alerting.page.get_by_test_id("outbox").locator("li", has_text="Test started").first
    row.get_by_text("the broker confirmed").wait_for()
    assert "sent" in (row.inner_text().lower())


@pytest.mark.needs_broker
def test_a_target_that_is_away_is_shown_waiting_with_the_reason(alerting: Screen) -> None:
    alerting.press("Test gone")
    row = alerting.page.get_by_test_id("outbox").locator("li", has_text="gone").first
    row.get_by_text("no answer").wait_for()
    assert "waiting" in row.inner_text().lower()
