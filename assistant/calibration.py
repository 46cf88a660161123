"""Calibrates a checkpoint's decision to speak on streams conditioned on its own words, and shows how well it holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.evaluation import decision_labels, scene_pictures, watch
from models.settings import STREAM_CONFIG_NAME
from models.training.calibrate import Platt, Reliability, fit_platt, reliability
from streaming.sources.scenario import SceneSettings
from streaming.sources.synthetic import Scene

if TYPE_CHECKING:
    from models.engine import Engine


def calibrate(engine: Engine, seeds: Sequence[int], settings: SceneSettings) -> tuple[Platt, list[Reliability]]:
    """Watch scenes and fit the scale and shift of the score to when remarks were owed."""
    scores: list[float] = []
    owed: list[bool] = []
    for seed in seeds:
        scene = Scene(seed, settings)
        watched = watch(engine, scene_pictures(scene, settings.fps), fps=settings.fps)
        found = decision_labels(scene, watched, settings.fps)
        scores += found[0]
        owed += found[1]
    platt = fit_platt(scores, owed)
    return platt, reliability(scores, owed, platt)


def write_calibration(folder: Path, platt: Platt) -> None:
    """Put a calibration into a checkpoint folder's stream settings."""
    from models.settings import StreamSettings

    settings = StreamSettings.of_checkpoint(folder)
    speaking = replace(settings.speaking, platt_scale=round(platt.scale, 4), platt_shift=round(platt.shift, 4))
    values = replace(settings, speaking=speaking).to_dict()
    (folder / STREAM_CONFIG_NAME).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def reliability_as_table(curve: Sequence[Reliability]) -> str:
    """Predicted against observed, classes weighing the same."""
    lines = [f"{'predicted':>10}{'observed':>10}{'decisions':>11}"]
    lines += [f"{bin_.predicted:>10.2f}{bin_.observed:>10.2f}{bin_.count:>11}" for bin_ in curve]
    return "\n".join(lines)
