"""Speaking with the page: a question by the microphone, remarks and its answer aloud with captions, muted at first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assistant.speech.recognisers import why_deaf
from assistant.speech.sound import joined, silence
from tests.browser.chromium import open_context, start_chromium
from tests.browser.screen import Screen, opened
from tests.browser.serving import app_served
from tests.speech.espeak import missing as missing_espeak
from tests.speech.espeak import spoken

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Playwright

QUESTION = "How many shapes are there?"
pytestmark = [
    pytest.mark.skipif(bool(missing_espeak()), reason=missing_espeak()),
    pytest.mark.skipif(bool(why_deaf()), reason=why_deaf()),
]


@pytest.fixture
def talker(playwright: Playwright, tmp_path: Path) -> Iterator[BrowserContext]:
    """A phone at an app with a certificate of its own; its microphone says the question after a second."""
    question = spoken(QUESTION, "en-gb")
    whole = joined([silence(1.0, question.rate_hz), question, silence(3.0, question.rate_hz)])
    path = tmp_path / "microphone.wav"
    path.write_bytes(whole.as_wav())
    with app_served(tmp_path, "--ssl-self-signed") as served:
        browser = start_chromium(playwright, microphone=path)
        assert served.url.startswith("https://")
        with open_context(browser, served.url, phone=True, self_signed=True) as context:
            context.grant_permissions(["microphone"])
            yield context
        browser.close()


def test_a_question_spoken_into_a_phone_over_https_is_answered_aloud(talker: BrowserContext) -> None:
    with opened(talker) as screen:
        assert screen.page.url.startswith("https://")
        screen.wait_model()
        aloud = screen.page.get_by_role("button", name="Unmute")
        microphone = screen.page.get_by_role("button", name="Speak a question")
        assert aloud.get_attribute("aria-pressed") == "false" == microphone.get_attribute("aria-pressed")
        screen.start_sample()
        screen.wait_lines(1)
        assert screen.page.evaluate("sva.voiceLog.length") == 0, "the page is muted at first"
        aloud.click()
        screen.page.get_by_role("button", name="Mute", exact=True).wait_for()
        note_captions(screen)
        ask_aloud(screen)
        assert "shapes" in screen.question.input_value().lower(), screen.question.input_value()
        assert not screen.lines("Answer"), "what was heard can be corrected before it is sent"
        screen.question.fill(QUESTION)
        screen.question.press("Enter")
        screen.wait_lines(1, "Answer")
        screen.wait_answered()
        (answer, *_) = screen.lines("Answer")
        screen.wait("(text) => window.captions.join(' ').includes(text)", arg=answer.text.split()[0])
        screen.wait("() => sva.voiceLog.length > 0")
        played = screen.page.evaluate("sva.voiceLog")
        for before, after in zip(played, played[1:], strict=False):
            assert after["at"] >= before["at"] + before["seconds"] - 1e-6, "two at once"


def note_captions(screen: Screen) -> None:
    screen.page.evaluate(
        "() => { window.captions = []; const box = document.querySelector('.sva-spoken');"
        " new MutationObserver(() => box.textContent && window.captions.push(box.textContent))"
        ".observe(box, { childList: true, characterData: true, subtree: true }); }"
    )


def ask_aloud(screen: Screen) -> None:
    """Switch the microphone on, wait until its words have been said, and switch it off."""
    screen.page.get_by_role("button", name="Speak a question").press("Enter")
    level = screen.page.get_by_role("meter", name="Microphone level")
    level.wait_for()
    screen.wait("() => { const m = document.querySelector('.sva-level'); return m.value > 0.05; }")
    screen.wait(
        "() => { const m = document.querySelector('.sva-level'); const now = performance.now();"
        " if (m.value > 0.02 || !window.quietMs) window.quietMs = now; return now - window.quietMs > 800; }"
    )
    screen.page.get_by_role("button", name="Listening…").press("Enter")
    screen.page.get_by_text("Correct it if need be").wait_for()
