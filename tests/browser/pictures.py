"""Takes the pictures of docs/browser.md: `python -m tests.browser.pictures docs/browser`, or some of them by name.

Each is of the real app in a real browser, brought to its state as a person would bring it there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.viewers.passwords import make_line
from tests.browser.chromium import open_context, start_chromium
from tests.browser.fake_camera import make_film
from tests.browser.mouse import drag
from tests.browser.screen import Screen, opened
from tests.browser.serving import Served, app_served, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FILM_SEED = 4
FILM_S = 30.0
"""What the browser's camera shows."""
LEAST_BYTES = 15_000
"""A picture of less shows nothing."""
CAMERAS = """
cameras:
  door:
    url: synthetic:7
    masks: [{rectangle: [0.7, 0, 0.3, 0.15]}]
    zones: {steps: {rectangle: [0, 0.2, 0.5, 0.8]}}
  yard: {url: synthetic:3}
  gate: {url: "rtsp://127.0.0.1:9/live"}
timeline: {keep_clips_s: 3}
"""
RULED = """
cameras:
  door:
    url: synthetic:7
    zones: {steps: {rectangle: [0, 0.2, 0.5, 0.8]}}
  yard: {url: synthetic:3}
targets:
  phone: {kind: webhook, url: "http://127.0.0.1:9/phone", timeout_s: 1}
  home: {kind: webhook, url: "http://127.0.0.1:9/home", timeout_s: 1}
timeline: {keep_clips_s: 3}
"""
AGAIN_JS = """
() => new Promise((done) => {
  let told = 0;
  sva.connection.on('cameras', (message) => { if (++told >= 3 && message.cameras[0].state === 'REPLAY') done(); });
})
"""
"""Until the first camera, which is opened anew with other masks, is watched again."""


@dataclass(frozen=True, slots=True)
class Studio:
    """Where pictures are taken, and which of them are wanted."""

    browser: Browser
    folder: Path
    wanted: frozenset[str]

    def shoot(self, screen: Screen, name: str, *, whole: bool = False) -> None:
        """Keep a picture, of the whole page or of what a window shows of it."""
        if name in self.wanted:
            shoot(screen, self.folder / f"{name}.png", whole=whole)
            print(self.folder / f"{name}.png")

    @contextmanager
    def look(
        self,
        app: Served,
        *,
        camera: bool | None = None,
        phone: bool = False,
        dark: bool = False,
    ) -> Iterator[Screen]:
        """A tab whose model is there."""
        with (
            open_context(self.browser, app.url, camera=camera, phone=phone) as context,
            opened(context, dark=dark) as screen,
        ):
            screen.wait_model()
            yield screen


def shoot(screen: Screen, path: Path, *, whole: bool = False) -> None:
    """Write a picture, and see that there is something on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    screen.page.screenshot(path=path, full_page=whole)
    assert path.stat().st_size > LEAST_BYTES, f"{path.stem} is all but empty"


def watched(screen: Screen, num_remarks: int = 3) -> None:
    """A sample under way, its cells shown, a question answered."""
    screen.start_sample()
    screen.wait_lines(1)
    screen.page.get_by_label("Show kept cells").check()
    screen.ask("What is on the left?")
    screen.wait_lines(1, "Answer")
    screen.wait_answered()
    screen.wait_lines(num_remarks)
    screen.page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")


def recording(studio: Studio, app: Served) -> None:
    """A recording from before its beginning to after its end."""
    with studio.look(app) as screen:
        studio.shoot(screen, "start")
        watched(screen)
        studio.shoot(screen, "watching")
        screen.press("Pause")
        screen.wait_state("PAUSED")
        studio.shoot(screen, "paused")
        screen.page.get_by_role("button", name="Remark at").nth(1).click()
        screen.wait_evidence()
        studio.shoot(screen, "evidence")
        screen.close_evidence()
        screen.press("Resume")
        screen.page.get_by_text("Health", exact=True).click()
        screen.page.locator("#sva-health").get_by_text("seconds ago").first.wait_for()
        screen.wait_media(screen.pulse()["media_s"] + 10)  # there is a curve to be seen
        screen.page.locator("#sva-health").scroll_into_view_if_needed()
        studio.shoot(screen, "health")
        screen.page.get_by_text("Health", exact=True).click()
        screen.page.evaluate("() => scrollTo(0, 0)")
        screen.choose_speed("as fast as possible")
        screen.wait_state("ENDED", within_s=60)
        screen.ask("What happened last?")
        screen.wait_lines(2, "Answer")
        screen.wait_answered()
        studio.shoot(screen, "ended")


def sources(studio: Studio, app: Served) -> None:
    """A test that says what is wrong, and a source that fails."""
    with studio.look(app) as screen:
        screen.choose("Camera URL")
        address = screen.page.get_by_label("Camera URL").last
        address.fill("rtsp://admin:secret@127.0.0.1:9/live")
        screen.press("Test camera")
        screen.outcome.get_by_text("refused").wait_for()
        studio.shoot(screen, "test")
        address.fill("http://127.0.0.1:9/clip.mp4")
        screen.press("Start camera")
        screen.wait_state("FAILED")
        screen.page.locator("#sva-chooser").get_by_text("Camera URL").first.wait_for()
        studio.shoot(screen, "failed")


def webcam(studio: Studio, app: Served) -> None:
    """A browser's camera."""
    with studio.look(app, camera=True) as screen:
        screen.start_webcam()
        screen.wait_state("LIVE")
        screen.wait_lines(2, within_s=60)
        studio.shoot(screen, "live")


