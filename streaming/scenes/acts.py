"""Acts of things in a synthetic scene. An act adds itself to the stage and returns its end; None if it does not fit."""

from __future__ import annotations

import numpy as np

from streaming.scenes.casting import INWARD, OUTWARD, Actor, Leg, cast_arm, jittered, straight, sway
from streaming.scenes.scenario import ColourChange, EventKind, TruthEvent
from streaming.scenes.scenery import seen_colours
from streaming.scenes.stage import SceneStage


def _comes_in(stage: SceneStage, t: float, actor: Actor | None) -> float | None:
    """The actor enters over an edge and stops."""
    target = stage.target(actor)
    if actor is None or target is None:
        return None
    edge = stage.edge(actor.is_upright)
    leg = straight(stage.beyond(actor, edge, target), target, stage.speed(actor, edge), t, 0.0, 0.25)
    full = float(leg.shares(actor, stage.width, stage.height, stage.camera)[-1])
    if full < 0.6:
        return None
    actor.full_share = full
    return stage.commit(actor, leg, [stage.entering(actor, leg, edge, full), stage.stopping(actor, leg)], INWARD[edge])


def _goes_through(stage: SceneStage, t: float, actor: Actor | None) -> float | None:
    """The actor enters over one edge and leaves over another."""
    middle = stage.target(actor)
    if actor is None or middle is None:
        return None
    edge = stage.edge(actor.is_upright)
    far = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[edge]
    if far == "top" and actor.is_upright:
        far = ("left", "right")[int(stage.rng.integers(2))]
    start, end = stage.beyond(actor, edge, middle), stage.beyond(actor, far, middle)
    leg = straight(start, end, stage.speed(actor, edge), t, 0.0, 0.0)
    full = float(leg.shares(actor, stage.width, stage.height, stage.camera).max())
    if full < 0.6:
        return None
    actor.full_share = full
    events = [stage.entering(actor, leg, edge, full), stage.leaving(actor, leg, far, full)]
    return stage.commit(actor, leg, list(events), INWARD[edge])


def _moves_on(stage: SceneStage, t: float, actor: Actor) -> float | None:
    """The actor moves from its place to another one, mainly along one axis."""
    here, target = np.asarray(actor.places[-1]), stage.target(actor)
    if target is None:
        return None
    if stage.settings.upright_share and stage.rng.random() < stage.settings.upright_share:
        target[0] = here[0] + stage.rng.uniform(-0.3, 0.3) * abs(target[1] - here[1])
    step = target - here
    wide, narrow = max(abs(step)), min(abs(step))
    if wide < 34 * stage.scale or narrow > 0.5 * wide:
        return None
    along_x = abs(step[0]) > abs(step[1])
    direction = ("right" if step[0] > 0 else "left") if along_x else ("down" if step[1] > 0 else "up")
    leg = straight(here, target, stage.speed(actor, "left"), t, 0.2, 0.25)
    if abs(float(leg.shares(actor, stage.width, stage.height, stage.camera)[-1]) - actor.full_share) > 0.02:
        return None
    return stage.commit(actor, leg, [stage.starting(actor, leg, direction), stage.stopping(actor, leg)], direction)


def _goes_out(stage: SceneStage, t: float, actor: Actor) -> float | None:
    """The actor starts moving and leaves the view."""
    here = np.asarray(actor.places[-1])
    edge = stage.edge(actor.is_upright)
    leg = straight(here, stage.beyond(actor, edge, here), stage.speed(actor, edge), t, 0.2, 0.0)
    events = [stage.starting(actor, leg, OUTWARD[edge]), stage.leaving(actor, leg, edge, actor.full_share)]
    return stage.commit(actor, leg, events, OUTWARD[edge])


def _idle(stage: SceneStage, t: float, plain: bool) -> Actor | None:
    """A random thing at rest: a plain shape if `plain`, else a textured thing; None if there is none."""
    idle = [a for a in stage.alive(t) if a.busy_until_s <= t - 0.3 and (a.colour is not None) == plain]
    return idle[int(stage.rng.integers(len(idle)))] if idle else None


def shape_enters(stage: SceneStage, t: float) -> float | None:
    """A shape comes in and rests."""
    return _comes_in(stage, t, stage.new_shape(t))


def shape_crosses(stage: SceneStage, t: float) -> float | None:
    """A shape crosses the view."""
    return _goes_through(stage, t, stage.new_shape(t))


def shape_moves(stage: SceneStage, t: float) -> float | None:
    """A shape moves to another place."""
    actor = _idle(stage, t, plain=True)
    return _moves_on(stage, t, actor) if actor else None


def shape_leaves(stage: SceneStage, t: float) -> float | None:
    """A shape leaves the view."""
    actor = _idle(stage, t, plain=True)
    return _goes_out(stage, t, actor) if actor else None


