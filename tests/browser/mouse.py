"""What a person does with the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.screen import Screen

if TYPE_CHECKING:
    from playwright.sync_api import Locator


def drag(screen: Screen, here: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press at one place of an element, move to another, let go. Places: shares of its width and height."""
    box = here.bounding_box()
    assert box is not None
    (x0, y0), (x1, y1) = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end))
    screen.page.mouse.move(x0, y0)
    screen.page.mouse.down()
    screen.page.mouse.move(x1, y1, steps=4)
    screen.page.mouse.up()
