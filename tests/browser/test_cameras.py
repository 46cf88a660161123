"""Watched cameras in the browser: side by side, with alerts, masks and zones, and their events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assistant.config.app import load_config
from tests.browser.chromium import open_window
from tests.browser.mouse import drag
from tests.browser.screen import Screen, opened
from tests.browser.serving import Served, app_served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator

CONFIG = """
cameras:
  door:
    url: synthetic:7
    masks: [{rectangle: [0.75, 0, 0.25, 0.2]}]
    zones: {steps: {rectangle: [0, 0.5, 0.5, 0.5]}}
  gate: {url: "rtsp://127.0.0.1:9/live"}
timeline: {keep_clips_s: 1}
"""
NOTIFY_JS = """
() => {
  window.noticed = []; window.asked = 0;
  document.hasFocus = () => false;
  window.Notification = class {
    static permission = 'default';
    static requestPermission() { asked++; this.permission = 'granted'; return Promise.resolve('granted'); }
    constructor(title) { noticed.push(title); }
  };
}
"""
"""Notifications of a browser that allows them when it is asked, while the page is not in front."""
CENTRE_JS = """
(image) => {
  const canvas = document.createElement('canvas');
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const paper = canvas.getContext('2d');
  paper.drawImage(image, 0, 0);
  return [...paper.getImageData(0.25 * canvas.width, 0.25 * canvas.height, 1, 1).data.slice(0, 3)];
}
"""
"""The colour in the middle of what the test draws."""


@pytest.fixture(scope="module")
def watching(app: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    """An app of its own, started beside the one that the tests after these need."""
    folder = tmp_path_factory.mktemp("watching")
    path = folder / "cameras.yaml"
    path.write_text(CONFIG)
    with app_served(folder, "--config", str(path), "--data", str(folder / "data"), observed=True) as served:
        yield served, path


@pytest.fixture(scope="module")
def looking(watching: tuple[Served, Path], browser: Browser) -> Iterator[BrowserContext]:
    with open_window(browser, watching[0].url) as context:
        yield context


@pytest.fixture
def cameras(looking: BrowserContext) -> Iterator[Screen]:
    with opened(looking) as screen:
        screen.wait_model()
        screen.choose("Cameras")
        yield screen


def card(screen: Screen, name: str) -> Locator:
    return screen.page.get_by_test_id("cameras").get_by_role("button", name=re.compile(f"^{name}: "))


def test_a_mask_and_a_zone_are_drawn_applied_and_given_as_yaml(cameras: Screen, watching: tuple[Served, Path]) -> None:
    card(cameras, "door").locator("img[src]").wait_for()
    assert card(cameras, "door").locator("polygon").count() == 2, "those of the configuration"
    cameras.press("Masks and zones of door")
    paper = cameras.page.get_by_test_id("draw")
    paper.locator("img[src]").wait_for()
    drag(cameras, paper, (0.1, 0.1), (0.4, 0.4))
    cameras.page.get_by_label("zone: only a change here").check()
    cameras.page.get_by_label("Name of the zone").fill("path")
    box = paper.bounding_box()
    assert box is not None
    for x, y in ((0.6, 0.4), (0.9, 0.4), (0.9, 0.8), (0.6, 0.4)):
        paper.click(position={"x": x * box["width"], "y": y * box["height"]})
    cameras.page.get_by_test_id("drawn").get_by_text("Not applied yet").wait_for()
    cameras.press("Apply to the camera")
    cameras.page.get_by_test_id("drawn").get_by_text("until the program ends").wait_for()
    cameras.wait("() => document.querySelectorAll('.sva-card polygon').length === 4", within_s=10.0)
    image = card(cameras, "door").locator("img")
    cameras.wait(
        f"(image) => {{ const [r, g, b] = ({CENTRE_JS})(image);"
        " return Math.max(Math.abs(r - 128), Math.abs(g - 128), Math.abs(b - 128)) < 8; }",
        image.element_handle(),
    )  # its model sees grey there
    served, path = watching
    assert path.read_text() == CONFIG, "the file is the person's own"
    text = cameras.page.get_by_test_id("yaml").inner_text()
    copied = path.with_name("copied.yaml")
    copied.write_text(text.replace("door:\n", "door:\n    url: synthetic:7\n", 1))
    door = load_config(copied, {}).cameras["door"]
    assert len(door.masks) == 2 and set(door.zones) == {"steps", "path"} and len(door.zones["path"].points) == 3
    x, y = door.masks[1].points[0]
    assert (x, y) == (pytest.approx(0.1, abs=0.01), pytest.approx(0.1, abs=0.01))
    cameras.press("Remove Mask")
    cameras.press("Remove Zone path")
    cameras.press("Apply to the camera")
    cameras.wait("() => document.querySelectorAll('.sva-card polygon').length === 2")


def test_regions_are_drawn_with_the_keyboard_and_what_is_wrong_is_told(cameras: Screen) -> None:
    card(cameras, "door").locator("img[src]").wait_for()
    cameras.press("Masks and zones of door")
    paper = cameras.page.get_by_test_id("draw")
    paper.focus()
    press = cameras.page.keyboard.press
    for keys in (("ArrowLeft",) * 5, ("Space",), ("ArrowRight",) * 10, ("Space",), ("ArrowDown",) * 10, ("Space",)):
        for key in keys:
            press(key)
    press("Enter")
    cameras.page.get_by_role("button", name="Remove Mask").wait_for()
    drag(cameras, paper, (0.005, 0.005), (0.995, 0.995))
    cameras.press("Apply to the camera")
    cameras.page.get_by_test_id("drawn").get_by_text("they hide the whole picture").wait_for()
    cameras.press("Close masks and zones")
    paper.wait_for(state="hidden")


def test_cameras_are_shown_on_after_a_lost_connection(cameras: Screen) -> None:
    card(cameras, "door").locator("img[src]").wait_for()
    cameras.page.evaluate(
        "() => { window.numShown = 0; sva.connection.on('lost', () => sva.connection.on('cameras', () => numShown++));"
        " sva.connection.socket.close(); }"
    )
    cameras.wait("() => numShown >= 2")


def test_an_alert_shows_on_the_card_in_the_feed_and_on_the_timeline(
    cameras: Screen, watching: tuple[Served, Path]
) -> None:
    door = card(cameras, "door")
    door.locator("img[src]").wait_for()
    assert cameras.page.locator(".sva-card.alerted").count() == 0
    cameras.page.evaluate(NOTIFY_JS)
    cameras.choose("Rules")
    assert cameras.page.evaluate("() => asked") == 0
    cameras.press("Notify me")
    cameras.wait("() => asked === 1 && sva.notices.isOn && sva.raised.known")
    cameras.choose("Cameras")
    watching[0].alert("door", "Somebody <b>left</b> a parcel.")
    cameras.wait("() => document.title === '(1) Streaming video assistant'")
    assert cameras.page.evaluate("() => noticed") == ["Somebody <b>left</b> a parcel."]
    cameras.page.get_by_role("button", name=re.compile("^door: .*, alert")).wait_for()
    bordered = cameras.page.locator(".sva-card.alerted")
    assert bordered.evaluate("(card) => getComputedStyle(card).borderColor") == "rgb(220, 38, 38)"
    door.click()
    (line, *_) = cameras.wait_lines(1, "Alert")
    assert line.text == "Somebody <b>left</b> a parcel.", "letter by letter"
    cameras.wait("() => document.title === 'Streaming video assistant'")
    raised = cameras.page.get_by_test_id("raised")
    assert raised.locator("strong", has_text="Somebody <b>left</b> a parcel.").count() == 1
    cameras.press("Wrong: Somebody <b>left</b> a parcel.")
    raised.locator("[aria-pressed=true]", has_text="Wrong").wait_for()
    raised.get_by_role("button", name="Play the clip:").and_(cameras.page.locator(":enabled")).click()
    cameras.wait("() => document.querySelector('.sva-raised video').readyState >= 2")
    badge = cameras.feed.locator(".sva-alert .sva-badge").first
    assert badge.evaluate("(badge) => getComputedStyle(badge).backgroundColor") == "rgb(220, 38, 38)"
    cameras.page.get_by_role("button", name="Alert at").first.click()
    cameras.evidence.get_by_text("Somebody <b>left</b> a parcel.").wait_for()
    cameras.choose("Events")
    cameras.page.get_by_label("Cameras", exact=True).check()
    cameras.page.get_by_role("checkbox", name="Alert").last.check()
    rows = cameras.page.get_by_test_id("events").get_by_role("button")
    rows.first.wait_for()
    cameras.wait(
        "() => [...document.querySelectorAll('[data-testid=events] .sva-badge')].every((b) => b.innerText === 'ALERT')"
    )
    rows.first.click()
    cameras.page.get_by_test_id("detail").get_by_text("Somebody").wait_for()


def test_a_camera_is_shared_for_looking_and_asking_and_changed_by_nobody(cameras: Screen) -> None:
    assert "RECORDING" in cameras.page.get_by_test_id("rec").inner_text()
    gone = card(cameras, "gate")
    gone.get_by_text("RECONNECTING").wait_for()
    assert "refused" in gone.inner_text()
    card(cameras, "door").click()
    cameras.wait_state("REPLAY", "ENDED")
    cameras.ask("What is on the left?")
    (answer, *_) = cameras.wait_lines(1, "Answer")
    assert answer.text
    for control in ("Pause", "Forget"):
        assert cameras.page.get_by_role("button", name=control, exact=True).is_disabled()
