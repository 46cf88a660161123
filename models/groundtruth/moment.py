"""The state of a scene at one moment, its past, and the random draws of a question about it. Used from one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

import numpy as np

from models.groundtruth.remarks import a, remark_of
from models.groundtruth.wording import NAMED_TEMPLATES, TEMPLATES, YES_NO_SUFFIX, named, timed
from streaming.scenes.scenario import EventKind, TruthEvent
from streaming.scenes.scenery import COLOURS, SHAPES
from streaming.scenes.source import Scene
from streaming.scenes.state import SceneState, ThingState

Look = tuple[str, str]
"""A colour and a shape."""
Pair = tuple[str, str]
"""A question and its answer."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A period in which a thing of one colour and shape was in view."""

    colour: str | None
    """`None` for textured things."""
    shape: str | None
    start_s: float
    end_s: float | None
    """`None` while the thing is still in view."""
    entered: bool
    """Whether the thing came in over an edge, and was not there from the beginning or changed to this colour."""
    word: str | None = None
    """The name of a real thing, where it has one."""

    @property
    def look(self) -> tuple[str | None, str | None]:
        """Colour and shape."""
        return self.colour, self.shape

    @property
    def name(self) -> str:
        """The thing's name: "a red circle", "a person", "something"."""
        return named(self.colour, self.shape, self.word)


def sightings(scene: Scene, t_s: float) -> list[Sighting]:
    """Every sighting up to a time, ordered by its beginning."""
    found: list[Sighting] = []
    for thing in scene.scenario.things:
        events = [event for event in scene.truth if event.thing_id == thing.thing_id]
        enter = next((event for event in events if event.kind is EventKind.ENTERS), None)
        leave = next((event for event in events if event.kind is EventKind.LEAVES), None)
        start, entered = (enter.visible_s, True) if enter else (thing.born_s, False)
        gone = leave.visible_s if leave else thing.gone_s
        colour = thing.colour
        for change in (event for event in events if event.kind is EventKind.CHANGES_COLOUR):
            found.append(_sighting(colour, thing.shape, (start, change.visible_s, t_s), entered))
            colour, start, entered = change.new_colour, change.visible_s, False
        last = _sighting(colour, thing.shape, (start, gone, t_s), entered)
        found.append(replace(last, word=thing.name))
    return sorted((sighting for sighting in found if sighting.start_s <= t_s), key=lambda sighting: sighting.start_s)


def _sighting(colour: str | None, shape: str | None, times_s: tuple[float, float, float], entered: bool) -> Sighting:
    start_s, end_s, now_s = times_s
    return Sighting(colour, shape, start_s, end_s if end_s <= now_s else None, entered)


