"""Calibrates a checkpoint's decision to speak on streams conditioned on its own words, and shows how well it holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.errors import AssistantError, ConfigError
from assistant.evaluation.watching import clip_pictures, decision_labels, scene_pictures, watch
from assistant.inputs.sample_clips import SAMPLES, resolve_sample
from models.checkpoint.settings import STREAM_CONFIG_NAME
from models.decision import DecisionMass, decision_mass
from models.groundtruth.calibrate import Platt, Reliability, fit_platt, reliability
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene

if TYPE_CHECKING:
    from models.engine import Engine


CLIP_S = 4.0
"""Of each packaged clip, to measure what a checkpoint expects after a frame."""


class NotTrained(AssistantError):
    """A checkpoint's decision to speak cannot be used; the message says what was measured."""


def measure(engine: Engine) -> DecisionMass:
    """Probability of speaking and of going on after frames of the packaged clips. Raises `ConfigError`."""
    fps = engine.checkpoint.stream.fps
    masses = []
    for name in SAMPLES:
        pictures = clip_pictures(Path(resolve_sample(f"sample:{name}")), fps)
        masses.append(decision_mass(engine, takewhile(lambda pair: pair[0] < CLIP_S, pictures)))
    return DecisionMass(
        live=sum(mass.live for mass in masses) / len(masses),
        training_code=sum(mass.training_code for mass in masses) / len(masses),
    )


def calibrate(engine: Engine, seeds: Sequence[int], settings: SceneSettings) -> tuple[Platt, list[Reliability], str]:
    """Watch scenes and fit the scale and shift of the score to when remarks were owed; with what was measured in words.

    Raises `NotTrained` where the decision has too little of the probability, or is no likelier at events than in quiet,
    and `ConfigError` where the scenes have no events, or no quiet, to compare.
    """
    mass = measure(engine)
    if (problem := mass.problem()) is not None:
        raise NotTrained(problem)
    scores: list[float] = []
    owed: list[bool] = []
    for seed in seeds:
        scene = Scene(seed, settings)
        watched = watch(engine, scene_pictures(scene, settings.fps), fps=settings.fps)
        found = decision_labels(scene, watched, settings.fps)
        scores += found[0]
        owed += found[1]
    if not 0 < sum(owed) < len(owed):
        given = f"{len(seeds)} scene{'s' * (len(seeds) != 1)} of {settings.duration_s:g} s"
        rule = f"a remark is due at {sum(owed)} of {len(owed)} decisions, and both kinds are compared"
        raise ConfigError(f"{given}: {rule}; give more --seeds, or more --seconds")
    platt = fit_platt(scores, owed)
    reason = f"the decision has {mass.live:.4f} of the probability after a frame{_rise(scores, owed)}"
    return platt, reliability(scores, owed, platt), reason


def _rise(scores: Sequence[float], owed: Sequence[bool]) -> str:
    """A sentence on how much higher the score is at events. Raises `NotTrained` where it is not higher."""
    at_events = [score for score, is_owed in zip(scores, owed, strict=True) if is_owed]
    in_quiet = [score for score, is_owed in zip(scores, owed, strict=True) if not is_owed]
    events, quiet = sum(at_events) / len(at_events), sum(in_quiet) / len(in_quiet)
    told = f"its score is {events:.1f} at events and {quiet:.1f} in quiet"
    if events <= quiet:
        raise NotTrained(f"{told}; it must be higher at events")
    return f", and {told}"


def write_calibration(folder: Path, platt: Platt, reason: str) -> None:
    """Write a calibration into a checkpoint folder's stream settings, by which it decides to speak. reason: why."""
    scaled = {"platt_scale": round(platt.scale, 4), "platt_shift": round(platt.shift, 4)}
    _write_speaking(folder, decision="trained", decision_reason=reason, **scaled)


def write_refusal(folder: Path, reason: str) -> NotTrained:
    """Write into a checkpoint folder's stream settings that the stand-in rule decides when to speak, and why.

    Returns the error that tells so.
    """
    _write_speaking(folder, decision="stand_in", decision_reason=reason)
    remedy = f"its {STREAM_CONFIG_NAME} now says stand_in: a simple rule decides when it speaks"
    return NotTrained(f"{folder}: {reason}; {remedy}")


def _write_speaking(folder: Path, **changes: Any) -> None:
    from models.checkpoint.settings import StreamSettings

    settings = StreamSettings.of_checkpoint(folder)
    values = replace(settings, speaking=replace(settings.speaking, **changes)).to_dict()
    path = folder / STREAM_CONFIG_NAME
    try:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        reason = f"what was measured ({values['speaking']['decision_reason']}) is written there"
        raise AssistantError(
            f"{path}: {error.strerror}; {reason}; copy the checkpoint to a folder that can be written"
        ) from error


def reliability_as_table(curve: Sequence[Reliability]) -> str:
    """Predicted against observed, classes weighing the same."""
    lines = [f"{'predicted':>10}{'observed':>10}{'decisions':>11}"]
    lines += [f"{bin_.predicted:>10.2f}{bin_.observed:>10.2f}{bin_.count:>11}" for bin_ in curve]
    return "\n".join(lines)
