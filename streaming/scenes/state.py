"""The ground truth of a scene at one time: what is in view, where, and what has happened so far. No thread."""

from __future__ import annotations

from dataclasses import dataclass, field

from streaming.scenes.scenario import TruthEvent


@dataclass(frozen=True, slots=True)
class ThingState:
    """The ground truth about one thing at a time."""

    thing_id: int
    colour: str | None
    shape: str | None
    x_px: float
    y_px: float
    share_in: float
    """Share of it in view, relative to the most that ever is: 0 to 1."""
    side: str
    """left, centre or right third of the view."""
    level: str
    """top, middle or bottom third of the view."""
    moving: bool
    direction: str | None
    settled: bool
    """Whether its state is beyond doubt: it is wholly in view, and nothing began, ended or changed just before."""
    side_sure: bool
    """Whether its centre is clearly within one third of the view."""
    name: str | None = None
    """Its word of `names.NAMES`; None for shapes and what has no word."""


@dataclass(frozen=True, slots=True)
class SceneState:
    """The ground truth at a time."""

    t_s: float
    things: tuple[ThingState, ...]
    """What is in view (share_in above 0.02), from left to right."""
    covered: bool
    dark: bool
    bright: bool
    blurred: bool
    camera_moving: bool
    shot: int
    settled: bool
    """Whether all things are settled and no effect is under way."""
    events: tuple[TruthEvent, ...] = field(default=())
    """What has happened so far (visible_s at or before t_s)."""


def third(position: float, extent: float, names: tuple[str, str, str]) -> str:
    """The name of the third of an extent in which a position lies."""
    return names[min(max(int(3 * position / extent), 0), 2)]


def third_is_sure(position: float, extent: float, margin: float = 0.03) -> bool:
    """Whether a position is at least `margin` (a share of the extent) away from the borders between thirds."""
    return all(abs(position / extent - border) >= margin for border in (1 / 3, 2 / 3))
