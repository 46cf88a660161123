"""Tests of the fake camera: painted times are read back, and a browser plays the film in time."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser.chromium import open_context
from tests.browser.fake_camera import READ_TIME_JS, Film, paint_time, patches_of, read_time
from tests.browser.pictures import NAMES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

NUM_TRIES = 3
DOCS = Path(__file__).parent.parent.parent / "docs"
PLAYER = """
<video muted playsinline></video><script>
navigator.mediaDevices.getUserMedia({video: true}).then(async (stream) => {
  const video = document.querySelector('video'); video.srcObject = stream; await video.play();
  document.title = 'playing';
}, (error) => { document.title = error.name; });
</script>
"""


def test_painted_times_are_read_back_and_pictures_without_any_are_told() -> None:
    grey = np.full((280, 448, 3), 90, np.uint8)
    for tick in range(0, 1000, 7):
        assert read_time(patches_of(paint_time(grey, tick / 10))) == tick / 10
    assert read_time(patches_of(grey)) is None


def test_every_picture_of_the_documentation_can_be_taken_anew() -> None:
    shown = re.findall(r"\(browser/([\w-]+)\.png\)", (DOCS / "browser.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(NAMES) == sorted(path.stem for path in (DOCS / "browser").glob("*.png"))


@pytest.mark.needs_browser
def test_the_browsers_camera_plays_the_film_at_its_own_pace(browser: Browser, film: Film) -> None:
    url = "http://127.0.0.1:9/player"
    with open_context(browser, url, camera=True) as context:
        page = context.new_page()
        page.route("**/*", lambda route: route.fulfill(body=PLAYER, content_type="text/html"))
        page.goto(url)
        page.wait_for_function("document.title === 'playing'")
        spans: list[tuple[float, float]] = []
        # Chromium's camera falls behind while the processor is taken, and does not make up for it.
        while not spans or (spans[-1][0] != pytest.approx(spans[-1][1], abs=0.35) and len(spans) < NUM_TRIES):
            spans.append(_played_and_passed_s(page.locator("video"), film))
    played_s, passed_s = spans[-1]
    assert played_s == pytest.approx(passed_s, abs=0.35), spans


def _played_and_passed_s(video: Locator, film: Film) -> tuple[float, float]:
    """Seconds of the film in forty pictures, and seconds of the clock."""
    read = []
    for _ in range(40):  # pictures
        read.append((read_time(video.evaluate(READ_TIME_JS)), time.monotonic()))
        video.evaluate("(video) => new Promise((done) => video.requestVideoFrameCallback(done))")
    (first, began_s), *_, (last, ended_s) = read
    assert first is not None and last is not None
    return (last - first) % film.duration_s, ended_s - began_s
