"""What rules are true of a rendered scene, and when. Pure; any thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from assistant.rules.wording import SIDES
from models.groundtruth.moment import SceneMoment
from models.groundtruth.remarks import SIDE_PHRASES, a
from streaming.scenes.scenario import Family
from streaming.scenes.scenery import COLOURS, SHAPES
from streaming.scenes.source import Scene
from streaming.scenes.state import ThingState

Truth = Callable[[SceneMoment], bool | None]
"""Whether a rule holds at a moment; None where that is not certain, as while a thing enters."""


@dataclass(frozen=True, slots=True)
class TrueRule:
    """A rule in words, its kind, and its truth at each moment."""

    kind: str
    words: str
    truth: Truth


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of frames at which a rule holds."""

    start_s: float
    end_s: float
    is_new: bool
    """Whether the rule did not hold when that was last certain; else it may have held all the time."""
    may_begin_s: float
    """The frame after the last one at which it certainly did not hold."""


def rules_for(scene: Scene, times: Sequence[float]) -> list[TrueRule]:
    """Rules of every kind for a scene, half of them about things that it shows, half about others."""
    rng = np.random.default_rng([scene.seed, 23])
    shown = sorted({look for time_s in times for look in _looks(scene, time_s)})
    pairs = list(product(COLOURS, SHAPES))
    absent = [pair for pair in pairs if pair not in shown]
    present = [shown[int(rng.integers(len(shown)))]] if shown else []
    others = [absent[int(rng.integers(len(absent)))]]
    rules = [TrueRule("anything", "anything in view", _anything), TrueRule("moving", "anything moves", _moving)]
    if Family.VIEW in scene.settings.families:
        rules += [
            TrueRule("covered", "the view is covered", lambda moment: _of_view(moment, moment.state.covered)),
            TrueRule("blurred", "the view is blurred", _blurred),
        ]
    if Family.LIGHT in scene.settings.families:
        rules.append(TrueRule("dark", "it is dark", _dark))
    for colour, shape in present + others:
        rules += [
            TrueRule("thing", a(f"{colour} {shape}"), _there(colour, shape)),
            TrueRule("colour", f"{a(colour)} shape", _there(colour, None)),
            TrueRule("shape", a(shape), _there(None, shape)),
        ]
    for colour, shape in present:
        rules += [
            TrueRule("side", f"{a(f'{colour} {shape}')} {SIDE_PHRASES[side]}", _placed(colour, shape, side))
            for side in (SIDES[int(place)] for place in rng.choice(3, 2, replace=False))
        ]
    return rules


def intervals(scene: Scene, rule: TrueRule, times: Sequence[float]) -> tuple[list[Interval], list[bool | None]]:
    """When a rule holds, and its truth at each time."""
    rng = np.random.default_rng(0)
    truths = [rule.truth(SceneMoment(scene, time_s, rng)) for time_s in times]
    return held_intervals(times, truths), truths


def held_intervals(times: Sequence[float], truths: Sequence[bool | None]) -> list[Interval]:
    """The stretches of time at which a rule holds, from its truth at each time; None where it is not certain."""
    found: list[Interval] = []
    known: bool | None = None
    may_begin_s = times[0] if len(times) else 0.0
    for index, (time_s, holds) in enumerate(zip(times, truths, strict=True)):
        if holds and index and truths[index - 1]:
            found[-1] = replace(found[-1], end_s=time_s)
        elif holds:
            found.append(Interval(time_s, time_s, is_new=not known, may_begin_s=min(may_begin_s, time_s)))
        known = known if holds is None else holds
        if holds is not None:
            may_begin_s = times[min(index + 1, len(times) - 1)]
    return found


def _looks(scene: Scene, time_s: float) -> set[tuple[str, str]]:
    return {(thing.colour, thing.shape) for thing in scene.state(time_s).things if thing.colour and thing.shape}


def _there(colour: str | None, shape: str | None) -> Truth:
    def truth(moment: SceneMoment) -> bool | None:
        return any(_is(thing, colour, shape) for thing in moment.things) if moment.certain else None

    return truth


def _is(thing: ThingState, colour: str | None, shape: str | None) -> bool:
    return thing.shape is not None and colour in (None, thing.colour) and shape in (None, thing.shape)


def _placed(colour: str, shape: str, side: str) -> Truth:
    def truth(moment: SceneMoment) -> bool | None:
        same = [thing for thing in moment.things if _is(thing, colour, shape)]
        if not moment.certain or any(thing.moving or not thing.side_sure for thing in same):
            return None
        return any(thing.side == side for thing in same)

    return truth


def _anything(moment: SceneMoment) -> bool | None:
    return bool(moment.things) if moment.certain else None


def _moving(moment: SceneMoment) -> bool | None:
    return any(thing.moving for thing in moment.things) if moment.certain else None


def _of_view(moment: SceneMoment, holds: bool) -> bool | None:
    return holds if moment.past_certain else None


def _dark(moment: SceneMoment) -> bool | None:
    return None if moment.state.covered else _of_view(moment, moment.state.dark)


def _blurred(moment: SceneMoment) -> bool | None:
    return None if moment.state.covered or moment.state.dark else _of_view(moment, moment.state.blurred)
