"""The browser's own camera: what is said of it comes at the right time, and what goes wrong is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.chromium import open_context
from tests.browser.fake_camera import Film
from tests.browser.screen import Line, Screen
from tests.browser.serving import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WITHIN_S = 1.0
SHOWN_LATE_S = 2.0
"""By when a remark stands on the page: a frame every half second, the model, and the page's own pulse."""


def near_event(film: Film, line: Line, screen: Screen) -> bool:
    """Whether the newest frame behind a remark shows the film within a second of something that happens."""
    times_s = [time_s for time_s in screen.evidence_times(line) if time_s is not None]
    assert times_s, f"no frame behind {line}"
    return any(film.is_near(time_s, WITHIN_S) for time_s in times_s)


def test_remarks_come_when_it_happens_and_a_question_is_answered_meanwhile(screen: Screen, film: Film) -> None:
    screen.wait_model()
    screen.choose("Webcam")
    screen.press("Test webcam")
    screen.outcome.get_by_text("works: 448 x 280").wait_for()
    screen.watch_remarks()
    screen.press("Start webcam")
    screen.wait_state("LIVE")
    screen.page.get_by_label("Your webcam").wait_for()
    screen.wait_lines(2)
    screen.question.press_sequentially("What is ", delay=20)
    before = len(screen.wait_lines(3))
    screen.question.press_sequentially("moving?", delay=20)
    assert screen.question.input_value() == "What is moving?", "nothing typed is lost while the feed moves"
    screen.question.press("Enter")
    (answer, *_) = screen.wait_lines(1, "Answer")
    assert answer.text and answer.text != "answering…" and screen.question.input_value() == ""
    assert "What is moving?" in screen.feed.inner_text()
    remarks = screen.wait_lines(before + 2)
    noted_s = screen.noted_times()
    appeared = [noted_s[line.link] for line in remarks]
    in_time = [at for at in appeared if at is not None and film.is_near(at - SHOWN_LATE_S / 2, SHOWN_LATE_S / 2 + 0.5)]
    assert len(in_time) >= 0.75 * len(remarks), f"remarks stood on the page at {appeared}, for {film.truth}"
    good = [line for line in remarks if near_event(film, line, screen)]
    assert len(good) >= 0.75 * len(remarks), f"{good} of {remarks} are true, for {film.truth}"
    screen.press("Stop watching")
    screen.wait_state("IDLE")
    screen.page.get_by_label("Your webcam").wait_for(state="hidden")
    has_no_stream = "() => document.querySelector('video[aria-label=\"Your webcam\"]').srcObject === null"
    assert screen.page.evaluate(has_no_stream), "the camera's light must go out"


def test_a_denied_camera_is_told_in_words(browser: Browser, app: Served) -> None:
    with open_context(browser, app.url, camera=False) as context:
        screen = Screen(context.new_page())
        # Without a permission headless Chromium asks nobody and refuses.
        screen.open()
        screen.choose("Webcam")
        for button in ("Test webcam", "Start webcam"):
            screen.press(button)
            screen.outcome.get_by_text("permission denied").wait_for()
        assert screen.state == "IDLE"
        screen.check_console()
