"""What the browser tests share: one app, one browser whose camera plays a known scene, a page with open ears."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import missing, open_context, start_chromium
from tests.browser.fake_camera import Film, make_film
from tests.browser.serving import Served, app_served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

    from tests.browser.screen import Screen

FILM_SEED = 4
FILM_S = 40.0
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

    with sync_playwright() as running:
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


@pytest.fixture
def screen(browser: Browser, app: Served) -> Iterator[Screen]:
    """A new window with one tab; the test fails where anything stood in its console."""
    from tests.browser.screen import Screen

    with open_context(browser, app.url, camera=True) as context:
        opened = Screen(context.new_page())
        opened.open()
        yield opened
        opened.check_console()
