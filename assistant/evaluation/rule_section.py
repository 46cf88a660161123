"""Scores the alerts of rules on rendered scenes against their truth, and counts false ones in quiet scenes.

Runs on the caller's thread, which is the engine's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.evaluation.rule_truth import Interval, TrueRule, intervals, rules_for
from assistant.evaluation.sections import quiet_settings
from assistant.evaluation.watching import WatchedStream, scene_pictures, watch
from assistant.rules.arming import armed_rules
from assistant.rules.rule import Rule
from models.groundtruth.scoring import rate, rate_per_hour
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene

if TYPE_CHECKING:
    from models.engine import Engine

WITHIN_S = 2.0
"""An alert is in time if it is raised at most so long after its rule began to hold."""
SHORTEST_S = 1.0
"""A rule that holds for less may raise an alert, but none is missed."""


@dataclass(slots=True)
class _RuleMarks:
    """(right, all) of each scene: of alerts raised, and of alerts owed."""

    raised: list[tuple[int, int]] = field(default_factory=list)
    owed: list[tuple[int, int]] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Precision, recall and delays as plain values."""
        delays = {f"p{q}": float(np.percentile(self.delays_s, q)) if self.delays_s else None for q in (50, 95)}
        return {"precision": rate(self.raised), "recall": rate(self.owed), "delay_s": delays}


@dataclass(frozen=True, slots=True)
class JudgedRule:
    """A rule of a kind on one stream, with its truth."""

    kind: str
    words: str
    held: Sequence[Interval]
    truths: dict[float, bool | None]
    """By media time; None where it is not certain."""


class RuleSection:
    """Alerts of rules of every kind, on scenes in which they come true and on others."""

    def __init__(self, engine: Engine, settings: SceneSettings) -> None:
        self._engine = engine
        self._fps = settings.fps
        self._settings = settings
        self._marks: defaultdict[str, _RuleMarks] = defaultdict(_RuleMarks)
        self._quiet_hours = 0.0
        self._num_false = 0
        self.wrong: list[dict[str, Any]] = []
        """Seed, rule, time and what was wrong, of each alert that was false or missed."""

    def watch(self, seed: int) -> None:
        """Watch the scene of a seed by rules of every kind."""
        scene = Scene(seed, self._settings)
        times = [float(time_s) for time_s in scene.times(self._fps)]
        rules = rules_for(scene, times)
        watched = self._watched(scene, rules)
        judged = []
        for rule in rules:
            held, truths = intervals(scene, rule, times)
            judged.append(JudgedRule(rule.kind, rule.words, held, dict(zip(times, truths, strict=True))))
        self.note({"seed": seed}, judged, watched)

    def note(self, where: dict[str, Any], rules: Sequence[JudgedRule], watched: WatchedStream) -> None:
        """Score the alerts of one stream, whose rules are named by their numbers. where: what stream it was."""
        counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for number, rule in enumerate(rules):
            of_rule = replace(watched, alerts=tuple(one for one in watched.alerts if one.rule == str(number)))
            self._mark(where, rule, of_rule, counts[rule.kind])
        for kind, (right, raised, caught, num_owed) in counts.items():
            for key in (kind, "all"):
                self._marks[key].raised.append((right, raised))
                self._marks[key].owed.append((caught, num_owed))

    def watch_quiet(self, seed: int) -> None:
        """Watch the quiet scene of a seed by rules of every kind, and count the alerts that are false."""
        scene = Scene(seed, quiet_settings(self._settings))
        times = [float(time_s) for time_s in scene.times(self._fps)]
        rules = rules_for(scene, times)
        alerts = self._watched(scene, rules).alerts
        self._quiet_hours += scene.duration_s / 3600
        for number, rule in enumerate(rules):
            truths = dict(zip(times, intervals(scene, rule, times)[1], strict=True))
            for alert in (alert for alert in alerts if alert.rule == str(number) and truths[alert.time_s] is False):
                self._num_false += 1
                self.wrong.append({"seed": seed, "rule": rule.words, "time_s": alert.time_s, "what": "false, quiet"})

    def as_dict(self) -> dict[str, Any]:
        """Precision and recall by kind, mean and all; false alerts a day of quiet scenes, of all rules together."""
        values = {kind: marks.as_dict() for kind, marks in sorted(self._marks.items())}
        per_hour = rate_per_hour(self._num_false, self._quiet_hours)
        per_day = {
            "value": None if per_hour["value"] is None else 24 * per_hour["value"],
            "interval": None if per_hour["interval"] is None else [24 * bound for bound in per_hour["interval"]],
            "count": self._num_false,
            "hours": self._quiet_hours,
        }
        return {
            **values.pop("all", _RuleMarks().as_dict()),
            "by_kind": values,
            "false_a_day": per_day,
            "wrong": self.wrong,
        }

    def _watched(self, scene: Scene, rules: Sequence[TrueRule]) -> WatchedStream:
        wanted = [Rule(str(number), rule.words, cooldown_s=0.0) for number, rule in enumerate(rules)]
        armed = armed_rules(wanted, {}, "scene", is_small=self._engine.info.embedded)
        return watch(self._engine, scene_pictures(scene, self._fps), fps=self._fps, rules=armed)

    def _mark(self, where: dict[str, Any], rule: JudgedRule, watched: WatchedStream, counts: list[int]) -> None:
        alerts, ends, held, truths = watched.alerts, watched.alert_ends, rule.held, rule.truths
        for alert in alerts:
            if truths[alert.time_s] is None:  # nobody can say
                continue
            is_right = any(one.may_begin_s <= alert.time_s <= one.end_s + WITHIN_S for one in held)
            counts[0] += is_right
            counts[1] += 1
            if not is_right:
                self.wrong.append({**where, "rule": rule.words, "time_s": alert.time_s, "what": "false"})
        for one in held:
            if one.end_s - one.start_s < SHORTEST_S or not one.is_new:
                continue
            in_time = [a.time_s for a in alerts if one.may_begin_s <= a.time_s <= one.start_s + WITHIN_S]
            # One that was raised before and is not over tells of it too.
            goes_on = any(
                a.time_s < one.may_begin_s and ends.get(a.occurrence, math.inf) >= one.start_s for a in alerts
            )
            counts[2] += bool(in_time) or goes_on
            counts[3] += 1
            if in_time:
                self._marks["all"].delays_s.append(in_time[0] - one.start_s)
            elif not goes_on:
                self.wrong.append({**where, "rule": rule.words, "time_s": one.start_s, "what": "missed"})


def run_rules(
    engine: Engine, seeds: Sequence[int], settings: SceneSettings, num_quiet: int, advance: Callable[[], object]
) -> dict[str, Any]:
    """`evaluate --rules` as plain values. num_quiet: quiet scenes to watch, from the first seed on."""
    section = RuleSection(engine, settings)
    for seed in seeds:
        section.watch(seed)
        advance()
    for number in range(num_quiet):
        section.watch_quiet(seeds[0] + number)
        advance()
    return section.as_dict()
