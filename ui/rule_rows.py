"""Rules and their rehearsals as JSON values for the page's scripts and for programs. Plain functions; any thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assistant.config.rule_text import rule_values
from assistant.errors import ConfigError
from assistant.rules.rehearsal import Rehearsal

if TYPE_CHECKING:
    from assistant.delivery.outbox import OutboxEntry
    from assistant.serving.live_rehearsal import LiveRehearsal
    from assistant.timeline.marks import RuleRating
    from assistant.viewers.backend import Backend
    from assistant.viewers.viewer_rules import ShownRule
    from assistant.viewers.viewer_session import ViewerSession

NUMBERS = {"sure": float, "confirmations": int, "hold_s": float, "clear_s": float, "cooldown_s": float}
"""Values of a rule that a rehearsal can be judged by again, with their types."""


def rules_of(backend: Backend, viewer: ViewerSession) -> list[dict[str, Any]]:
    """Each rule with the keys of the configuration, its place, how it stands now and how often it was right."""
    shown = backend.rules.shown(viewer)
    ratings = {place: backend.marks.ratings(viewer, place) for place in {each.place for each in shown}}
    return [_row(each, ratings[each.place].get(each.standing.rule.name)) for each in shown]


def rehearsal_of(under_way: LiveRehearsal | None, numbers: Mapping[str, Any]) -> dict[str, Any] | None:
    """A rehearsal as far as it is: its curve, and the alerts that the rule would have raised with other numbers.

    numbers: those of `NUMBERS` that differ. Raises `ConfigError` for one out of bounds. None where there is none.
    """
    if under_way is None or under_way.is_cancelled:
        return None
    judged = Rehearsal(replace(under_way.rehearsal.rule, **_numbers(numbers)), list(under_way.rehearsal.curve))
    done = under_way.future
    error = done.exception() if done.done() and not done.cancelled() else None
    state = "running" if not done.done() else "failed" if error is not None or done.cancelled() else "done"
    return {
        "when": judged.rule.when,
        "source": under_way.source,
        "state": state,
        "wrong": str(error) if error is not None else "",
        "num_done": under_way.num_done,
        "num_frames": under_way.num_frames,
        "taught": under_way.is_taught,
        "sure": judged.rule.sure,
        "curve": [[round(each.time_s, 3), round(each.probability, 4)] for each in judged.curve],
        "alerts": [alert.as_dict() for alert in judged.alerts()],
        "highest": max((each.probability for each in judged.curve), default=None),
    }


def tests_of(entries: Sequence[OutboxEntry]) -> list[dict[str, str]]:
    """What became of each test alert, by target; a receiver that keeps a state is told its start and its end."""
    return [
        {"target": entry.target, "phase": entry.phase, "state": entry.state, "said": entry.said} for entry in entries
    ]


def _numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, kind in NUMBERS.items():
        value = given.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or kind(value) != value:
            raise ConfigError(f"{key} {value!r}: it must be a number; correct or leave it out")
        found[key] = kind(value)
    return found


def _row(each: ShownRule, rating: RuleRating | None) -> dict[str, Any]:
    standing = each.standing
    facts = [of for _, of in standing.facts]
    fired = [of.raised_at_wall_s for of in facts if of.raised_at_wall_s is not None]
    if rating is not None and rating.latest_s is not None:
        fired.append(rating.latest_s)
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
        "num_fired": max(sum(of.num_raised for of in facts), rating.num_alerts if rating is not None else 0),
        "num_right": rating.num_right if rating is not None else 0,
        "num_wrong": rating.num_wrong if rating is not None else 0,
        "holds": any(of.is_raised for of in facts),
        "probability": round(max(probabilities), 4) if probabilities else None,
    }
