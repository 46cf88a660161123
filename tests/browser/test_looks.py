"""How the page looks and is used without a mouse: each state on a desk and on a phone, light and dark.

Pictures are written to the folder in SCREENSHOTS, for people to look at; `tests.browser.pictures` takes more states.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tests.browser.pictures import shoot as take_picture
from tests.browser.screen import Screen, opened

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

NAMELESS_JS = """
() => [...document.querySelectorAll('button, input, textarea, select, [role=slider], [role=tab]')].filter((e) => {
  const box = e.getBoundingClientRect();
  if (!box.width || !box.height || e.type === 'hidden' || e.closest('[aria-hidden=true]')) return false;
  const style = getComputedStyle(e);
  if (style.visibility === 'hidden' || style.opacity === '0') return false;
  const labels = e.labels ? [...e.labels].map((l) => l.innerText).join('') : '';
  const by = (e.getAttribute('aria-labelledby') || '').split(' ')
    .map((id) => document.getElementById(id)?.innerText || '');
  return ![e.getAttribute('aria-label'), e.title, labels, by.join(''), e.innerText, e.alt].some((t) => t && t.trim());
}).map((e) => e.outerHTML.slice(0, 160))
"""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LEAST_CONTRAST = 4.5
"""As the Web Content Accessibility Guidelines ask of small text (2.2, 1.4.3 at level AA)."""
PALE_JS = """
(least) => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  for (const e of document.querySelectorAll(':is(.sva-line, .sva-about, .sva-status, .sva-tools, .sva-scale) *')) {
    const own = [...e.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || !e.checkVisibility()) continue;
    let opacity = 1, ground = null;
    for (let at = e; at; at = at.parentElement) {
      const style = getComputedStyle(at), [r, g, b, a = 1] = numbers(style.backgroundColor);
      opacity *= style.opacity;
      if (!ground && a === 1) ground = [r, g, b];
    }
    const ink = numbers(getComputedStyle(e).color).slice(0, 3).map((v, i) => opacity * v + (1 - opacity) * ground[i]);
    const [dim, bright] = [light(ink), light(ground)].sort((one, other) => one - other);
    const contrast = (bright + 0.05) / (dim + 0.05);
    if (contrast < least) found.push(`${e.className} ${e.textContent.trim().slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return found;
}
"""
"""Texts that stand out too little from what is behind them."""
OVERFLOW_JS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def shoot(screen: Screen, name: str, tmp_path: Path) -> None:
    """Keep a picture of the page by day and one by night; nothing may be wider than the screen, or too pale to read."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    for scheme in SCHEMES:
        screen.wear(scheme)
        take_picture(screen, folder / f"{name}-{scheme}.png")
        assert screen.page.evaluate(OVERFLOW_JS) <= 1, f"{name}, {scheme}: wider than the screen"
        assert screen.page.evaluate(PALE_JS, LEAST_CONTRAST) == [], f"{name}, {scheme}: too pale to read"


@pytest.mark.parametrize("kind", ["desktop", "phone"])
def test_each_state_fits_its_screen_by_day_and_by_night(
    window: BrowserContext, phone: BrowserContext, tmp_path: Path, kind: str
) -> None:
    with opened(phone if kind == "phone" else window, dark=kind == "phone") as screen:
        screen.wait_model()
        shoot(screen, f"{kind}-start", tmp_path)
        screen.start_sample(speed="4×")
        screen.wait_lines(2)
        screen.page.get_by_label("Show kept cells").check()
        screen.ask("What is on the left?")
        screen.wait_lines(1, "Answer")
        screen.wait_answered()
        shoot(screen, f"{kind}-watching", tmp_path)
        if kind == "phone":
            video = screen.page.get_by_role("img", name="Picture").bounding_box()
            feed = screen.feed.bounding_box()
            assert video is not None and feed is not None and video["y"] < feed["y"], "the picture is above the chat"
        marks = screen.page.get_by_role("group", name="Timeline").get_by_role("button")
        marks.nth(1).tap() if kind == "phone" else marks.nth(1).click()
        screen.evidence.locator("img").first.wait_for()
        shoot(screen, f"{kind}-evidence", tmp_path)
        for viewer in ("Cameras", "Events"):
            screen.choose(viewer)
            shoot(screen, f"{kind}-{viewer.lower()}", tmp_path)


LAY_MARKS_JS = """
(times) => {
  const seen = {type: 'pulse', run: 1e6, reset: true, watching: true, state: 'REPLAY', kind: 'sample', feed: -1,
    place: 0, model: {state: 'ready', text: ''}, title: '', media_s: 40, duration_s: 60, speed: 1, curve: [],
    said: [], marks: times.map((time_s, number) =>
      ({id: 1000 + number, time_s, kind: 'remark', badge: 'Remark', text: 'x', length_s: 0}))};
  sva.connection.tell('pulse', seen);
  return [...document.querySelectorAll('.sva-mark')].map((mark) => {
    const box = mark.getBoundingClientRect();
    const at = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    return [at === mark, box.top >= mark.closest('.sva-bar').getBoundingClientRect().top];
  });
}
"""
"""Marks laid by hand: whether each is found where it is drawn. At once, before the page is told of its own stream."""


@pytest.mark.parametrize("kind", ["desktop", "phone"])
def test_marks_a_second_apart_do_not_cover_each_other(window: BrowserContext, phone: BrowserContext, kind: str) -> None:
    with opened(phone if kind == "phone" else window) as screen:
        screen.page.locator(".sva-stage").scroll_into_view_if_needed()
        found = screen.page.evaluate(LAY_MARKS_JS, [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 20.0, 20.5, 21.0, 59.0])
        assert found == [[True, True]] * 10


def test_every_control_has_a_name_and_the_keyboard_reaches_the_question(screen: Screen) -> None:
    screen.wait_model()
    screen.page.get_by_text("How it speaks").click()
    assert screen.page.evaluate(NAMELESS_JS) == []
    screen.page.evaluate("() => document.activeElement.blur()")
    sample = screen.page.get_by_role("button", name="Synthetic scene", exact=True)
    for _ in range(40):
        screen.page.keyboard.press("Tab")
        if sample.evaluate("(button) => button === document.activeElement"):
            break
    else:
        raise AssertionError("the keyboard does not reach the samples")
    screen.page.keyboard.press("Enter")
    screen.wait_state("REPLAY")
    for _ in range(80):
        screen.page.keyboard.press("Tab")
        if screen.question.evaluate("(box) => box === document.activeElement"):
            break
    else:
        raise AssertionError("the keyboard does not reach the question")
    screen.page.keyboard.type("What is on the left?")
    screen.page.keyboard.press("Enter")
    screen.wait_lines(1, "Answer")


def test_talkativeness_acts_on_the_running_stream(screen: Screen) -> None:
    screen.wait_model()
    screen.start_sample(speed="4×")
    screen.wait_lines(1)
    screen.open_talkativeness().press("Home")
    screen.feed.get_by_text("talkativeness is -4").wait_for()
    quiet_from_s = screen.pulse()["media_s"]
    screen.wait_media(quiet_from_s + 12)
    later = [line for line in screen.lines("Remark") if line.time_s > quiet_from_s + 1]
    assert len(later) <= 1, f"turned down, it says less than {later}"


def test_forgetting_is_told_and_the_stream_goes_on(screen: Screen) -> None:
    screen.wait_model()
    screen.start_sample(speed="4×")
    screen.wait_lines(1)
    screen.press("Forget")
    screen.wait_lines(1, "Status")
    before = len(screen.lines("Remark"))
    screen.wait_lines(before + 1)
