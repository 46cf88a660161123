"""Starts Debian's Chromium with Playwright, which is imported only when a test runs."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Playwright

CHROMIUM_PACKAGES = "chromium fonts-dejavu-core"
PATHS = ("/usr/bin/chromium", "/usr/bin/chromium-browser")

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    # Tabs of a window share a process, and with it the scripts that are loaded already.
    "--process-per-site",
    # Only names of this machine resolve, so that a page that fetches from elsewhere fails as it would offline.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    # Times in tests are media times: pages must not be slowed when their window is not in front.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
_CAMERA_FLAGS = ("--use-fake-device-for-media-stream",)


def find_chromium() -> str | None:
    """Path of Debian's Chromium; None if it is not installed."""
    return next((path for path in PATHS if Path(path).exists()), shutil.which("chromium"))


def missing() -> str:
    """Why no browser can be started here; empty if one can."""
    if importlib.util.find_spec("playwright") is None:
        return "needs_browser: playwright is not installed; pip install -r requirements-dev.txt"
    if find_chromium() is None:
        return f"needs_browser: no Chromium in {' or '.join(PATHS)}; apt-get install {CHROMIUM_PACKAGES}"
    return ""


def start_chromium(playwright: Playwright, camera: Path | None = None, microphone: Path | None = None) -> Browser:
    """A headless browser with an empty profile, whose camera repeats the film `camera` (MJPEG or Y4M).

    microphone: a WAV file that its microphone plays once from its opening on; without one it beeps.
    """
    flags = [*_FLAGS, *_CAMERA_FLAGS]
    if camera is not None:
        flags.append(f"--use-file-for-fake-video-capture={camera}")
    if microphone is not None:
        flags.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    path = find_chromium()
    assert path is not None
    return playwright.chromium.launch(executable_path=path, args=flags, headless=True)


DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


def open_context(
    browser: Browser,
    url: str,
    *,
    camera: bool | None = None,
    phone: bool = False,
    dark: bool = False,
    self_signed: bool = False,
) -> BrowserContext:
    """A browser context. camera: True grants the camera, False denies it, None leaves the question open.

    self_signed: go on past the warning about the server's certificate.
    """
    context = browser.new_context(
        viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
        device_scale_factor=2 if phone else 1,
        is_mobile=phone,
        has_touch=phone,
        color_scheme="dark" if dark else "light",
        permissions=["camera"] if camera else [],
        base_url=url,
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
        accept_downloads=True,
        ignore_https_errors=self_signed,
    )
    context.set_default_timeout(30_000)
    return context


@contextmanager
def open_window(
    browser: Browser,
    url: str,
    *,
    camera: bool | None = None,
    phone: bool = False,
) -> Iterator[BrowserContext]:
    """A window for many tabs, one after the other: what stays open in it keeps what the next one needs."""
    with open_context(browser, url, camera=camera, phone=phone) as context:
        context.new_page().goto("/favicon.ico")
        yield context
