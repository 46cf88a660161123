"""The output of `evaluate`: scores of scenes and clips as plain values, as a table, and as a curve over time.

The sections share each scene's pictures; what they measure is in `evaluation`, `exam` and `floors`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.errors import ConfigError
from assistant.evaluation.baselines import FORGETFUL_SCENES, Baselines, floor_scene
from assistant.evaluation.footage_labels import evaluate_footage, read_labels
from assistant.evaluation.footage_scoring import summarise_words
from assistant.evaluation.perturbations import evaluate_planted
from assistant.evaluation.planted_rules import run_rules_on_clips
from assistant.evaluation.rule_section import run_rules
from assistant.evaluation.sections import QUIET_SCENE_S, AnswerSection, CheckSection, ObedienceSection, QuietSection
from assistant.evaluation.tables import (
    clips_as_table,
    footage_as_table,
    rules_as_table,
    scenes_as_table,
    values_as_table,
)
from assistant.evaluation.watching import (
    WatchedStream,
    evaluate_clips,
    evaluate_scenes,
    owed_remarks,
    scene_pictures,
    score_watched,
    watch,
)
from assistant.stream.question_queue import Question
from models.groundtruth.scoring import SceneScore, summarise
from streaming.errors import StreamingError
from streaming.scenes.scenario import Family, SceneSettings
from streaming.scenes.source import Scene

if TYPE_CHECKING:
    from models.engine import Engine

SECTIONS = ("triggers", "yesno", "answers", "obedience", "floors", "long", "quiet")
"""Sections that `evaluate` can measure on rendered scenes."""
LONG_SCENE_S = 600.0


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """The scenes that `evaluate` watches, and the sections that it measures."""

    seeds: Sequence[int]
    settings: SceneSettings
    sections: frozenset[str] = frozenset(SECTIONS)
    quiet_hours: float = 3.0
    talkativeness: float = 0.0
    plot: Path | None = None

    @property
    def num_quiet(self) -> int:
        """Quiet scenes to watch."""
        return math.ceil(self.quiet_hours * 3600 / QUIET_SCENE_S) if "quiet" in self.sections else 0

    @property
    def long_seeds(self) -> Sequence[int]:
        """Seeds of the ten-minute scenes: one for each ten of the others, so as many minutes altogether."""
        return self.seeds[: max(1, round(len(self.seeds) / 10))] if "long" in self.sections else ()

    @property
    def watches_scenes(self) -> bool:
        """Whether the usual scenes are wanted at all."""
        return bool(self.sections - {"long", "quiet"})


def chosen_sections(text: str) -> frozenset[str]:
    """Sections from a list with commas, or all. Raises `ConfigError`."""
    names = [name.strip() for name in text.split(",")]
    if names == ["all"]:
        return frozenset(SECTIONS)
    if not set(names) <= set(SECTIONS):
        raise ConfigError(f"--what {text!r}: known are {', '.join(SECTIONS)} and all; separate them by commas")
    return frozenset(names)


def run_scenes(engine: Engine, plan: ScenePlan, *, progress: bool) -> tuple[dict[str, Any], str]:
    """`evaluate` over scenes: plain values, and the table."""
    from tqdm import tqdm

    total = len(plan.seeds) * plan.watches_scenes + len(plan.long_seeds) + plan.num_quiet
    with tqdm(total=total, unit="scene", disable=not progress) as bar:
        values = _usual_scenes(engine, plan, bar.update) if plan.watches_scenes else {}
        if plan.long_seeds:
            values["long"] = _long_scenes(engine, plan, bar.update, values.get("f1"))
        if plan.num_quiet:
            quiet = QuietSection(engine, plan.settings, talkativeness=plan.talkativeness)
            for number in range(plan.num_quiet):
                quiet.watch(plan.seeds[0] + number)
                bar.update()
            values["quiet"] = quiet.as_dict()
    return values, values_as_table(values)


def score_rules(engine: Engine, plan: ScenePlan, *, progress: bool) -> tuple[dict[str, Any], str]:
    """`evaluate --rules`: plain values, and the table."""
    from tqdm import tqdm

    with tqdm(total=len(plan.seeds) + plan.num_quiet, unit="scene", disable=not progress) as bar:
        values = run_rules(engine, plan.seeds, plan.settings, plan.num_quiet, bar.update)
    return values, rules_as_table(values)


def score_rules_on_clips(engine: Engine, folder: Path, planted: Sequence[int] = ()) -> tuple[dict[str, Any], str]:
    """`evaluate --rules --clips`: plain values, and the table. planted: seeds of what is planted into the clips."""
    values = run_rules_on_clips(engine, folder, planted)
    return values, rules_as_table(values)


def _usual_scenes(engine: Engine, plan: ScenePlan, advance: Callable[[], object]) -> dict[str, Any]:
    """Each scene rendered once and watched for every section that is wanted."""
    stream, settings, wanted = engine.checkpoint.stream, plan.settings, plan.sections
    talkativeness = plan.talkativeness
    answers = AnswerSection(engine, settings, talkativeness=talkativeness)
    obedience = ObedienceSection(engine, settings, talkativeness=talkativeness)
    checks = CheckSection(settings, shown_for_s=stream.max_shown_time_s)
    floors, scores = Baselines(), []
    for number, seed in enumerate(plan.seeds):
        scene = Scene(seed, settings)
        pictures = list(scene_pictures(scene, settings.fps))
        if wanted & {"triggers", "yesno"}:
            posed = checks.pose(scene) if "yesno" in wanted else []
            asked = [Question(one.at_s, one.question) for one in posed]
            watched = watch(engine, pictures, fps=settings.fps, talkativeness=talkativeness, checks=asked)
            scores.append(score_watched(scene, watched, settings.fps))
            checks.mark(posed, watched)
            if plan.plot is not None and not number:
                plot_decisions(plan.plot, scene, watched, settings.fps)
        if "answers" in wanted:
            answers.watch(scene, pictures)
        if "obedience" in wanted:
            obedience.watch(scene, pictures)
        if "floors" in wanted:
            tries_model = number < FORGETFUL_SCENES
            floors.scenes.append(
                floor_scene(engine, scene, pictures, settings.fps, talkativeness=talkativeness, tries_model=tries_model)
            )
        advance()
    values = scenes_as_dict(scores) if "triggers" in wanted else {}
    parts: dict[str, CheckSection | AnswerSection | ObedienceSection | Baselines] = {
        "yes_no": checks,
        "answers": answers,
        "obedience": obedience,
        "floors": floors,
    }
    return values | {name: part.as_dict() for name, part in parts.items() if name.replace("_", "") in wanted}


def _long_scenes(
    engine: Engine, plan: ScenePlan, advance: Callable[[], object], usual_f1: float | None
) -> dict[str, Any]:
    """Scenes of ten minutes, past many evictions."""
    settings = replace(plan.settings, duration_s=LONG_SCENE_S)

    def told(*_: object) -> None:
        advance()

    scores = evaluate_scenes(engine, plan.long_seeds, settings, talkativeness=plan.talkativeness, on_scene=told)
    values = scenes_as_dict(scores)
    return {**values, "f1_beside_usual": None if usual_f1 is None else values["f1"] - usual_f1}


def run_clips(
    engine: Engine, folder: Path, talkative: float, planted: Sequence[int] = ()
) -> tuple[dict[str, Any], str]:
    """`evaluate --clips`: plain values, and the table. planted: seeds of what is planted into the clips."""
    if not planted:
        scores = evaluate_clips(engine, folder, talkativeness=talkative)
        return {"clips": [score.as_dict() for score in scores]}, clips_as_table(scores)
    found = evaluate_planted(engine, folder, planted, talkativeness=talkative)
    values = scenes_as_dict([score for _, score in found])
    by_clip = {}
    for name in sorted({name for name, _ in found}):
        of_clip = scenes_as_dict([score for one, score in found if one == name])
        by_clip[name] = {key: of_clip[key] for key in ("f1", "precision", "recall", "content", "owed", "said")}
    return {**values, "by_clip": by_clip}, scenes_as_table(values)


def run_footage(engine: Engine, folder: Path, talkative: float, *, progress: bool) -> tuple[dict[str, Any], str]:
    """`evaluate --footage`: plain values, and the table."""
    from tqdm import tqdm

    with tqdm(total=len(read_labels(folder)), unit="file", disable=not progress) as bar:
        clips, pictures = evaluate_footage(engine, folder, talkativeness=talkative, on_file=bar.update)
    values = summarise_words(clips, pictures)
    return values, footage_as_table(values)


def scene_settings(families: str, noise: float | None, seconds: float) -> SceneSettings:
    """Settings of the scenes to watch, from command-line options. Raises `ConfigError`."""
    known = {family.value: family for family in Family}
    unknown = [name for name in families.split(",") if name.strip() not in known]
    if unknown:
        raise ConfigError(f"--families {families!r}: known are {', '.join(known)}; separate them by commas")
    given: dict[str, Any] = {} if noise is None else {"noise_sigma": (noise, noise)}
    try:
        return SceneSettings(
            duration_s=seconds, families=frozenset(known[name.strip()] for name in families.split(",")), **given
        )
    except StreamingError as error:
        raise ConfigError(str(error)) from error


def chosen_seeds(text: str, option: str = "--seeds") -> list[int]:
    """Seeds from `A-B` or `A`. Raises `ConfigError`."""
    first, dash, last = text.partition("-")
    if not (first.isdigit() and (last.isdigit() or not dash)) or int(last or first) < int(first):
        raise ConfigError(f"{option} {text!r}: A-B is wanted, both whole numbers and A at most B; write {option} 0-49")
    return list(range(int(first), int(last or first) + 1))


def scenes_as_dict(scores: Sequence[SceneScore]) -> dict[str, Any]:
    """Plain JSON values; what cannot be measured is null."""
    summary = summarise(scores)
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in summary.items()}


def plot_decisions(path: Path, scene: Scene, watched: WatchedStream, fps: float) -> None:
    """Draw the score over time against its threshold, with the true events and the remarks, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, axes, below = figure.subplots(3, 1, sharex=True, height_ratios=(1.1, 2, 1.3))
    decided = [decision for decision in watched.decisions if decision.score is not None]
    scores = [d.score or 0.0 for d in decided]
    axes.plot([d.time_s for d in decided], scores, ".-", lw=1, color="tab:blue", label="score")
    if decided:
        axes.axhline(decided[0].threshold, color="tab:red", ls="--", lw=1, label="threshold")
    for number, event in enumerate(owed_remarks(scene, fps)):
        axes.axvline(event.time_s, color="tab:green", lw=1, label="event" if not number else None)
        words = " ".join(value for value in event.slots.values() if value and value not in ("shape", "view"))
        above.text(event.time_s, 0.02, words, rotation=90, ha="center", va="bottom", fontsize=7, color="tab:green")
    for number, comment in enumerate(watched.comments):
        label = "remark" if not number else None
        axes.plot(comment.time_s, comment.score or 0.0, "v", color="tab:orange", ms=8, label=label)
        below.text(comment.time_s, 0.98, comment.text, rotation=90, ha="center", va="top", fontsize=7)
    for empty, title in ((above, f"scene {scene.seed}: what happened"), (below, None)):
        empty.set(ylim=(0, 1), title=title)
        empty.set_axis_off()
    axes.set(xlabel="media time (s); below it, what was said", ylabel="log-odds of speaking")
    axes.tick_params(labelbottom=True)
    axes.legend(loc="upper left", fontsize=7)
    figure.savefig(path, dpi=100)
