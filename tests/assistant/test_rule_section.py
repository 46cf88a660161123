"""The scores of rules: their truth on rendered scenes, and what counts as an alert that is right, false or missed."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from assistant.evaluation import rule_section
from assistant.evaluation.rule_section import RuleSection
from assistant.evaluation.rule_truth import intervals, rules_for
from assistant.evaluation.tables import rules_as_table
from assistant.evaluation.watching import WatchedStream
from assistant.events import Alert
from assistant.rules.rule_watch import ArmedRule
from assistant.rules.wording import condition_of
from models.groundtruth.moment import SceneMoment
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene

SETTINGS = SceneSettings(duration_s=40.0)
SEEDS = range(3_000_100, 3_000_104)


def times_of(scene: Scene) -> list[float]:
    return [float(time_s) for time_s in scene.times(2.0)]


def alert(rule: str, time_s: float) -> Alert:
    return Alert(source="scene", time_s=time_s, text="", rule=rule, occurrence="one", started_s=time_s)


def test_rules_are_of_many_kinds_and_all_of_them_are_taught() -> None:
    rules = [rule for seed in SEEDS for rule in rules_for(Scene(seed, SETTINGS), times_of(Scene(seed, SETTINGS)))]
    assert {rule.kind for rule in rules} == {
        "anything", "moving", "covered", "blurred", "dark", "thing", "colour", "shape", "side",
    }  # fmt: skip
    assert all(condition_of(rule.words, is_small=True).is_taught for rule in rules)


@pytest.mark.slow
def test_the_truth_is_that_of_the_scene() -> None:
    rng = np.random.default_rng(0)
    num_held = 0
    for seed in SEEDS:
        scene = Scene(seed, SETTINGS)
        for rule in rules_for(scene, times_of(scene)):
            held, truths = intervals(scene, rule, times_of(scene))
            num_held += len(held)
            for one in held:
                assert all(truths[times_of(scene).index(t)] for t in (one.start_s, one.end_s))
            for time_s, truth in zip(times_of(scene), truths, strict=True):
                moment = SceneMoment(scene, time_s, rng)
                if rule.kind == "thing" and moment.certain:
                    shown = {f"{thing.colour} {thing.shape}" for thing in moment.shapes}
                    assert truth is (rule.words.split(" ", 1)[1] in shown)
    assert num_held > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "precision", "recall"), [("oracle", 1.0, 1.0), ("silence", None, 0.0), ("always", None, None)]
)
def test_the_oracle_silence_and_who_raises_every_rule_all_the_time(
    who: str, precision: float | None, recall: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watched(engine: Any, pictures: Any, *, fps: float, rules: Sequence[ArmedRule]) -> WatchedStream:
        scene, alerts = current[0], list[Alert]()
        for number, rule in enumerate(rules_for(scene, times_of(scene))):
            if who == "oracle":
                alerts += [alert(str(number), one.start_s) for one in intervals(scene, rule, times_of(scene))[0]]
            elif who == "always":
                alerts += [alert(str(number), time_s) for time_s in times_of(scene)]
        assert [one.rule.name for one in rules] == [str(n) for n in range(len(rules))]
        return WatchedStream((), (), (), alerts=tuple(alerts))

    current: list[Scene] = []
    monkeypatch.setattr(rule_section, "watch", watched)
    monkeypatch.setattr(rule_section, "scene_pictures", lambda scene, fps: current.__setitem__(slice(None), [scene]))
    section = RuleSection(cast(Any, SimpleNamespace(info=SimpleNamespace(embedded=True))), SETTINGS)
    for seed in SEEDS:
        section.watch(seed)
    values = section.as_dict()
    assert values["recall"]["asked"] > 8
    if who == "always":
        assert values["precision"]["value"] < 0.5 and values["recall"]["value"] == 1.0
    else:
        assert (values["precision"]["value"], values["recall"]["value"]) == (precision, recall)
    assert "alerts of rules" in rules_as_table(values)
