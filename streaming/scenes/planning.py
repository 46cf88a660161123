"""Plans a synthetic scene from a seed: when things enter, move and leave, and how light and view change.

It plans forward in time. Events keep a minimum distance, things do not overlap, and nothing else happens while the view
is covered, blurred, very dark or shaken, so that every event is visible and distinct.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streaming.scenes import acts, effects
from streaming.scenes.scenario import Family, Scenario, SceneSettings, Trajectory
from streaming.scenes.scenery import DETAILED
from streaming.scenes.stage import SceneStage

Act = Callable[[SceneStage, float], float | None]
"""Adds an act that begins at a time to the stage, and returns its end; None if it does not fit."""

_TRIES = 8
_FAMILY_ODDS = {Family.SHAPES: 3.0, Family.MOTION: 3.0, Family.LIGHT: 1.2, Family.VIEW: 2.0}


def plan(seed: int, settings: SceneSettings) -> Scenario:
    """The scenario of the scene with this seed and these settings."""
    stage = SceneStage(seed, settings)
    stage.new_shot(0.0)
    if not stage.still:
        t = float(stage.rng.uniform(0.8, 5.0))
        while t < stage.end_s:
            t = _advance(stage, t)
    return Scenario(
        seed=seed,
        width_px=stage.width,
        height_px=stage.height,
        duration_s=settings.duration_s,
        shots=tuple(stage.shots),
        things=tuple(actor.finished(settings.duration_s) for actor in stage.actors),
        covers=tuple(stage.covers),
        gain=effects.ramp_of(stage.gain),
        blur_px=effects.ramp_of(stage.blur),
        camera=Trajectory(
            np.array([time_s for time_s, _, _ in stage.camera_knots]),
            np.array([(x, y) for _, x, y in stage.camera_knots]),
        ),
        camera_moves=tuple(stage.camera_moves),
        sensor=effects.sensor(stage.rng, settings),
        truth=tuple(sorted(stage.events, key=lambda event: event.time_s)),
        scale=stage.scale,
    )


def _advance(stage: SceneStage, t: float) -> float:
    """Add a random act at `t` if one fits, and return the next time to try."""
    rng = stage.rng
    options = _options(stage, t)
    if not options:
        return t + 0.5
    families = sorted({family for family, _, _ in options})
    odds = np.array([_FAMILY_ODDS[family] for family in families])
    chosen = families[int(rng.choice(len(families), p=odds / odds.sum()))]
    pool = [(act, weight) for family, act, weight in options if family == chosen]
    odds = np.array([weight for _, weight in pool])
    act = pool[int(rng.choice(len(pool), p=odds / odds.sum()))][0]
    for _ in range(_TRIES):
        end_s = act(stage, t)
        if end_s is not None:
            return _next_try(stage, t, end_s)
    return t + 0.4


def _next_try(stage: SceneStage, t: float, end_s: float) -> float:
    """The time of the next act: soon, after this one, or after several still seconds."""
    draw, pace, rng = stage.rng.random(), stage.settings.pace, stage.rng
    if draw < 0.4:
        following = t + rng.uniform(1.3, 3.0) / pace
    elif draw < 0.82:
        following = end_s + rng.uniform(0.5, 4.0) / pace
    else:
        following = end_s + rng.uniform(4.0, 15.0) / pace
    return float(max(following, stage.free_from_s + 0.4))


def _options(stage: SceneStage, t: float) -> list[tuple[Family, Act, float]]:
    """The acts that are possible at `t`, each with its family and its weight within the family."""
    alive = stage.alive(t)
    idle = [actor for actor in alive if actor.busy_until_s <= t - 0.3]
    room = len(alive) < stage.settings.max_things + (stage.rng.random() < 0.05)
    lit = stage.gain[-1][1] == 1.0
    options: list[tuple[Family, Act, float]] = []
    if Family.SHAPES in stage.theme:
        if room:
            options += [(Family.SHAPES, acts.shape_enters, 3.0), (Family.SHAPES, acts.shape_crosses, 1.0)]
        if any(actor.colour is not None for actor in idle):
            options += [(Family.SHAPES, acts.shape_moves, 2.0), (Family.SHAPES, acts.shape_leaves, 1.5)]
            options += [(Family.SHAPES, acts.shape_turns, 1.3)]
    if Family.MOTION in stage.theme:
        if room and all(actor.colour is not None for actor in alive):
            options += [(Family.MOTION, acts.body_enters, 2.0), (Family.MOTION, acts.body_crosses, 1.5)]
            options += [(Family.MOTION, acts.arm_reaches, 2.0)]
        if any(actor.colour is None for actor in idle):
            options += [(Family.MOTION, acts.body_moves, 1.5), (Family.MOTION, acts.body_sways, 1.5)]
            options += [(Family.MOTION, acts.body_leaves, 1.5)]
    if Family.LIGHT in stage.theme:
        options += [(Family.LIGHT, effects.light_changes if lit else effects.light_returns, 1.0)]
    if Family.VIEW in stage.theme and lit and len(idle) == len(alive):
        options += [(Family.VIEW, effects.covered, 1.2), (Family.VIEW, effects.cut, 0.8)]
        if stage.shots[-1].ground.kind in DETAILED:
            options += [(Family.VIEW, effects.blurred, 0.9), (Family.VIEW, effects.camera_moves_away, 0.9)]
    factor = stage.settings.odds.get
    options = [(family, act, weight * factor(act.__name__, 1.0)) for family, act, weight in options]
    return [option for option in options if option[2] > 0]
