"""Configuration of rules: what cameras are watched for, in the YAML. Immutable values; any thread may hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from assistant.config.cameras import CameraConfig
from assistant.config.component import Component, ShortText, check_names
from assistant.errors import ConfigError
from assistant.rules.arming import armed_rules
from assistant.rules.rule import LEAST_SURE, LONGEST_S, MOST_CONFIRMATIONS, MOST_SURE, USUALLY_SURE, Rule, Severity
from assistant.rules.schedule import parse_schedule
from streaming.errors import StreamingError
from streaming.masks import MaskRegion


def _schedule(text: str) -> str:
    try:
        parse_schedule(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


def _zone(value: Any) -> Any:
    if isinstance(value, dict):
        try:
            return MaskRegion.from_mapping(value)
        except StreamingError as error:
            raise ValueError(str(error)) from error
    if value is None or isinstance(value, str | MaskRegion):
        return value
    raise ValueError("it must be the name of a zone, or a rectangle or polygon")


class RuleConfig(Component):
    """One rule. The model is asked after each frame, yes or no, whether it holds."""

    when: ShortText
    """What to look for, in plain words: `a red shape on the left`, `the view is covered`, or a question."""
    cameras: tuple[str, ...] = ()
    """Cameras that it is meant for; all where none are named."""
    zone: Annotated[str | MaskRegion | None, BeforeValidator(_zone)] = None
    """A zone of these cameras in which something must change as it begins, or a region of its own."""
    schedule: Annotated[str, AfterValidator(_schedule)] | None = None
    """Days and times at which it is armed, as `mon-fri 08:00-18:00; sat`; always where it is left out."""
    sure: float = Field(default=USUALLY_SURE, ge=LEAST_SURE, le=MOST_SURE)
    """Probability of yes from which a frame counts as a hit."""
    confirmations: int = Field(default=2, ge=1, le=MOST_CONFIRMATIONS)
    """Hits in a row that make an alert."""
    hold_s: float = Field(default=0.0, ge=0, le=LONGEST_S)
    """Media seconds that the hits must last."""
    clear_s: float = Field(default=2.0, ge=0, le=LONGEST_S)
    """Media seconds without a hit after which it is over."""
    cooldown_s: float = Field(default=30.0, ge=0, le=LONGEST_S)
    """Media seconds after it is over in which it raises no new alert."""
    severity: Severity = Severity.WARNING
    to: tuple[str, ...] = ()
    """Names of the targets that its alerts go to."""
    muted: bool = False
    """Whether it is watched without raising alerts."""

    def rule(self, name: str) -> Rule:
        """The rule of this name."""
        return Rule(
            name=name,
            when=self.when,
            cameras=self.cameras,
            zone=self.zone,
            schedule=parse_schedule(self.schedule) if self.schedule is not None else None,
            sure=self.sure,
            confirmations=self.confirmations,
            hold_s=self.hold_s,
            clear_s=self.clear_s,
            cooldown_s=self.cooldown_s,
            severity=self.severity,
            targets=self.to,
            muted=self.muted,
        )


def check_rules(rules: Mapping[str, RuleConfig], cameras: Mapping[str, CameraConfig], *, is_small: bool) -> None:
    """Raise `ValueError` for a rule that cannot be armed on the cameras that it is meant for.

    is_small: whether the embedded model watches, which cannot read all words.
    """
    check_names("rule", rules)
    for name, rule in rules.items():
        for camera in rule.cameras:
            if camera not in cameras:
                known = ", ".join(cameras) or "none are configured"
                raise ValueError(f"rule {name}: camera {camera!r} is unknown ({known})")
    made = [rule.rule(name) for name, rule in rules.items()]
    try:
        for camera, configured in cameras.items():
            armed_rules(made, configured.zones, camera, is_small=is_small)
    except ConfigError as error:
        raise ValueError(str(error)) from None
