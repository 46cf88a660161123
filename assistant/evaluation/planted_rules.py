"""Scores the alerts of rules on real clips: on what their labels say moves, and on what is planted into them.

Runs on the caller's thread, which is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.errors import AssistantError
from assistant.evaluation.perturbations import (
    SHORTEST_CLIP_S,
    Perturbation,
    PerturbationKind,
    duration_s,
    frames_of_another,
    plan_perturbations,
    planted,
)
from assistant.evaluation.rule_section import JudgedRule, RuleSection
from assistant.evaluation.rule_truth import held_intervals
from assistant.evaluation.watching import CLIP_SUFFIXES, MARGIN_S, clip_labels, clip_pictures, watch
from assistant.rules.arming import armed_rules
from assistant.rules.rule import Rule
from streaming.scenes.scenario import SceneSettings

if TYPE_CHECKING:
    from models.engine import Engine

FPS = 2.0
AFTER_S = 2.0
"""Seconds after a planted change in which nobody can say whether something else moves."""
ABSENT = ("a purple star", "an orange triangle", "a green star")
"""Things that no real clip is expected to show: every alert about them is false."""
Truth = Callable[[float], bool | None]


def run_rules_on_clips(engine: Engine, folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """`evaluate --rules --clips` as plain values: each clip once for each seed of plants, or as it is without seeds.

    Raises `AssistantError` where the folder holds no clip that is long enough.
    """
    clips = sorted(path for path in folder.glob("*") if path.suffix.casefold() in CLIP_SUFFIXES)
    lengths = {path: duration_s(path, FPS) for path in clips}
    if not any(length_s >= SHORTEST_CLIP_S for length_s in lengths.values()):
        raise AssistantError(
            f"{folder}: holds no clip of {SHORTEST_CLIP_S:g} s or more in {', '.join(CLIP_SUFFIXES)}; add a longer one"
        )
    labels = clip_labels(folder / "events.json") if (folder / "events.json").is_file() else {}
    section = RuleSection(engine, SceneSettings(fps=FPS))
    for number, path in enumerate(clips):
        if lengths[path] < SHORTEST_CLIP_S:
            continue
        other = frames_of_another(clips, number, FPS) if seeds else []
        for seed in seeds or (None,):
            plants = [] if seed is None else plan_perturbations(seed * len(clips) + number, lengths[path])
            _watch(section, engine, path, {"clip": path.name, "seed": seed}, plants, other, labels.get(path.name))
    return section.as_dict()


def rules_of_clip(plants: Sequence[Perturbation], labels: dict[str, Any] | None) -> list[tuple[str, str, Truth]]:
    """Kind, words and truth by media time of the rules for a clip with plants; without labels, none about movement."""
    rules: list[tuple[str, str, Truth]] = [
        ("covered", "the view is covered", lambda time_s: _of_plant(plants, PerturbationKind.COVER, time_s)),
        ("dark", "it is dark", lambda time_s: _of_plant(plants, PerturbationKind.DARK, time_s)),
        *(("absent", words, lambda time_s: False) for words in ABSENT),
    ]
    if labels is not None:
        rules.append(("moving", "anything moves", lambda time_s: _moves(plants, labels, time_s)))
    return rules


def _watch(
    section: RuleSection,
    engine: Engine,
    path: Path,
    where: dict[str, Any],
    plants: Sequence[Perturbation],
    other: Sequence[np.ndarray],
    labels: dict[str, Any] | None,
) -> None:
    rules, times = rules_of_clip(plants, labels), list[float]()

    def noted() -> Iterator[tuple[float, np.ndarray]]:
        for time_s, picture in planted(clip_pictures(path, FPS), plants, other):
            times.append(time_s)
            yield time_s, picture

    wanted = [Rule(str(number), words, cooldown_s=0.0) for number, (_, words, _) in enumerate(rules)]
    armed = armed_rules(wanted, {}, path.name, is_small=engine.info.embedded)
    watched = watch(engine, noted(), fps=FPS, rules=armed, name=path.name)
    judged = []
    for kind, words, truth in rules:
        truths = [truth(time_s) for time_s in times]
        judged.append(JudgedRule(kind, words, held_intervals(times, truths), dict(zip(times, truths, strict=True))))
    section.note(where, judged, watched)


def _of_plant(plants: Sequence[Perturbation], kind: PerturbationKind, time_s: float) -> bool | None:
    """Whether a kind of plant is there; None while it comes and goes, or while another hides it."""
    shares = {plant.trick: plant.share(time_s) for plant in plants if plant.share(time_s) > 0}
    if kind in shares:
        return True if shares[kind] >= 1 else None
    return None if PerturbationKind.COVER in shares else False


def _moves(plants: Sequence[Perturbation], labels: dict[str, Any], time_s: float) -> bool | None:
    """Whether the labels say that something moves; None where they do not, and around plants."""
    if any(plant.start_s <= time_s <= plant.end_s + plant.fall_s + AFTER_S for plant in plants):
        return None
    if _within(labels.get("activity", ()), time_s, 0.0):
        return True
    is_vague = _within([*labels.get("activity", ()), *labels.get("minor", ())], time_s, MARGIN_S)
    return None if is_vague else False


def _within(entries: Sequence[dict[str, Any]], time_s: float, margin_s: float) -> bool:
    return any(entry["start_s"] - margin_s <= time_s <= entry["end_s"] + margin_s for entry in entries)
