"""What `evaluate` prints: the scores of scenes and clips as plain values, as a table, and as a curve over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.errors import ConfigError
from assistant.evaluation import ClipScore, Watched, evaluate_clips, evaluate_scenes, owed_remarks
from models.training.scoring import SceneScore, summarise
from streaming.errors import StreamingError
from streaming.sources.scenario import Family, SceneSettings

if TYPE_CHECKING:
    from models.engine import Engine
    from streaming.sources.synthetic import Scene

_ROWS = (
    ("f1", "F1 within ±1 s", True),
    ("precision", "precision", True),
    ("recall", "recall", True),
    ("content", "content (slots right)", True),
    ("redundancy", "redundancy", False),
    ("false_alarms_per_hour", "remarks beside events, an hour", False),
    ("delay_median_s", "delay, median (s)", False),
    ("delay_p95_s", "delay, 95th percentile (s)", False),
)


def run_scenes(
    engine: Engine,
    seeds: str,
    families: str,
    noise: float | None,
    seconds: float,
    talkative: float,
    plot: Path | None,
    *,
    progress: bool,
) -> tuple[dict[str, Any], str]:
    """`evaluate` over scenes: plain values, and the table. Raises `ConfigError` for wrong options."""
    from tqdm import tqdm

    from streaming.sources.synthetic import Scene

    settings = scene_settings(families, noise, seconds)
    chosen = chosen_seeds(seeds)
    bar = tqdm(total=len(chosen), unit="scene", disable=not progress)

    def on_scene(seed: int, _score: SceneScore, watched: Watched) -> None:
        bar.update()
        if plot is not None and seed == chosen[0]:
            plot_decisions(plot, Scene(seed, settings), watched, settings.fps)

    scores = evaluate_scenes(engine, chosen, settings, talkativeness=talkative, on_scene=on_scene)
    bar.close()
    values = scenes_as_dict(scores)
    return values, scenes_as_table(values)


def run_clips(engine: Engine, folder: Path, talkative: float) -> tuple[dict[str, Any], str]:
    """`evaluate --clips`: plain values, and the table."""
    scores = evaluate_clips(engine, folder, talkativeness=talkative)
    return {"clips": [score.as_dict() for score in scores]}, clips_as_table(scores)


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


def chosen_seeds(text: str) -> list[int]:
    """Seeds from `A-B` or `A`. Raises `ConfigError`."""
    first, dash, last = text.partition("-")
    if not (first.isdigit() and (last.isdigit() or not dash)) or int(last or first) < int(first):
        raise ConfigError(f"--seeds {text!r}: A-B is wanted, both whole numbers and A at most B; write --seeds 0-49")
    return list(range(int(first), int(last or first) + 1))


def scenes_as_dict(scores: Sequence[SceneScore]) -> dict[str, Any]:
    """Plain JSON values; what cannot be measured is null."""
    summary = summarise(scores)
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in summary.items()}


def scenes_as_table(values: dict[str, Any]) -> str:
    """A table for the terminal, with 95 % intervals."""
    lines = [
        f"{values['scenes']} scenes, {values['hours'] * 60:.0f} minutes, "
        f"{values['owed']} events, {values['said']} remarks"
    ]
    for key, title, has_interval in _ROWS:
        value = values[key]
        shown = "–" if value is None else f"{value:.3f}"
        interval = "  [{:.3f}, {:.3f}]".format(*values[f"{key}_interval"]) if has_interval else ""
        lines.append(f"{title:<32}{shown:>8}{interval}")
    lines += [f"  {kind:<30}{found['found']:>4} of {found['owed']}" for kind, found in values["by_kind"].items()]
    return "\n".join(lines)


def clips_as_table(scores: Sequence[ClipScore]) -> str:
    """One line a clip."""
    lines = [f"{'clip':<40}{'caught':>10}{'remarks':>10}{'false alarms':>14}"]
    for score in scores:
        caught = f"{score.num_caught} of {score.num_activities}"
        lines.append(f"{score.name:<40}{caught:>10}{score.num_said:>10}{score.num_false_alarms:>14}")
    return "\n".join(lines)


def plot_decisions(path: Path, scene: Scene, watched: Watched, fps: float) -> None:
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
