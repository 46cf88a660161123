"""Rules as JSON values for the page's scripts and for programs. Plain functions; any thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assistant.config.rule_text import rule_values

if TYPE_CHECKING:
    from assistant.viewers.rule_desk import ShownRule


def rules_of(shown: Sequence[ShownRule]) -> list[dict[str, Any]]:
    """Each rule with the keys of the configuration, its place, and how it stands now."""
    return [_row(each) for each in shown]


def _row(each: ShownRule) -> dict[str, Any]:
    standing = each.standing
    facts = [of for _, of in standing.facts]
    fired = [of.raised_at_wall_s for of in facts if of.raised_at_wall_s is not None]
    probabilities = [of.probability for of in facts if of.probability is not None]
    return {
        "place": each.place,
        "name": standing.rule.name,
        **rule_values(standing.rule),
        "may_change": each.may_change,
        "configured": standing.is_configured,
        "watched_on": [name for name, _ in standing.facts],
        "awaited_on": list(standing.awaited),
        "fired_s": max(fired, default=None),
        "num_fired": sum(of.num_raised for of in facts),
        "holds": any(of.is_raised for of in facts),
        "probability": round(max(probabilities), 4) if probabilities else None,
    }
