"""Recordings: pause, seek, speed, the frames behind a mark, questions at a moment, and export."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.screen import Screen


def test_a_recording_pauses_and_seeks_where_it_is_told(screen: Screen) -> None:
    screen.wait_model()
    screen.start_sample()
    screen.wait_lines(1)
    screen.press("Pause")
    screen.wait_state("PAUSED")
    *_, stood_s = screen.next_media_times(2)
    assert screen.next_media_times(4) == [stood_s] * 4
    screen.ask("What is on the left?")
    (answer, *_) = screen.wait_lines(1, "Answer")
    assert answer.time_s == pytest.approx(stood_s, abs=0.06), "the moment that stands still is asked about"
    screen.press("Resume")
    screen.wait_state("REPLAY")
    bar = screen.page.get_by_role("slider", name="Seek")
    box = bar.bounding_box()
    assert box is not None
    length_s = screen.pulse()["duration_s"]
    bar.click(position={"x": 0.5 * box["width"], "y": 3})
    screen.page.wait_for_function("(s) => Math.abs(sva.pulse.media_s - s) < 3", arg=0.5 * length_s)
    later = [line for line in screen.wait_lines(2) if line.time_s >= 0.5 * length_s - 1]
    screen.page.wait_for_function(
        "(s) => [...document.querySelectorAll('[role=log] .sva-remark .sva-at')].some((at) => {"
        " const [m, rest] = at.innerText.split(':'); return 60 * +m + +rest >= s; })",
        arg=0.5 * length_s, timeout=15_000,
    )  # fmt: skip
    bar.focus()
    screen.page.keyboard.press("Home")
    screen.page.wait_for_function("() => sva.pulse.media_s < 4")
    assert later or screen.lines("Remark")


def test_as_fast_as_possible_drops_nothing(screen: Screen) -> None:
    screen.wait_model()
    screen.start_sample()
    screen.wait_lines(1)
    screen.choose_speed("as fast as possible")
    screen.wait_state("ENDED", within_s=60)
    screen.page.get_by_text("Health", exact=True).click()
    figures = screen.page.get_by_test_id("figures")
    figures.get_by_text("0 dropped").wait_for()
    screen.page.locator("#sva-health").get_by_text("seconds ago").first.wait_for()
    assert not [line for line in screen.lines("Status") if "dropped" in line.text.lower()]


def test_a_mark_shows_the_frames_behind_it(screen: Screen) -> None:
    screen.wait_model()
    screen.start_sample()
    (line, *_) = screen.wait_lines(1)
    mark = screen.page.get_by_role("button", name="Remark at").first
    mark.click()
    screen.evidence.locator("img").first.wait_for()
    assert "odds" in screen.evidence.inner_text() and "threshold" in screen.evidence.inner_text()
    assert screen.evidence.locator("img").first.evaluate("(image) => image.naturalWidth") > 0
    screen.page.get_by_role("button", name="Close evidence").click()
    screen.evidence.wait_for(state="hidden")
    screen.feed.locator(f'.sva-at[href="{line.link}"]').click()
    screen.evidence.locator("img").first.wait_for()


def test_events_are_found_played_and_exported(screen: Screen, tmp_path: Path) -> None:
    screen.wait_model()
    screen.start_sample()
    screen.wait_lines(2)
    screen.ask("How many shapes are there?")
    screen.wait_lines(1, "Answer")
    screen.press("Pause")
    screen.choose("Events")
    screen.press("Find events")
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


def test_stop_ends_a_question_under_way_and_nothing_else(screen: Screen) -> None:
    screen.wait_model()
    # The carried model answers sooner than anybody presses; a camera that never shows a picture makes a question wait.
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
    screen.wait_lines(1)
    screen.ask("What is on the left?")
    screen.wait_lines(1, "Answer")
    screen.wait_answered()
    assert "stopped" not in screen.lines("Answer")[-1].text
