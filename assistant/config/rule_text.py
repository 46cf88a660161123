"""Rules as people write them: read from plain values, and written as YAML to copy. Plain functions; any thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from assistant.config.app import AppConfig, one_line
from assistant.config.rules import RuleConfig
from assistant.errors import ConfigError
from assistant.rules.rule import Rule
from streaming.masks import MaskRegion


def read_rule(name: str, values: Mapping[str, Any]) -> Rule:
    """A rule of values with the keys of the configuration. Raises `ConfigError` for the first that is wrong.

    Whether its cameras, zones and targets exist is not looked at.
    """
    elsewhere = {key: values[key] for key in ("cameras", "to") if key in values}
    try:
        RuleConfig.model_validate({"when": "anything", **elsewhere})
        here = {key: value for key, value in values.items() if key not in elsewhere}
        config = AppConfig.model_validate({"rules": {name: here}}).rules[name]
        return config.model_copy(update={key: tuple(names) for key, names in elsewhere.items()}).rule(name)
    except ValidationError as error:
        raise ConfigError(one_line(error, None)) from error


def rules_yaml(rules: Sequence[Rule]) -> str:
    """Rules in the form of a configuration file; values that are usual are left out.

    >>> print(rules_yaml([Rule("covered", "the view is covered", sure=0.95)]), end="")
    rules:
      covered: {when: the view is covered, sure: 0.95}
    """
    values = {"rules": {rule.name: _written(rule) for rule in rules}}
    return yaml.safe_dump(values, default_flow_style=None, sort_keys=False, allow_unicode=True, width=10_000)


def rule_values(rule: Rule) -> dict[str, Any]:
    """A rule as plain values with the keys of the configuration."""
    zone = rule.zone.as_mapping() if isinstance(rule.zone, MaskRegion) else rule.zone
    return {
        "when": rule.when,
        "cameras": list(rule.cameras),
        "zone": zone,
        "schedule": rule.schedule.text if rule.schedule is not None else None,
        "sure": rule.sure,
        "confirmations": rule.confirmations,
        "hold_s": rule.hold_s,
        "clear_s": rule.clear_s,
        "cooldown_s": rule.cooldown_s,
        "severity": rule.severity.value,
        "to": list(rule.targets),
        "muted": rule.muted,
    }


def _written(rule: Rule) -> dict[str, Any]:
    usual = rule_values(Rule(rule.name, rule.when))
    return {key: value for key, value in rule_values(rule).items() if key == "when" or value != usual[key]}
