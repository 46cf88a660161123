"""Tests of the browser's own camera: remarks come at the right time, and failures are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.browser.fake_camera import Film
from tests.browser.screen import Line, Screen

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

WITHIN_S = 1.0
"""The right time: so near to what happens, by the time painted in the camera's picture."""
NUM_REMARKS = 6


def in_the_first_play(film: Film, lines: list[Line]) -> list[Line]:
    """Afterwards the film jumps to its beginning, which no truth knows of."""
    return [line for line in lines if line.time_s < film.duration_s - 2 * WITHIN_S]


def test_remarks_come_when_it_happens_and_a_question_is_answered_meanwhile(screen: Screen, film: Film) -> None:
    screen.wait_model()
    screen.choose("Webcam")
    screen.press("Test webcam")
    screen.outcome.get_by_text("works: 448 x 280").wait_for()
    screen.watch_remarks()
    slider = screen.open_talkativeness()
    for _ in range(2):
        slider.press("ArrowLeft")  # half a unit less: what the model is not sure of has no right time
    assert slider.input_value() == "-0.5"
    screen.press("Start webcam")
    screen.wait_state("LIVE")
    screen.page.get_by_label("Your webcam").wait_for()
    screen.wait_lines(2)
    screen.question.press_sequentially("What is ", delay=20)
    before = len(screen.wait_lines(3))
    screen.question.press_sequentially("moving?", delay=20)
    assert screen.question.input_value() == "What is moving?", "nothing typed is lost while the feed moves"
    screen.question.press("Enter")
    screen.wait_lines(1, "Answer")
    screen.wait_answered()
    (answer, *_) = screen.lines("Answer")
    assert answer.text and answer.text != "answering…" and screen.question.input_value() == ""
    assert "What is moving?" in screen.feed.inner_text()
    remarks = in_the_first_play(film, screen.wait_lines(max(NUM_REMARKS, before + 1), within_s=30.0))
    noted_s = screen.noted_times()
    assert len(remarks) >= NUM_REMARKS
    seen_s = [screen.evidence_times(line)[-1] for line in remarks]
    for line, at_s, told_s in zip(remarks, seen_s, (noted_s[line.link] for line in remarks), strict=True):
        assert at_s is not None and told_s is not None, f"{line}: no code in its picture, or in the preview"
        assert film.away_s(at_s) <= WITHIN_S, f"{line} is about {at_s} s of the film: {film.truth}"
        assert film.away_s(told_s) <= WITHIN_S, f"{line} stood on the page at {told_s} s: {film.truth}"
    film_s, page_s = screen.film_clock()
    shown_s = np.interp([at_s for at_s in seen_s if at_s is not None], film_s, page_s)
    opened_s = [at_s - line.time_s for line, at_s in zip(remarks, shown_s, strict=True)]
    assert max(opened_s) - min(opened_s) < 0.5 * WITHIN_S, f"the times in the feed drift from the page's: {opened_s}"
    screen.press("Stop watching")
    screen.wait_state("IDLE")
    assert screen.title == "No source"
    screen.page.get_by_label("Your webcam").wait_for(state="hidden")
    has_no_stream = "() => document.querySelector('video[aria-label=\"Your webcam\"]').srcObject === null"
    assert screen.page.evaluate(has_no_stream), "the camera's light must go out"


def test_a_denied_camera_is_told_in_words(screen: Screen, window: BrowserContext) -> None:
    window.clear_permissions()  # headless Chromium asks nobody then, and refuses
    try:
        screen.choose("Webcam")
        for button in ("Test webcam", "Start webcam"):
            screen.press(button)
            screen.outcome.get_by_text("permission denied").wait_for()
        assert screen.state == "IDLE"
    finally:
        window.grant_permissions(["camera"])
