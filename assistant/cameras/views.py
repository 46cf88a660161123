"""Watched cameras as viewers see them: side by side, and one at a time. Any thread may ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from assistant.serving.contracts import WatchableStream
    from assistant.timeline.search import TimelineReader


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the picture that means something."""

    kind: str
    """`mask` or `zone`."""
    name: str
    points: tuple[tuple[float, float], ...]
    """Corners in parts of the picture's width and height."""
    is_drawn: bool = False
    """Whether a viewer drew it; the others are of the configuration."""


@dataclass(frozen=True, slots=True)
class CameraCard:
    """One camera among the others."""

    name: str
    state: str
    reason: str
    health: str
    """`ok`, `degraded` or `down`."""
    has_alert: bool
    """Whether there was an alert in the last minute."""
    said: str
    """The last remark."""
    jpeg: bytes
    """A small picture of what its model saw last; empty where it has seen nothing."""
    regions: tuple[Region, ...]


class CameraViews(Protocol):
    """The cameras of the configuration."""

    def stream(self, name: str) -> WatchableStream:
        """The stream of a camera. Raises `ConfigError` where there is none of that name."""
        ...

    def cards(self) -> list[CameraCard]:
        """Every camera, in the configuration's order."""
        ...

    def draw(self, name: str, drawn: Sequence[Region]) -> None:
        """Have these masks and zones beside the configured ones from now on, in place of those drawn before.

        Raises `ConfigError` for what is none, and where there is no camera of that name.
        """
        ...

    def regions_yaml(self, name: str) -> str:
        """All masks and zones of a camera, as a configuration file has them. Raises `ConfigError`."""
        ...

    def reader(self) -> TimelineReader | None:
        """Their events; None where none are kept."""
        ...
