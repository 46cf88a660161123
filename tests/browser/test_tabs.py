"""Tests of tabs: each has its own session, keeps it over a reload, and leaves nothing behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.chromium import open_context
from tests.browser.conftest import MAX_SESSIONS
from tests.browser.screen import Screen, all_opened, opened
from tests.browser.serving import Served, connect, disconnect, wait_until

if TYPE_CHECKING:
    from gradio_client import Client
    from playwright.sync_api import Browser, BrowserContext

GONE_S = 10.0


def test_four_tabs_watch_their_own_and_never_see_another(browser: Browser, app: Served, window: BrowserContext) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(open_context(browser, app.url, camera=True))
        tabs = stack.enter_context(all_opened([window, window, other, other]))
        tabs[0].wait_model()
        tabs[1].start_webcam()
        tabs[0].start_sample("Synthetic scene")
        tabs[2].start_sample("Real clip (a title)")
        titles = ("Synthetic scene", "Webcam", "Real clip (a title)", "No source")
        for viewer in tabs[:2]:
            viewer.wait_lines(2, within_s=25.0)
        for number, viewer in enumerate(tabs[:3]):
            viewer.ask(f"What is in picture number {number + 1}?")
        for number, viewer in enumerate(tabs[:3]):
            viewer.wait_lines(1, "Answer", within_s=25.0)
            text = viewer.feed.inner_text()
            asked = [other + 1 for other in range(4) if f"picture number {other + 1}" in text]
            assert asked == [number + 1], "a tab shows the questions of its own alone"
        assert [viewer.title for viewer in tabs] == list(titles)
        assert tabs[3].lines() == [] and tabs[3].state == "IDLE"
        tokens = {viewer.page.evaluate("() => sva.connection.token") for viewer in tabs}
        assert len(tokens) == 4


def test_closed_tabs_and_a_client_that_went_away_free_their_threads_and_memory(
    window: BrowserContext, app: Served, tmp_path: Path
) -> None:
    with opened(window) as warm:
        warm.wait_model()
        warm.start_sample(speed="4×")
        warm.wait_lines(1)
    tabs = [Screen(window.new_page()) for _ in range(2)]
    for viewer in tabs:
        viewer.begin()
    client = connect(app.url, tmp_path)
    for viewer in tabs:
        viewer.wait_ready()
    wait_until(lambda: not app.look_inside().streams, GONE_S + 5, "streams of earlier tabs have ended")
    wait_until(lambda: app.num_sessions() == 0, GONE_S, "their caches are freed")
    memory_before = app.memory_mib()
    tabs[0].start_sample()
    tabs[1].start_webcam()
    client.predict("synthetic:3", api_name="/watch")
    for viewer in tabs:
        viewer.wait_lines(1)
    assert len(app.look_inside().streams) >= 3 and app.num_sessions() >= 3
    disconnect(client)
    for viewer in tabs:
        viewer.page.close()
    wait_until(lambda: not app.look_inside().streams, GONE_S, "threads of closed tabs and clients end")
    wait_until(lambda: app.num_sessions() == 0, 2.0, "their caches are freed")
    assert app.memory_mib() < memory_before + 100, "MiB"


def test_a_reload_finds_its_session_again(screen: Screen) -> None:
    from playwright.sync_api import expect

    screen.wait_model()
    screen.start_sample(speed="4×")
    before = screen.wait_lines(1)
    screen.open_instruction().fill("Tell me only when something enters.")
    screen.press("Set instruction")
    screen.ask("What is on the left?")
    screen.wait_lines(1, "Answer")
    screen.wait_answered()
    (answer, *_) = screen.wait_lines(1, "Answer")
    reached_s = screen.pulse()["media_s"]
    screen.page.reload()
    screen.wait_ready()
    screen.wait_state("REPLAY", "ENDED")
    found = screen.wait_lines(1)
    assert found[0] == before[0] and screen.lines("Answer")[0].text == answer.text
    assert screen.pulse()["media_s"] >= reached_s, "the stream went on"
    expect(screen.open_instruction()).to_have_value("Tell me only when something enters.")


def test_a_place_in_the_queue_is_shown_and_comes_up(screen: Screen, app: Served, tmp_path: Path) -> None:
    screen.wait_model()

    def watching(_: int) -> Client:
        client = connect(app.url, tmp_path)
        client.predict("synthetic:3", api_name="/watch")
        client.predict(api_name="/pause")  # its place is all that counts
        return client

    def leave(client: Client) -> None:
        client.predict(api_name="/stop")
        disconnect(client)

    with ThreadPoolExecutor(MAX_SESSIONS) as pool:
        clients = list(pool.map(watching, range(MAX_SESSIONS)))
    screen.start_sample("Real clip (the earth)")
    screen.page.get_by_test_id("queue-place").get_by_text("number 1 in the queue").wait_for()
    assert screen.state == "QUEUED"
    clients[0].predict(api_name="/stop")
    screen.wait_state("REPLAY", "ENDED", within_s=10)
    with ThreadPoolExecutor(MAX_SESSIONS) as pool:
        list(pool.map(leave, clients))


def test_what_is_typed_before_a_page_has_its_session_stays(window: BrowserContext) -> None:
    from playwright.sync_api import Route, expect

    held: list[Route] = []
    screen = Screen(window.new_page())
    screen.page.route("**/run/predict**", lambda route: held.append(route), times=1)
    screen.begin()
    field = screen.open_instruction()
    field.fill("Tell me only when something enters.")
    assert len(held) == 1, "its session is still asked for"
    held[0].continue_()
    screen.wait_ready()
    expect(field).to_have_value("Tell me only when something enters.")
    screen.check_console()
    screen.page.close()