def dark(studio: Studio, app: Served) -> None:
    """A dark screen."""
    with studio.look(app, dark=True) as screen:
        watched(screen)
        studio.shoot(screen, "dark")


def phone(studio: Studio, app: Served) -> None:
    """A phone by day and by night."""
    for name in ("phone", "phone-dark"):
        if name in studio.wanted:
            with studio.look(app, phone=True, dark=name == "phone-dark") as screen:
                watched(screen)
                studio.shoot(screen, name)


def cameras(studio: Studio, app: Served) -> None:
    """Watched cameras, one of them with an alert, regions drawn on it, and their events."""
    with studio.look(app) as screen:
        screen.choose("Cameras")
        grid = screen.page.get_by_test_id("cameras")
        for number in range(2):
            grid.locator("img[src]").nth(number).wait_for()
        grid.get_by_text("RECONNECTING").wait_for()
        app.alert("door", "Somebody left a parcel.")
        screen.page.locator(".sva-card.alerted").wait_for()
        studio.shoot(screen, "cameras")
        _draw(studio, screen)
        grid.get_by_role("button", name="door: ").click()
        screen.wait_lines(1, "Alert")
        screen.wait_lines(2)
        studio.shoot(screen, "camera")
        screen.choose("Events")
        screen.page.get_by_label("Cameras", exact=True).check()
        screen.page.get_by_test_id("events").get_by_role("button").filter(has_text="door").first.wait_for()
        detail = screen.page.get_by_test_id("detail")

        def has_clip() -> bool:
            screen.page.get_by_test_id("events").get_by_role("button").filter(has_text="Alert").first.click()
            detail.locator("video, .sva-none").first.wait_for()
            return detail.locator("video").count() > 0

        wait_until(has_clip, 30.0, "the alert's clip is finished")  # it goes on for some seconds after it
        screen.wait("() => document.querySelector('[data-testid=detail] video').readyState >= 2")
        studio.shoot(screen, "events")


def rules(studio: Studio, app: Served) -> None:
    """Rules: none yet, a rehearsal with its curve, and what they come to; by day and by night, wide and on a phone."""
    with studio.look(app) as screen:
        screen.choose("Rules")
        editor = screen.page.get_by_test_id("rule-editor")
        editor.locator("img[src]").wait_for()
        studio.shoot(screen, "rules-start")
        screen.wait("() => sva.rules.message.rules.length === 0")
        screen.press("Arm this rule")
        screen.press("New rule")
        screen.page.get_by_label("What to watch for").last.fill("anything moves")
        drag(screen, screen.page.get_by_test_id("rule-draw"), (0.15, 0.2), (0.75, 0.9))

        def is_long() -> bool:
            screen.press("Rehearse on the last minutes")
            screen.page.get_by_test_id("rule-would").or_(screen.page.get_by_test_id("rule-said")).first.wait_for()
            screen.wait("() => (sva.rules.message.rehearsal || {}).state !== 'running'")
            return bool(screen.page.evaluate("() => (sva.rules.message.rehearsal || {}).num_frames >= 40"))

        wait_until(is_long, 90.0, "twenty seconds of the camera were rehearsed")
        studio.shoot(screen, "rules", whole=True)
        screen.press("Arm this rule")
        screen.page.get_by_test_id("rules").get_by_text("last alert").first.wait_for()
        screen.wear("dark")
        screen.press("Change the view is covered")
        studio.shoot(screen, "rules-dark", whole=True)
    with studio.look(app, phone=True) as screen:
        screen.choose("Rules")
        screen.page.get_by_test_id("rules").locator("li").first.wait_for()
        screen.press("New rule")
        screen.page.get_by_test_id("rule-draw").locator("img[src]").wait_for()
        studio.shoot(screen, "rules-phone", whole=True)


