"""Tests of recordings: pause, seek, speed, the frames behind a mark, questions at a media time, and export."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.screen import Screen
    from tests.browser.serving import Served


def test_a_recording_pauses_and_seeks_where_it_is_told(screen: Screen) -> None:
    screen.wait_model()
    screen.start_sample()
    screen.wait_media(1.0)
    screen.press("Pause")
    screen.wait_state("PAUSED")
    *_, stood_s = screen.next_media_times(2)
    assert screen.next_media_times(4) == [stood_s] * 4
    screen.ask("What is on the left?")
    (answer, *_) = screen.wait_lines(1, "Answer")
    assert answer.time_s == pytest.approx(stood_s, abs=0.06), "the moment that stands still is asked about"
    screen.press("Resume")
    screen.wait_state("REPLAY")
    length_s = screen.pulse()["duration_s"]
    bar = screen.seek(0.5)
    screen.wait("(s) => Math.abs(sva.pulse.media_s - s) < 3", 0.5 * length_s)
    screen.choose_speed("4×")
    screen.wait(
        "(s) => [...document.querySelectorAll('[role=log] .sva-remark .sva-at')].some((at) => {"
        " const [m, rest] = at.innerText.split(':'); return 60 * +m + +rest >= s; })",
        0.5 * length_s, within_s=15.0,
    )  # fmt: skip
    bar.focus()
    screen.page.keyboard.press("Home")
    screen.wait("() => sva.pulse.media_s < 4")


def test_as_fast_as_possible_drops_nothing(screen: Screen) -> None:
    screen.wait_model()
    screen.start_sample(speed="as fast as possible")
    screen.seek(0.4)
    screen.wait_state("ENDED", within_s=60)
    screen.page.get_by_text("Health", exact=True).click()
    figures = screen.page.get_by_test_id("figures")
    figures.get_by_text("0 dropped").wait_for()
    screen.page.locator("#sva-health").get_by_text("seconds ago").first.wait_for()
    assert not [line for line in screen.lines("Status") if "dropped" in line.text.lower()]


def test_a_mark_shows_the_frames_behind_it(screen: Screen) -> None:
    screen.wait_model()
    screen.start_sample(speed="4×")
    (line, *_) = screen.wait_lines(1)
    mark = screen.page.get_by_role("button", name="Remark at").first
    mark.click()
    screen.wait_evidence()
    assert "odds" in screen.evidence.inner_text() and "threshold" in screen.evidence.inner_text()
    assert screen.evidence.locator("img").first.evaluate("(image) => image.naturalWidth") > 0
    screen.close_evidence()
    screen.feed.locator(f'.sva-at[href="{line.link}"]').click()
    screen.evidence.locator("img").first.wait_for()


def test_the_newest_events_are_there_as_the_tab_opens_and_go_on_coming(screen: Screen) -> None:
    screen.wait_model()
    screen.choose("Events")
    screen.page.get_by_text("Nothing was watched in this tab yet.").wait_for()
    screen.choose("Watch")
    screen.start_sample()
    screen.wait_lines(1)
    screen.choose("Events")
    rows = screen.page.get_by_test_id("events").get_by_role("button")
    rows.filter(has_text="Remark").first.wait_for()
    newest = rows.first.get_attribute("data-event")
    screen.wait(
        "(before) => Number(document.querySelector('[data-testid=events] [data-event]').dataset.event) > before",
        int(newest or 0),
        within_s=30.0,
    )
    screen.page.get_by_label("Search").first.fill("no such word")
    screen.page.get_by_text("No event matches.").wait_for()


def test_events_are_found_played_and_exported(screen: Screen, tmp_path: Path) -> None:
    screen.wait_model()
    screen.start_sample(speed="4×")
    screen.wait_lines(2)
    screen.ask("How many shapes are there?")
    screen.wait_lines(1, "Answer")
    screen.press("Pause")
    screen.choose("Events")
    rows = screen.page.get_by_test_id("events").get_by_role("button")
    rows.first.wait_for()
    assert rows.count() >= 3
    rows.filter(has_text="Remark").first.click()
    screen.page.get_by_test_id("detail").locator("img").first.wait_for()
    screen.press("Export")
    link = screen.page.get_by_test_id("download")
    link.wait_for()
    with screen.page.expect_download() as waited:
        link.click()
    path = tmp_path / "events.jsonl"
    waited.value.save_as(path)
    written = [json.loads(text) for text in path.read_text().splitlines()]
    kinds = {entry["type"] for entry in written}
    assert {"comment", "answer"} <= kinds
    address = link.evaluate("(link) => link.href")
    token = screen.page.evaluate("() => sva.connection.token")
    assert screen.page.request.get(address).ok
    other = "A" * len(token)
    assert screen.page.request.get(address.replace(token, other)).status == 404, "files belong to their session"


def test_stop_ends_an_answer_as_it_comes_and_nothing_else(screen: Screen, app: Served) -> None:
    screen.wait_model()
    screen.start_sample(speed="4×")
    screen.wait_lines(1)
    with app.slowed(0.25):
        screen.ask("What happened last?")
        begun = screen.wait_begun_answer()
        with app.slowed(20.0):  # it is not over before the button is pressed
            screen.question.press_sequentially("How many ", delay=20)
            screen.press("Stop answer")
        screen.wait_answered()
        (answer,) = screen.lines("Answer")
        assert answer.text.startswith(begun.strip()) and answer.text.endswith("stopped"), "its words so far stay"
        assert screen.question.input_value() == "How many ", "nothing typed is lost"
    told = len(screen.lines("Remark"))
    screen.wait_lines(told + 1)
    screen.question.press_sequentially("shapes are there?")
    screen.question.press("Enter")
    whole = screen.wait_lines(2, "Answer")[-1]
    screen.wait_answered()
    assert "stopped" not in whole.text and "How many shapes are there?" in screen.feed.inner_text()
    screen.page.get_by_role("button", name="Stop answer").wait_for(state="hidden")


def test_stop_ends_a_question_that_waits_and_nothing_else(screen: Screen) -> None:
    screen.wait_model()
    # A camera that never shows a picture makes a question wait.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        screen.choose("Camera URL")
        screen.page.get_by_label("Camera URL").last.fill(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live")
        screen.press("Start camera")
        screen.wait_state("OPENING", "RECONNECTING")
        screen.ask("What is happening in all the parts of the picture?")
        screen.press("Stop answer")
        screen.feed.get_by_text("stopped before it was answered").wait_for()
        screen.wait_answered()
        screen.page.get_by_role("button", name="Stop answer").wait_for(state="hidden")
        screen.press("Stop watching")
    screen.choose("Sample")
    screen.start_sample()
    screen.wait_state("REPLAY")
    screen.ask("What is on the left?")
    screen.wait_lines(1, "Answer")
    screen.wait_answered()
    assert "stopped" not in screen.lines("Answer")[-1].text
