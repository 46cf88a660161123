"""Rules and test alerts on the page: three clicks from no rule at all to an alert at a real broker."""

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
def test_three_clicks_lead_from_no_rule_to_a_delivered_test_alert(alerting: Screen, broker: Broker) -> None:
    alerting.wait_model()
    with Listener(broker) as listener:
        alerting.choose("Rules")
        alerting.press("Arm this rule")
        alerting.press("Send a test alert of the view is covered")
        listener.wait(
            lambda: any(topic == TOPICS.alerts and b'"test": true' in body for topic, body, _ in listener.heard),
            "the test alert did not reach the broker",
        )
        listener.wait(lambda: bool(listener.latest(TOPICS.of("the view is covered", "muted"))), "it is not announced")
    alerting.page.get_by_test_id("rule-tests").get_by_text("the broker confirmed").wait_for()
    row = alerting.page.get_by_test_id("rules").locator("li", has_text="the view is covered").first
    row.get_by_text("armed", exact=True).wait_for()


@pytest.mark.needs_broker
def test_a_rule_outside_the_models_card_is_rehearsed_before_it_is_armed_and_its_threshold_is_dragged(
    alerting: Screen,
) -> None:
    page = alerting.page
    alerting.wait("() => sva.rules.message.rules.length === 1 && sva.rules.message.cameras.length === 1")
    alerting.press("New rule")
    words = page.get_by_label("What to watch for").last
    words.fill("<img src=x> is there")
    alerting.press("Arm this rule")
    said = page.get_by_test_id("rule-said")
    said.get_by_text("cannot read").wait_for()
    assert "rule words '<img src=x> is there'" in said.inner_text() and not said.locator("img").count()
    words.fill("a circle stops")
    paper = page.get_by_test_id("rule-draw")
    paper.locator("img[src]").wait_for()
    box = paper.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.9 * box["height"], steps=4)
    page.mouse.up()
    alerting.press("Arm this rule")
    said.get_by_text("was not taught to judge").wait_for()
    page.get_by_test_id("rule-would").get_by_text("it would have raised").wait_for()
    page.get_by_test_id("rule-curve").scroll_into_view_if_needed()
    at = page.get_by_test_id("rule-curve").bounding_box()
    assert at is not None
    page.mouse.move(at["x"] + 50, at["y"] + 0.2 * at["height"])
    page.mouse.down()
    page.mouse.move(at["x"] + 60, at["y"] + 0.4 * at["height"], steps=3)
    page.mouse.up()
    assert float(page.get_by_role("slider", name="How sure it must be").input_value()) == pytest.approx(0.6, abs=0.02)
    alerting.press("Arm it all the same")
    row = page.get_by_test_id("rules").locator("li", has_text="a circle stops").first
    row.get_by_text("a zone of its own").wait_for()
    alerting.press("Mute a circle stops")
    row.get_by_text("muted", exact=True).wait_for()
    alerting.press("As YAML")
    yaml = page.get_by_test_id("rules-yaml")
    yaml.get_by_text("muted: true").wait_for()
    assert "rectangle: [0.1, 0.1, 0.8, 0.8]" in yaml.inner_text()
    alerting.press("Remove a circle stops")
    row.wait_for(state="detached")


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
    # The latest waits behind the rule's own test alert, which was tried before it.
    rows = alerting.page.get_by_test_id("outbox").locator("li", has_text="gone")
    row = rows.filter(has_text="no answer").first
    row.wait_for()
    assert "waiting" in row.inner_text().lower()
