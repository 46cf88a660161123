"""The page as a user sees it: reads and presses its elements by role and label."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.browser.fake_camera import READ_TIME_JS, read_time

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, Response

START_S = 60.0
"""Most seconds until the page is loaded and the model ready, on a busy machine."""
POLL_MS = 50
"""Between two looks. Playwright's own way, at every frame that is drawn, takes a second on a page that came to rest."""

GRADIOS_OWN = (
    r"^warning: Method not implemented\. \(http\S+/assets/",
    r"^warning: WARN The input spec uses Vega-Lite v[\d.]+, but the current version .* \(http\S+/assets/",
)
"""What Gradio's own scripts say at every upload, and at the first drawing of each of its plots."""

_LINE = re.compile(r"^(?P<badge>\w+) (?P<time>[\d:.]+) (?:\+(?P<delay>[\d.]+) s )?(?:(?P<odds>\d+)% )?(?P<text>.*)$")

_WATCH_JS = """
(read) => {
  const readPatches = eval(read);
  const seen = (window.seenRemarks = new Map());
  const film = (window.seenFilm = []);
  const readNow = () => {
    const video = document.querySelector('video[aria-label="Your webcam"]');
    return video && video.videoWidth ? readPatches(video) : null;
  };
  const look = () => {
    for (const line of document.querySelectorAll('[role=log] .sva-remark')) {
      const link = line.querySelector('.sva-at').getAttribute('href');
      if (seen.has(link)) continue;
      seen.set(link, readNow());
    }
  };
  setInterval(() => { const now = readNow(); if (now) film.push([performance.now() / 1000, now]); }, 200);
  new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
  look();
}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the feed."""

    badge: str
    time_s: float
    """Media time."""
    text: str
    link: str
    """Target of the link on its time."""
    delay_s: float | None = None


def seconds(clock: str) -> float:
    """`1:02:03.5` in seconds."""
    total = 0.0
    for part in clock.split(":"):
        total = 60 * total + float(part)
    return total


COUNT_FRAMES_JS = """
(() => {
  const own = window.requestAnimationFrame.bind(window);
  window.framesAsked = 0;
  window.requestAnimationFrame = (callback) => { framesAsked++; return own(callback); };
})();
"""


@contextmanager
def opened(context: BrowserContext, *, dark: bool = False) -> Iterator[Screen]:
    """A new tab with a session of its own, closed at the end; fails where anything stood in its console."""
    with all_opened([context], dark=dark) as (screen,):
        yield screen


@contextmanager
def all_opened(contexts: Sequence[BrowserContext], *, dark: bool = False) -> Iterator[list[Screen]]:
    """A new tab in each window, as `opened`, loaded side by side."""
    screens = [Screen(context.new_page()) for context in contexts]
    try:
        for screen in screens:
            screen.page.emulate_media(color_scheme="dark" if dark else "light")
            screen.begin()
        for screen in screens:
            screen.wait_ready()
        yield screens
        for screen in screens:
            screen.check_console()
            screen.stop()
    finally:
        for screen in screens:
            screen.page.close()