def shape_turns(stage: SceneStage, t: float) -> float | None:
    """A shape at rest changes its colour."""
    actor = _idle(stage, t, plain=True)
    if actor is None:
        return None
    taken = {other.colour_at_end() for other in stage.alive(t) if other.outline.form == actor.outline.form}
    names = [name for name in seen_colours(stage.shots[-1].ground) if name not in taken]
    if not names:
        return None
    name, length = names[int(stage.rng.integers(len(names)))], float(stage.rng.uniform(0.05, 0.5))
    event = TruthEvent(
        EventKind.CHANGES_COLOUR, t + 0.25 * length, t + 0.85 * length, actor.thing_id, actor.colour_at_end(),
        actor.outline.form, stage.side_at(actor, np.asarray(actor.places[-1]))[0], None, name,
    )  # fmt: skip
    if not stage.fits([event]):
        return None
    actor.changes.append(ColourChange(t, t + length, name, jittered(stage.rng, name)))
    actor.busy_until_s = t + length
    stage.events.append(event)
    return t + length


def body_enters(stage: SceneStage, t: float) -> float | None:
    """A textured thing enters and stops."""
    return _comes_in(stage, t, stage.new_body())


def body_crosses(stage: SceneStage, t: float) -> float | None:
    """A textured thing crosses the view."""
    return _goes_through(stage, t, stage.new_body())


def body_moves(stage: SceneStage, t: float) -> float | None:
    """A textured thing moves to another place."""
    actor = _idle(stage, t, plain=False)
    return _moves_on(stage, t, actor) if actor and not actor.edge else None


def body_leaves(stage: SceneStage, t: float) -> float | None:
    """A textured thing leaves the view; an arm withdraws over its own edge."""
    actor = _idle(stage, t, plain=False)
    if actor is None:
        return None
    return arm_withdraws(stage, t, actor) if actor.edge else _goes_out(stage, t, actor)


def body_sways(stage: SceneStage, t: float) -> float | None:
    """A textured thing at rest sways on the spot and stops again."""
    actor = _idle(stage, t, plain=False)
    if actor is None:
        return None
    length, amplitude = float(stage.rng.uniform(1.6, 4.0)), stage.scale * stage.rng.uniform(6, 12)
    leg = sway(stage.rng, np.asarray(actor.places[-1]), t, length, amplitude)
    return stage.commit(actor, leg, [stage.starting(actor, leg, None), stage.stopping(actor, leg)], None)


def arm_reaches(stage: SceneStage, t: float) -> float | None:
    """An arm reaches in from an edge, and either withdraws at once or stays."""
    rng = stage.rng
    ground = stage.shots[-1].ground.palette
    arm = cast_arm(rng, len(stage.actors), stage.scale, 1.1 * min(stage.width, stage.height), ground)
    start = stage.beyond(arm, arm.edge, np.array([stage.width, stage.height]) * rng.uniform(0.2, 0.8, 2) + stage.camera)
    inward = {"left": (1, 0), "right": (-1, 0), "top": (0, 1), "bottom": (0, -1)}[arm.edge]
    depth = arm.size_px * rng.uniform(0.4, 0.85)
    end = start + depth * np.asarray(inward)
    leg = straight(start, end, depth / rng.uniform(0.4, 1.0), t, 0.1, 0.15)
    arm.full_share = full = float(leg.shares(arm, stage.width, stage.height, stage.camera)[-1])
    entering = stage.entering(arm, leg, arm.edge, full)
    if rng.random() < 0.5:
        return stage.commit(arm, leg, [entering, stage.stopping(arm, leg)], INWARD[arm.edge])
    back_s = float(leg.times_s[-1]) + rng.uniform(0.3, 1.2)
    back = straight(end, start, depth / rng.uniform(0.35, 0.7), back_s, 0.1, 0.0)
    whole = Leg(np.concatenate([leg.times_s, back.times_s]), np.concatenate([leg.points, back.points]))
    return stage.commit(arm, whole, [entering, stage.leaving(arm, back, arm.edge, full)], INWARD[arm.edge])


def arm_withdraws(stage: SceneStage, t: float, arm: Actor) -> float | None:
    """An arm withdraws over its edge."""
    here = np.asarray(arm.places[-1])
    axis = 0 if arm.edge in ("left", "right") else 1
    end = here.copy()
    end[axis] = stage.beyond(arm, arm.edge, here)[axis]
    leg = straight(here, end, float(abs(end - here).max()) / stage.rng.uniform(0.35, 0.7), t, 0.1, 0.0)
    return stage.commit(arm, leg, [stage.leaving(arm, leg, arm.edge, arm.full_share)], OUTWARD[arm.edge])