class SceneMoment:
    """One moment of a scene, with the random generator of the question about it."""

    def __init__(
        self,
        scene: Scene,
        t_s: float,
        rng: np.random.Generator,
        shown_time: Callable[[float], float] = float,
        since_s: float = 0.0,
    ) -> None:
        self.t_s, self.rng, self.shown_time, self.since_s = t_s, rng, shown_time, since_s
        self.families = scene.settings.families
        """Families of events that can happen in the scene; questions are about these only."""
        self.state: SceneState = scene.state(t_s)
        gain = scene.scenario.gain.at(t_s)
        clear = not (self.state.covered or self.state.blurred or self.state.camera_moving) and 0.4 <= gain <= 1.3
        self.things: list[ThingState] = [thing for thing in self.state.things if thing.share_in > 0.5]
        self.shapes = [thing for thing in self.things if thing.shape is not None]
        self.certain = clear and self.state.settled
        """Whether it is certain what is in view."""
        settle_s = 1.0 / scene.settings.fps + 0.1
        self.past_certain = all(not e.time_s - 0.2 <= t_s < e.visible_s + settle_s for e in scene.truth)
        """Whether it is certain what has happened: no event is just happening."""
        self.seen = sightings(scene, t_s)
        self.events = self.state.events
        self.rests_on: tuple[float, ...] | None = None
        """Media times of the events that the answer rests on: empty for "it never was", `None` where no single events
        are meant."""
        self.look: tuple[str | None, str | None] | None = None
        """Colour and shape of the thing in view that the answer is about; each `None` where it is left open."""

    def chance(self, share: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < share)

    def one_of(self, values: Sequence[T]) -> T:
        """One of the values, each with equal probability."""
        return values[int(self.rng.integers(len(values)))]

    def speak_of(self, colour: str | None, shape: str | None) -> None:
        """Record the colour and shape, as far as known, of the thing in view that the answer is about."""
        self.look = (colour, shape)

    def rest_on(self, *times_s: float) -> None:
        """Record the media times of the events that the answer rests on."""
        self.rests_on = times_s

    def words(self, kind: str, **slots: str) -> str:
        """A question of the given kind, in one of its wordings, with the slots filled in."""
        return self.one_of(TEMPLATES.get(kind) or NAMED_TEMPLATES[kind]).format(**slots)

    def yes_no(self, question: str, truth: bool) -> Pair:
        """A yes/no question and its answer; half of the questions end with the words "Answer yes or no"."""
        return question + (YES_NO_SUFFIX if self.chance(0.5) else ""), "Yes." if truth else "No."

    def absent(self, present: set[Look]) -> Look | None:
        """A colour and a shape that do not occur together; in most cases one of the two does occur."""
        pairs = [pair for pair in product(COLOURS, SHAPES) if pair not in present]
        if present and self.chance(0.6):
            near = [p for p in pairs if any((p[0] == c) != (p[1] == s) for c, s in present)]
            pairs = near or pairs
        return self.one_of(pairs) if pairs else None

    def existence(self, kind: str, present: set[Look]) -> Pair | None:
        """A yes/no question about a colour, a shape or both; yes and no are equally probable."""
        wants_yes = self.chance(0.5)
        if not present and (wants_yes or self.chance(0.95)):
            return None
        scope = self.one_of(("both", "both", "colour", "shape"))
        if wants_yes:
            colour, shape = self.one_of(sorted(present))
        else:
            absent = self._lacking(scope, present)
            if absent is None:
                return None
            colour, shape = absent
        what = {"both": f"{colour} {shape}", "colour": f"{colour} shape", "shape": shape}[scope]
        same = [s for s in self.seen if scope == "shape" or s.colour == colour]
        same = [s for s in same if scope == "colour" or s.shape == shape]
        gone_s = [s.end_s for s in same if s.end_s is not None]
        there_s = [s.start_s for s in same if kind == "was_there" or s.end_s is None]
        self.rest_on(*(there_s if wants_yes else gone_s[-1:]))
        if wants_yes and kind == "is_there":
            self.speak_of(None if scope == "shape" else colour, None if scope == "colour" else shape)
        return self.yes_no(self.words(kind, a_what=a(what)), wants_yes)

    def _lacking(self, scope: str, present: set[Look]) -> Look | None:
        """A look whose colour, shape or combination of both, according to `scope`, is absent."""
        if scope == "both":
            return self.absent(present)
        index, names = (0, list(COLOURS)) if scope == "colour" else (1, list(SHAPES))
        free = [name for name in names if name not in {look[index] for look in present}]
        if not free:
            return None
        name = self.one_of(free)
        return (name, SHAPES[0]) if scope == "colour" else ("red", name)

    def second(self, t_s: float) -> int:
        """A time of the scene in whole seconds of the stream, rounded down."""
        return int(np.floor(self.shown_time(t_s) + 1e-6))

    def told_at(self, *events: TruthEvent) -> str:
        """An answer that lists events with their times: the remark on each event, and when the event became visible.

        The remark is repeated before its time because that makes the time easy to find by attention: each word leads to
        the next.
        """
        return " ".join(timed(remark_of(event).text, self.second(event.visible_s)) for event in events)

    def event_at(self, t_s: float | None, look: tuple[str | None, str | None]) -> TruthEvent | None:
        """The event of a thing with this look that became visible at exactly this time."""
        return next((e for e in self.events if e.visible_s == t_s and (e.colour, e.shape) == look), None)

    def seen_looks(self) -> set[Look]:
        """All combinations of colour and shape seen so far."""
        return {(s.colour, s.shape) for s in self.seen if s.colour is not None and s.shape is not None}
