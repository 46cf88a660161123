"""Measures how soon an answer's first words stand on the page: `python -m tests.browser.first_words --json`.

From the model's first token, by the clock of the app's process, to the change of the page, by the browser's: the same
machine's. Two tabs watch a scene each and ask at once. Needs Debian's Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from tests.browser.chromium import missing, open_window, start_chromium
from tests.browser.screen import Screen, all_opened
from tests.browser.serving import app_served

NUM_TABS = 2
WANTED_S = 0.1
NOTE_FIRST_WORDS_JS = """
() => {
  const seen = new Set(), found = (window.firstWords = []);
  new MutationObserver(() => {
    for (const line of document.querySelectorAll("[role=log] .sva-answer")) {
      const link = line.querySelector(".sva-at").getAttribute("href"), text = line.querySelector(".sva-text");
      if (seen.has(link) || text.querySelector(".sva-wait") || !/\\w/.test(text.textContent)) continue;
      seen.add(link);
      found.push(Date.now() / 1000);
    }
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}
"""


def delays_s(num_questions: int, pass_s: float) -> list[float]:
    """Seconds from the first token to the first words on the page, of so many questions in each tab.

    pass_s: how much longer each forward pass of the model takes.
    """
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as made, sync_playwright() as running:
        folder, browser = Path(made), start_chromium(running)
        with app_served(folder, observed=True) as app, open_window(browser, app.url) as window:
            with all_opened([window] * NUM_TABS) as tabs:
                tabs[0].wait_model()
                app.note_first_tokens(folder / "tokens.jsonl")
                with app.slowed(pass_s):
                    shown = _ask(tabs, num_questions)
            lines = (folder / "tokens.jsonl").read_text(encoding="utf-8").splitlines()
        browser.close()
    known = [json.loads(line) for line in lines]
    found = []
    for text, shown_s in shown.items():
        (token_s,) = [note["at_s"] for note in known if text in note["question"]]
        found.append(shown_s - token_s)
    return found


def _ask(tabs: list[Screen], num_questions: int) -> dict[str, float]:
    """Time of day at which the first words of each answer stood on the page, by its question."""
    for tab in tabs:
        tab.start_sample("Synthetic scene")
        tab.page.evaluate(NOTE_FIRST_WORDS_JS)
    for tab in tabs:
        tab.wait_media(2.0)
    shown: dict[str, float] = {}
    for number in range(num_questions):
        asked = [f"What is in picture {name}{number}?" for name in "ab"[: len(tabs)]]
        for tab, text in zip(tabs, asked, strict=True):
            tab.ask(text)
        for tab, text in zip(tabs, asked, strict=True):
            tab.wait("(count) => window.firstWords.length > count", number)
            tab.wait_answered()
            shown[text] = float(tab.page.evaluate("(number) => window.firstWords[number]", number))
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.first_words", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--questions", type=int, default=8, help="how many in each tab")
    parser.add_argument("--pass-s", type=float, default=0.0, help="seconds by which each pass of the model is slowed")
    given = parser.parse_args()
    if lacks := missing():
        sys.exit(lacks)
    found = sorted(delays_s(given.questions, given.pass_s))
    values = {
        "num_answers": len(found),
        "median_ms": round(1e3 * statistics.median(found)),
        "slowest_ms": round(1e3 * found[-1]),
        "within_100_ms": sum(delay_s <= WANTED_S for delay_s in found),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(values) if given.json else "\n".join(f"{name:>14} {value}" for name, value in values.items()))


if __name__ == "__main__":
    main()
