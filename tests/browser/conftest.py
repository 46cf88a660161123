"""Fixtures of the browser tests: the app, a browser whose camera plays a known scene, and a page with its console."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import missing, open_window, start_chromium
from tests.browser.fake_camera import Film, make_film
from tests.browser.serving import Served, app_served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Playwright

    from tests.browser.screen import Screen

FILM_SEED = 4
FILM_S = 30.0
MAX_SESSIONS = 4
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and item.path.name != "test_harness.py":
            item.add_marker(pytest.mark.needs_browser)
    wanted = [item for item in items if item.get_closest_marker("needs_browser")]
    if wanted and (reason := missing()):
        for item in wanted:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running, ThreadPoolExecutor(1, "playwright files") as writer:
        # Its event loop writes screenshots by a thread, which would otherwise begin in whichever test takes the first.
        writer.submit(lambda: None).result()
        running._loop.set_default_executor(writer)
        yield running


@pytest.fixture(scope="package")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    return make_film(tmp_path_factory.mktemp("film") / "camera.mjpeg", FILM_SEED, FILM_S)


@pytest.fixture(scope="package")
def browser(playwright: Playwright, film: Film) -> Iterator[Browser]:
    running = start_chromium(playwright, film.path)
    yield running
    running.close()


@pytest.fixture(scope="package")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with app_served(tmp_path_factory.mktemp("app"), "--max-sessions", str(MAX_SESSIONS), observed=True) as served:
        yield served


@pytest.fixture(scope="package")
def window(app: Served, browser: Browser) -> Iterator[BrowserContext]:
    """A window of a person who allowed the camera; its tabs share what was fetched, as they do at home."""
    with open_window(browser, app.url, camera=True) as context:
        yield context


@pytest.fixture(scope="package")
def phone(app: Served, browser: Browser) -> Iterator[BrowserContext]:
    """A window of a phone whose owner allowed the camera."""
    with open_window(browser, app.url, camera=True, phone=True) as context:
        yield context


@pytest.fixture
def screen(window: BrowserContext) -> Iterator[Screen]:
    """A new tab with a session of its own; the test fails where anything stood in its console."""
    from tests.browser.screen import opened

    with opened(window) as viewer:
        yield viewer