def _draw(studio: Studio, screen: Screen) -> None:
    """A mask and a zone drawn by hand, and the YAML that keeps them."""
    screen.press("Masks and zones of door")
    paper = screen.page.get_by_test_id("draw")
    paper.locator("img[src]").wait_for()
    box = paper.bounding_box()
    assert box is not None
    left, top, width, height = box["x"], box["y"], box["width"], box["height"]
    mouse = screen.page.mouse
    mouse.move(left + 0.1 * width, top + 0.1 * height)
    mouse.down()
    mouse.move(left + 0.3 * width, top + 0.32 * height, steps=4)
    mouse.up()
    screen.page.get_by_label("zone: only a change here").check()
    screen.page.get_by_label("Name of the zone").fill("path")
    for x, y in ((0.55, 0.5), (0.95, 0.55), (0.85, 0.95), (0.55, 0.5)):
        paper.click(position={"x": x * width, "y": y * height})
    screen.press("Apply to the camera")
    screen.page.get_by_test_id("drawn").get_by_text("until the program ends").wait_for()
    screen.page.evaluate(AGAIN_JS)
    studio.shoot(screen, "draw", whole=True)
    screen.press("Close masks and zones")


def login(studio: Studio, app: Served) -> None:
    """Where one logs in."""
    page = studio.browser.new_page(viewport={"width": 900, "height": 560}, base_url=app.url)
    page.goto("/")
    page.get_by_role("button", name="Login").wait_for()
    if "login" in studio.wanted:
        page.screenshot(path=studio.folder / "login.png")
    page.close()


Scene = Callable[[Studio, Served], None]
PLAIN: dict[Scene, tuple[str, ...]] = {
    recording: ("start", "watching", "paused", "evidence", "health", "ended"),
    sources: ("test", "failed"),
    webcam: ("live",),
    dark: ("dark",),
    phone: ("phone", "phone-dark"),
}
WITH_CAMERAS: dict[Scene, tuple[str, ...]] = {cameras: ("cameras", "draw", "camera", "events")}
WITH_RULES: dict[Scene, tuple[str, ...]] = {rules: ("rules-start", "rules", "rules-dark", "rules-phone")}
WITH_LOGIN: dict[Scene, tuple[str, ...]] = {login: ("login",)}
ALL = (PLAIN, WITH_CAMERAS, WITH_RULES, WITH_LOGIN)
NAMES = tuple(name for scenes in ALL for names in scenes.values() for name in names)
"""Every picture there is."""


def take(studio: Studio, folder: Path) -> None:
    """Start the app in each way that is needed, and take the pictures that are wanted."""
    config, users = folder / "cameras.yaml", folder / "users"
    config.write_text(CAMERAS, encoding="utf-8")
    ruled = folder / "ruled.yaml"
    ruled.write_text(RULED, encoding="utf-8")
    users.write_text(make_line("ada", "a long password") + "\n", encoding="utf-8")
    users.chmod(0o600)
    apps: list[tuple[dict[Scene, tuple[str, ...]], tuple[str, ...]]] = [
        (PLAIN, ()),
        (WITH_CAMERAS, ("--config", str(config), "--data", str(folder / "data"))),
        (WITH_RULES, ("--config", str(ruled), "--data", str(folder / "ruled"))),
        (WITH_LOGIN, ("--auth-file", str(users))),
    ]
    for number, (scenes, options) in enumerate(apps):
        due = [scene for scene, names in scenes.items() if studio.wanted.intersection(names)]
        home = folder / str(number)
        home.mkdir()
        if due:
            with app_served(home, *options, observed=True) as app:
                for scene in due:
                    scene(studio, app)


def main(arguments: list[str]) -> None:
    """Arguments: the folder, then names of pictures; all of them where none is given."""
    from playwright.sync_api import sync_playwright

    if not arguments or (unknown := set(arguments[1:]) - set(NAMES)):
        wrong = f"{', '.join(sorted(unknown))}: no such picture; " if arguments else ""
        raise SystemExit(f"{wrong}give a folder, then any of {', '.join(NAMES)}")
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = start_chromium(playwright, make_film(Path(folder) / "camera.mjpeg", FILM_SEED, FILM_S).path)
        take(Studio(browser, out, frozenset(arguments[1:] or NAMES)), Path(folder))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
