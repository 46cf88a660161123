"""Arms rules on one stream: finds their zones, and how its model is asked about their words. Pure; any thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assistant.errors import ConfigError
from assistant.rules.rule import MOST_RULES, Rule
from assistant.rules.rule_watch import ArmedRule
from assistant.rules.wording import condition_of
from streaming.masks import MaskRegion


def armed_rules(
    rules: Sequence[Rule], zones: Mapping[str, MaskRegion], camera: str, *, is_small: bool
) -> tuple[ArmedRule, ...]:
    """The rules that are meant for a camera. is_small: whether its model is the embedded one.

    Raises `ConfigError` for a zone that the camera does not have, words that the model cannot read, or too many rules;
    then none is armed.
    """
    meant = [rule for rule in rules if rule.watches(camera)]
    if len(meant) > MOST_RULES:
        raise ConfigError(f"{camera}: {len(meant)} rules; at most {MOST_RULES} a camera; name cameras in some of them")
    return tuple(_armed(rule, zones, camera, is_small=is_small) for rule in meant)


def _armed(rule: Rule, zones: Mapping[str, MaskRegion], camera: str, *, is_small: bool) -> ArmedRule:
    if isinstance(rule.zone, str) and rule.zone not in zones:
        known = ", ".join(zones) or "it has none"
        raise ConfigError(
            f"rule {rule.name}: zone {rule.zone!r} is no zone of camera {camera} ({known}); "
            "draw it there first, or leave the zone out"
        )
    try:
        condition = condition_of(rule.when, is_small=is_small)
    except ConfigError as error:
        raise ConfigError(f"rule {rule.name}: {error}") from None
    return ArmedRule(rule, condition, zones[rule.zone] if isinstance(rule.zone, str) else rule.zone)
