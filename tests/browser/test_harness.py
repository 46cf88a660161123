"""Tests of the fake camera: painted times are read back, and a browser plays the film in time."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from tests.browser.chromium import open_context
from tests.browser.conftest import pytest_cmdline_main
from tests.browser.fake_camera import READ_TIME_JS, Film, paint_time, patches_of, read_time
from tests.browser.pictures import NAMES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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


@pytest.mark.parametrize(
    ("args", "inside", "processes"),
    [([""], {}, 2), ([""], {"workerinput": {}}, None), (["test_tabs.py"], {}, None), (["", "../ui"], {}, None)],
)
def test_all_browser_tests_run_in_two_processes_which_start_none(
    args: list[str], inside: dict[str, object], processes: int | None
) -> None:
    option = SimpleNamespace(numprocesses=None, dist="no", usepdb=False, collectonly=False, capture="fd")
    invocation = SimpleNamespace(dir=Path(__file__).parent)
    config = SimpleNamespace(option=option, args=args, invocation_params=invocation, **inside)
    pytest_cmdline_main(cast(pytest.Config, config))
    assert option.numprocesses == processes


@pytest.mark.needs_browser
def test_the_browsers_camera_plays_the_film_at_its_own_pace(browser: Browser, film: Film) -> None:
    url = "http://127.0.0.1:9/player"
    with open_context(browser, url, camera=True) as context:
        page = context.new_page()
        page.route("**/*", lambda route: route.fulfill(body=PLAYER, content_type="text/html"))
        page.goto(url)
        page.wait_for_function("document.title === 'playing'")
        video = page.locator("video")
        read = []
        for _ in range(40):  # pictures
            read.append((read_time(video.evaluate(READ_TIME_JS)), time.monotonic()))
            video.evaluate("(video) => new Promise((done) => video.requestVideoFrameCallback(done))")
    (first, began_s), *_, (last, ended_s) = read
    assert first is not None and last is not None
    assert ((last - first) % film.duration_s) == pytest.approx(ended_s - began_s, abs=0.35)
