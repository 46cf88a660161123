"""A rule: what to look for, how sure to be, and when to raise an alert. Immutable; any thread may hold it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from assistant.errors import ConfigError
from assistant.rules.schedule import Schedule
from streaming.masks import MaskRegion

LEAST_SURE, MOST_SURE = 0.5, 0.999
USUALLY_SURE = 0.9
"""Chosen on scenes 3000030-3000049 with the embedded checkpoint: 0.9 raised one false alert and missed two, where 0.8
raised four and missed one."""
MOST_CONFIRMATIONS = 100
LONGEST_S = 86_400.0
MOST_RULES = 32
"""Most rules of one camera: each costs a check a frame."""


class Severity(StrEnum):
    """How much an alert matters, the least first; senders may filter by it."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a camera is watched for. The model is asked about it after each frame, yes or no."""

    name: str
    when: str
    """In plain words: "a red shape on the left", "the view is covered", or a whole question."""
    cameras: tuple[str, ...] = ()
    """Names of the cameras that it watches; all where there are none."""
    zone: str | MaskRegion | None = None
    """The camera's zone by name, or a region of the rule's own, where something must change as it begins.

    None for the whole picture.
    """
    schedule: Schedule | None = None
    """When it is armed; None for always."""
    sure: float = USUALLY_SURE
    """Probability of yes from which a frame counts as a hit."""
    confirmations: int = 2
    """Hits in a row that make an alert."""
    hold_s: float = 0.0
    """Media seconds that the hits must last."""
    clear_s: float = 2.0
    """Media seconds without a hit after which an occurrence is over."""
    cooldown_s: float = 30.0
    """Media seconds after an occurrence in which no new one raises an alert."""
    severity: Severity = Severity.WARNING
    targets: tuple[str, ...] = ()
    """Names of the targets that its alerts are delivered to."""
    muted: bool = False
    """Whether it is checked and its occurrences are noted, but no alert is raised."""

    def __post_init__(self) -> None:
        if not self.when.strip():
            raise ConfigError(f"rule {self.name}: its words are empty; say what to look for, as 'the view is covered'")
        if not LEAST_SURE <= self.sure <= MOST_SURE:
            raise ConfigError(
                f"rule {self.name}: sure {self.sure:g}; it must be a probability from {LEAST_SURE:g} to {MOST_SURE:g}; "
                f"{USUALLY_SURE:g} is usual"
            )
        if not 1 <= self.confirmations <= MOST_CONFIRMATIONS:
            raise ConfigError(
                f"rule {self.name}: confirmations {self.confirmations}; from 1 to {MOST_CONFIRMATIONS} hits in a row; "
                "2 is usual"
            )
        for key in ("hold_s", "clear_s", "cooldown_s"):
            value = getattr(self, key)
            if not 0 <= value <= LONGEST_S:
                raise ConfigError(
                    f"rule {self.name}: {key} {value:g}; from 0 to {LONGEST_S:g} seconds; change or leave it out"
                )

    def watches(self, camera: str) -> bool:
        """Whether it is meant for a camera of this name."""
        return not self.cameras or camera in self.cameras
