"""The watched cameras as the browser app shows them: an interface and its values. Any thread may call it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from assistant.cameras.camera_rules import CameraRules
    from assistant.serving.contracts import WatchableStream
    from assistant.timeline.marks import AlertMarks
    from assistant.timeline.search import TimelineReader


@dataclass(frozen=True, slots=True)
class Region:
    """A mask or a zone of a camera's picture."""

    kind: str
    """`mask` or `zone`."""
    name: str
    points: tuple[tuple[float, float], ...]
    """Corners, as fractions of the picture's width and height."""
    is_drawn: bool = False
    """Whether a viewer drew it; otherwise it is configured."""


@dataclass(frozen=True, slots=True)
class CameraCard:
    """One camera in the page's overview."""

    name: str
    state: str
    reason: str
    health: str
    """`ok`, `degraded` or `down`."""
    has_alert: bool
    """Whether an alert was raised in the last minute."""
    said: str
    """Text of the last remark."""
    jpeg: bytes
    """Thumbnail of the last frame that the model saw; empty before the first."""
    regions: tuple[Region, ...]


class CameraViews(Protocol):
    """The cameras of the configuration."""

    def stream(self, name: str) -> WatchableStream:
        """The stream of a camera. Raises `ConfigError` if there is none of that name."""
        ...

    def cards(self) -> list[CameraCard]:
        """The card of every camera, in the configuration's order."""
        ...

    def draw(self, name: str, drawn: Sequence[Region]) -> None:
        """Replace the masks and zones drawn on a camera; the configured ones stay.

        Raises `ConfigError` for an invalid region or an unknown camera.
        """
        ...

    def regions_yaml(self, name: str) -> str:
        """All masks and zones of a camera in the form of a configuration file. Raises `ConfigError`."""
        ...

    def camera_rules(self) -> CameraRules:
        """The rules of all cameras, to be looked at and changed."""
        ...

    def reader(self) -> TimelineReader | None:
        """Reader of their events; None if none are stored."""
        ...

    def marks(self) -> AlertMarks | None:
        """What people say of their alerts, and how often each rule was right; None if no events are stored."""
        ...

    def mute_rule(self, rule: str, is_muted: bool) -> None:
        """Mute a rule on every camera that has it, or hear it again. Raises `StoreError` where it cannot be kept."""
        ...