class Screen:
    """One tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.allowed: list[str] = []
        """Patterns of what may stand in the console of this test."""
        self._said: list[str] = []
        page.add_init_script(COUNT_FRAMES_JS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._said.append(f"error: {error}"))
        page.on("requestfailed", self._on_failed)
        page.on("response", self._on_response)

    def begin(self) -> None:
        """Start loading the page."""
        self.page.goto("/", wait_until="commit")

    def wait_ready(self) -> None:
        """Wait until the page's own connection is open."""
        self.wait(
            "() => { const s = document.querySelector('[data-testid=state]'); "
            "return s && s.textContent && !['CONNECTING', 'DISCONNECTED'].includes(s.textContent); }",
            within_s=START_S,
        )

    def wait_model(self) -> None:
        """Wait until the model is loaded."""
        self.wait("() => window.sva && sva.pulse && sva.pulse.model.state === 'ready'", within_s=START_S)

    def wait(self, condition: str, arg: Any = None, within_s: float = 30.0) -> None:
        """Until a function of the page gives true for `arg`."""
        self.page.wait_for_function(condition, arg=arg, timeout=1000 * within_s, polling=POLL_MS)

    def check_console(self) -> None:
        """Fail where anything was said in the console, or could not be fetched, that a test did not allow."""
        allowed = [*GRADIOS_OWN, *self.allowed]
        bad = [said for said in self._said if not any(re.search(pattern, said) for pattern in allowed)]
        assert not bad, f"in the console: {bad}"

    # What is shown.

    @property
    def state(self) -> str:
        """State of the stream: LIVE, REPLAY, …"""
        return self.page.get_by_test_id("state").inner_text()

    @property
    def title(self) -> str:
        """The source by name."""
        return self.page.get_by_test_id("title").inner_text()

    @property
    def outcome(self) -> Locator:
        """Result of testing the chosen source, or what is wrong with it."""
        return self.page.get_by_test_id("result").filter(visible=True)

    @property
    def feed(self) -> Locator:
        """The feed."""
        return self.page.get_by_role("log")

    @property
    def question(self) -> Locator:
        """The question box."""
        return self.page.locator("#sva-question").get_by_role("textbox")

    @property
    def evidence(self) -> Locator:
        """The frames behind an event."""
        return self.page.get_by_role("region", name="Evidence")

    def wait_evidence(self) -> None:
        """Until the frames behind something are there, and all of their panel is in sight."""
        self.evidence.locator("img").first.wait_for()
        self.wait(
            "() => { const box = document.querySelector('[data-testid=evidence]').getBoundingClientRect();"
            " return box.height > 150 && box.top >= 0 && box.bottom <= innerHeight + 1; }"
        )

    def lines(self, badge: str | None = None) -> list[Line]:
        """Lines of the feed, oldest first."""
        found = []
        raw: list[dict[str, str]] = self.feed.locator(".sva-line").evaluate_all(
            "(lines) => lines.map((line) => ({text: line.innerText.replace(/\\s+/g, ' ').trim(),"
            " link: line.querySelector('.sva-at').getAttribute('href')}))"
        )
        for entry in raw:
            match = _LINE.match(entry["text"])
            assert match is not None, f"a line of the feed that is not understood: {entry['text']!r}"
            delay = match["delay"]
            line = Line(match["badge"], seconds(match["time"]), match["text"], entry["link"],
                        float(delay) if delay else None)  # fmt: skip
            if badge is None or line.badge.lower() == badge.lower():
                found.append(line)
        return found

    def wait_lines(self, count: int, badge: str = "Remark", within_s: float = 15.0) -> list[Line]:
        """At least `count` lines with this badge."""
        self.wait(
            "([kind, count]) => document.querySelectorAll(`[role=log] .sva-${kind}`).length >= count",
            [badge.lower(), count], within_s,
        )  # fmt: skip
        return self.lines(badge)

    def pulse(self) -> dict[str, Any]:
        """The last message that the page received."""
        return dict(self.page.evaluate("() => ({...sva.pulse, curve: undefined, marks: undefined})"))

    def next_media_times(self, count: int) -> list[float]:
        """Media times of the next moments that the page is told of."""
        return list(self.page.evaluate(
            "(count) => new Promise((done) => { const found = []; sva.connection.on('pulse', (pulse) => {"
            " found.push(pulse.media_s); if (found.length === count) done(found); }); })", count
        ))  # fmt: skip

    def wait_begun_answer(self) -> str:
        """Until an answer has come in part; gives its words so far."""
        begun = "[role=log] .sva-answer:has(.sva-cursor) .sva-text"
        self.wait(f"() => /\\w/.test(document.querySelector('{begun}')?.textContent || '')")
        return self.page.locator(begun).first.inner_text().rstrip("\u258d")

    def wait_answered(self) -> None:
        """Wait until no answer is unfinished."""
        self.wait("() => sva.pulse.open === 0 && !document.querySelector('[role=log] :is(.sva-wait, .sva-cursor)')")

    def wait_rest(self, num_pulses: int = 4, most_frames: int = 8) -> None:
        """Until the page's scripts all but cease to ask for frames to draw: as often while it is told of its stream."""
        self.page.evaluate(
            "() => { let count = 0; window.askedOf = []; sva.connection.on('pulse', () => {"
            " askedOf.push(framesAsked - count); count = framesAsked; }); }"
        )
        self.wait(
            "([count, most]) => askedOf.length > count && askedOf.slice(-count).reduce((a, b) => a + b) <= most",
            [num_pulses, most_frames],
        )  # fmt: skip

    def wait_media(self, time_s: float) -> None:
        """Wait until the model has seen the recording up to this media time."""
        self.wait("(s) => sva.pulse.media_s >= s", time_s)

    def seek(self, share: float) -> Locator:
        """Click on a recording's timeline, so far from its left; gives it."""
        bar = self.page.get_by_role("slider", name="Seek")
        box = bar.bounding_box()
        assert box is not None
        bar.click(position={"x": share * box["width"], "y": 3})
        return bar

    def choose_speed(self, name: str) -> None:
        """Play a recording at another speed."""
        self.page.get_by_role("combobox", name="Speed").click()
        self.page.get_by_role("option", name=name, exact=True).click()

    # What is done.

    def start_sample(self, name: str = "Synthetic scene", *, speed: str = "") -> None:
        """One click. speed: how fast it is played from then on, where that is not the usual."""
        sample = self.page.get_by_role("button", name=name, exact=True)
        sample.click()
        if speed:
            self.wait_state("REPLAY")
            sample.wait_for(state="hidden")  # what to watch folds, and all below it moves
            self.choose_speed(speed)

    def stop(self) -> None:
        """Leave nothing running that others would wait for; a closed tab alone runs on for its time of grace."""
        self.page.evaluate("() => sva.connection.send({stop: true})")

    def wear(self, scheme: Literal["light", "dark"]) -> None:
        """Day or night, until every colour has faded into the other's."""
        self.page.emulate_media(color_scheme=scheme)
        self.wait(
            "(is_dark) => document.body.classList.contains('dark') === is_dark"
            " && !document.getAnimations().some((one) => one instanceof CSSTransition)",
            scheme == "dark",
        )

    def choose(self, source: str) -> None:
        """Show a kind of source."""
        self.page.get_by_role("tab", name=source, exact=True).click()
        self._wait_drawn()

    def press(self, name: str) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def start_webcam(self) -> None:
        """Watch the browser's camera."""
        self.choose("Webcam")
        self.press("Start webcam")

    def send_file(self, path: Path) -> None:
        """Choose a file in place of the one before."""
        remove = self.page.locator("#sva-file").get_by_role("button", name=re.compile("Clear|Remove"))
        while remove.count():
            remove.first.click()
        self.page.locator("#sva-file input[type=file]").set_input_files(path)
        self.page.locator("#sva-file").get_by_text(path.stem).first.wait_for()

    def ask(self, text: str) -> None:
        """Type a question and send it."""
        self.question.fill(text)
        self.question.press("Enter")

    def wait_state(self, *states: str, within_s: float = 20.0) -> None:
        """Wait until the state is one of these."""
        self.wait(
            "(states) => states.includes(document.querySelector('[data-testid=state]').textContent)",
            list(states), within_s,
        )  # fmt: skip

    # The camera's film.

    def camera_time(self) -> float | None:
        """The time that the film in the webcam's preview shows now."""
        return read_time(self.page.get_by_label("Your webcam").evaluate(READ_TIME_JS))

    def watch_remarks(self) -> None:
        """From now on, note what the preview shows: at the moment when each remark appears, and all the while."""
        self.page.evaluate(_WATCH_JS, f"({READ_TIME_JS})")

    def noted_times(self) -> dict[str, float | None]:
        """By the remark's link: the film's time when it appeared."""
        noted: list[tuple[str, list[float] | None]] = self.page.evaluate("() => [...window.seenRemarks]")
        return {link: None if patches is None else read_time(patches) for link, patches in noted}

    def film_clock(self) -> tuple[list[float], list[float]]:
        """The film's times in the preview, in its first play, and when each was seen, in seconds of the page.

        A browser with much to do plays its film slower than it was made.
        """
        sampled: list[tuple[float, list[float]]] = self.page.evaluate("() => window.seenFilm")
        film_s: list[float] = []
        page_s: list[float] = []
        for at_s, patches in sampled:
            time_s = read_time(patches)
            if time_s is None:
                continue
            if film_s and time_s < film_s[-1]:
                break
            film_s.append(time_s)
            page_s.append(at_s)
        return film_s, page_s

    def evidence_times(self, line: Line) -> list[float | None]:
        """The film's times in the frames behind a line."""
        self.feed.locator(f'.sva-at[href="{line.link}"]').click()
        self.evidence.locator("img").first.wait_for()
        found = [read_time(patches) for patches in self.evidence.locator("img").evaluate_all(
            f"async (images) => {{ const read = {READ_TIME_JS}; "
            "await Promise.all(images.map((image) => image.decode())); return images.map(read); }"
        )]  # fmt: skip
        self.close_evidence()  # else the next line's would be taken for there while these still are
        return found

    def close_evidence(self) -> None:
        """Close the panel of the frames behind an event."""
        self.page.get_by_role("button", name="Close evidence").click()
        self.evidence.wait_for(state="hidden")

    def open_instruction(self) -> Locator:
        """Unfold how it speaks; gives the field of the standing instruction, once it is there."""
        self._unfold_speaking()
        # By its role: the feed's messages are labelled with their words, which may be of a standing instruction, too.
        field = self.page.get_by_role("textbox", name="Standing instruction", exact=True)
        field.wait_for()
        return field

    def open_talkativeness(self) -> Locator:
        """Unfold how it speaks, and focus the slider for how much; gives it. A key moves it by a quarter."""
        self._unfold_speaking()
        slider = self.page.get_by_role("slider", name="Talkativeness").last
        slider.focus()
        return slider

    def _unfold_speaking(self) -> None:
        self.page.get_by_text("How it speaks").click()
        self._wait_drawn()

    def _wait_drawn(self) -> None:
        """Until what just unfolded is seen: Gradio sets it again as it is first drawn, over what was typed before."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self._said.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self._said.append(f"{response.status} {response.url}")

    def _on_failed(self, request: Request) -> None:
        # What a page was fetching when it was left is no failure.
        if "ERR_ABORTED" not in (request.failure or ""):
            self._said.append(f"failed: {request.url} {request.failure}")
