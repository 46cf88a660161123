"""The state of a synthetic scene while it is planned, and the checks that a new act must pass. For one thread."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from streaming.scenes.casting import (
    EDGES,
    INWARD,
    OUTWARD,
    Actor,
    Leg,
    cast_cutout,
    cast_shape,
    cast_textured,
    crossing_s,
)
from streaming.scenes.scenario import Cover, EventKind, Family, Motion, SceneSettings, Shot, TruthEvent, share_inside
from streaming.scenes.scenery import (
    DETAILED,
    SHAPES,
    Ground,
    choose_ground,
    ground_margin_px,
    paint_ground,
    seen_colours,
)
from streaming.scenes.state import third, third_is_sure

SPACING_S = 1.25
"""Least time between two events, and between the times from which they are visible."""
_TAIL_S = 0.7
"""No act begins in this last part of a scene, as a remark about it would come too late."""


def _unlike(kind: Ground) -> set[Ground]:
    """Kinds of ground that a cut from `kind` must not lead to; a cut between two photographs is allowed."""
    return {Ground.FLAT, kind} - {Ground.PHOTO}


class SceneStage:
    """All acts planned so far, and the checks that a new one must pass.

    An act adds itself through `commit` or `while_waiting`, or leaves the stage unchanged.
    """

    def __init__(self, seed: int, settings: SceneSettings) -> None:
        self.seed, self.settings = seed, settings
        self.rng = rng = np.random.default_rng([seed, 0x5CE7E])
        self.width, self.height = settings.view_sizes[int(rng.integers(len(settings.view_sizes)))]
        self.scale = float(np.sqrt(self.width * self.height / (224 * 140)))
        self.limit_px = 0.46 * min(self.width, self.height)
        self.end_s = settings.duration_s - _TAIL_S
        theme = [family for family in sorted(settings.families) if rng.random() < 0.65]
        self.theme = theme or [sorted(settings.families)[int(rng.integers(len(settings.families)))]]
        self.still = rng.random() < settings.still_probability
        self.actors: list[Actor] = []
        self.events: list[TruthEvent] = []
        self.shots: list[Shot] = []
        self.covers: list[Cover] = []
        self.gain: list[tuple[float, float]] = [(0.0, 1.0)]
        self.blur: list[tuple[float, float]] = [(0.0, 0.0)]
        self.camera = np.zeros(2)
        """The camera's present offset, pixels."""
        self.camera_knots: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)]
        self.camera_moves: list[Motion] = []
        self._painted: tuple[int, np.ndarray] | None = None
        self.free_from_s = 0.0
        """End of the last period in which nothing else may happen."""

    def ground_picture(self, camera: np.ndarray) -> np.ndarray:
        """The present ground seen by a camera at an offset: float32 `[height, width, 3]`."""
        margin = ground_margin_px(self.scale)
        if self._painted is None or self._painted[0] != len(self.shots):
            spec = self.shots[-1].ground
            picture = paint_ground(spec, self.height + 2 * margin, self.width + 2 * margin)
            self._painted = (len(self.shots), picture)
        left, top = (int(round(margin + offset)) for offset in camera)
        return self._painted[1][top : top + self.height, left : left + self.width]

    def alive(self, t: float) -> list[Actor]:
        """The actors that are present at a time, as planned so far."""
        return [actor for actor in self.actors if actor.gone_s > t]

    def new_shot(self, t: float) -> None:
        """Start a shot: a ground unlike the last one, with some shapes at rest on it."""
        kinds = self.settings.grounds
        if self.shots and len(kinds) > 1:
            kinds = tuple(kind for kind in kinds if kind not in _unlike(self.shots[-1].ground.kind)) or kinds
        wants_detail = {Family.VIEW} & set(self.theme) and self.rng.random() < 0.8
        if wants_detail and DETAILED & set(kinds):
            kinds = tuple(kind for kind in kinds if kind in DETAILED)
        for _ in range(50):
            colours = frozenset(colour for colour, _ in self.settings.cast)
            ground = choose_ground(self.rng, kinds, self.scale, colours, self.settings.photographs)
            if not self.shots:
                break
            step = np.subtract(ground.palette[0], self.shots[-1].ground.palette[0])
            if float(np.linalg.norm(step)) > 50 and ground.luma > 60:
                break
        self.shots.append(Shot(t, ground))
        if Family.SHAPES in self.theme or (self.still and Family.SHAPES in self.settings.families):
            drawn = int(self.rng.choice(4, p=[0.5, 0.25, 0.17, 0.08]))
            wanted = drawn if self.settings.opening is None or t > 0 else self.settings.opening
            for _ in range(wanted if self.settings.opening is None else 40 * wanted):
                if len(self.alive(t)) < wanted:
                    self.place_shape(t)

    def place_shape(self, t: float) -> None:
        """Add a shape at rest at a random place, if that place is free."""
        if len(self.alive(t)) >= self.settings.max_things:
            return
        actor = self.new_shape(t)
        target = self.target(actor)
        if actor is None or target is None:
            return
        leg = Leg(np.array([t]), target[None])
        if self.clear(actor, leg):
            actor.born_s = t
            actor.follow(leg)
            self.actors.append(actor)

    def new_shape(self, t: float) -> Actor | None:
        """A shape that contrasts with the ground and looks unlike all in view; None if there is none."""
        taken = {(actor.colour_at_end() or "", actor.outline.form) for actor in self.alive(t)}
        taken |= {(actor.colour or "", actor.outline.form) for actor in self.alive(t)}
        colours = seen_colours(self.shots[-1].ground)
        cast = self.settings.cast or tuple(product(colours, SHAPES))
        free = [look for look in cast if look not in taken and look[0] in colours]
        akin = [look for look in free if any((look[0] == c) != (look[1] == s) for c, s in taken)]
        if akin and self.rng.random() < 0.3:
            free = akin
        if not free:
            return None
        look = free[int(self.rng.integers(len(free)))]
        return cast_shape(self.rng, len(self.actors), look, self.scale, self.limit_px)

    def new_body(self) -> Actor:
        """A textured thing or a cut-out; it is smaller while shapes are in view."""
        ground = self.shots[-1].ground.palette
        crowded = any(actor.colour is not None and actor.gone_s > 1e9 for actor in self.actors)
        limit = (0.55 if crowded else 0.9) * min(self.width, self.height)
        settings = self.settings
        if settings.cutouts and self.rng.random() < settings.cutout_share:
            return cast_cutout(self.rng, len(self.actors), self.scale, limit, settings.cutouts)
        return cast_textured(self.rng, len(self.actors), self.scale, limit, ground)

    def target(self, actor: Actor | None) -> np.ndarray | None:
        """A random place, in world pixels, at which the actor is wholly in view and clearly within one third.

        None if the drawn place does not qualify.
        """
        if actor is None:
            return None
        low, high, margin = actor.low, actor.high, 2.0 * self.scale
        span = self.width / 3
        drawn = int(self.rng.integers(3)) * span + self.rng.uniform(0.15, 0.85) * span
        x = float(np.clip(drawn, margin - low[0], self.width - margin - high[0]))
        if not third_is_sure(x, self.width, 0.04):
            return None
        bottom = self.height - margin - high[1]
        if actor.outline.form == "person":
            bottom += 0.35 * actor.size_px
        top = margin - low[1]
        if bottom <= top:
            return None
        return np.array([x, self.rng.uniform(top, bottom)]) + self.camera

    def beyond(self, actor: Actor, edge: str, other: np.ndarray) -> np.ndarray:
        """A place just outside an edge, roughly level with the world position `other`."""
        view = other - self.camera
        slant = self.rng.uniform(-0.3, 0.3)
        low, high = actor.low, actor.high
        if edge in ("left", "right"):
            x = -high[0] if edge == "left" else self.width - low[0]
            y = float(view[1])
            if high[1] - low[1] < self.height:
                y = float(np.clip(y + slant * abs(view[0] - x), -low[1], self.height - high[1]))
            return np.array([x, y]) + self.camera
        y = -high[1] if edge == "top" else self.height - low[1]
        x = np.clip(view[0] + slant * abs(view[1] - y), -low[0], self.width - high[0])
        return np.array([x, y]) + self.camera

    def edge(self, upright: bool = False) -> str:
        """A random edge; never the top one for upright things."""
        odds = [0.36, 0.36, 0.0, 0.28] if upright else [0.33, 0.33, 0.17, 0.17]
        return EDGES[int(self.rng.choice(4, p=odds))]

    def speed(self, actor: Actor, edge: str, seconds: tuple[float, float] = (0.5, 1.4)) -> float:
        """A random speed, in pixels a second, at which the actor is wholly in view within the range `seconds`."""
        extent = actor.high - actor.low
        return float(extent[0 if edge in ("left", "right") else 1]) / self.rng.uniform(*seconds)

    def fits(self, events: list[TruthEvent]) -> bool:
        """Whether events keep `SPACING_S` from each other and from all others, and end early enough for a remark."""
        longest_s = max(0.5, 1.05 / self.settings.fps)
        for index, event in enumerate(events):
            if event.visible_s > self.end_s + 0.1 or event.visible_s - event.time_s > longest_s:
                return False
            for other in self.events + events[:index]:
                if min(abs(event.time_s - other.time_s), abs(event.visible_s - other.visible_s)) < SPACING_S:
                    return False
        return True

    def clear(self, actor: Actor, leg: Leg) -> bool:
        """Whether the actor never overlaps another one on this leg and at rest at its end."""
        others = [other for other in self.actors if other is not actor and other.gone_s > leg.times_s[0]]
        for other in others:
            last = max(float(leg.times_s[-1]), min(other.busy_until_s, other.gone_s))
            times = np.arange(float(leg.times_s[0]), last + 0.1, 0.1)
            mine = np.stack([np.interp(times, leg.times_s, leg.points[:, axis]) for axis in (0, 1)], axis=1)
            gap = mine - other.place_at(times)
            apart = (
                (gap + actor.low > other.high + 2).any(axis=1)
                | (gap + actor.high < other.low - 2).any(axis=1)
                | (times > other.gone_s)
            )
            if not apart.all():
                return False
        return True

    def side_at(self, actor: Actor, place: np.ndarray) -> tuple[str, bool]:
        """The third of the view in which the visible part of the actor lies, and whether that is clear."""
        view = place - self.camera
        points = actor.points + view
        seen = points[((points >= 0) & (points < (self.width, self.height))).all(axis=1)]
        x = float(seen[:, 0].mean()) if len(seen) else float(view[0])
        return third(x, self.width, ("left", "centre", "right")), third_is_sure(x, self.width)

    def still_in_view(self, t: float, goal: np.ndarray) -> bool:
        """Whether every thing stays wholly in view, clearly within a third, with the camera at `goal`."""
        for actor in self.alive(t):
            view = np.asarray(actor.places[-1]) - goal
            share = share_inside(actor.points, view[:1], view[1:], self.width, self.height)[0]
            if actor.edge or share < 0.99 * actor.full_share or not third_is_sure(view[0], self.width):
                return False
        return True

    def entering(self, actor: Actor, leg: Leg, edge: str, full: float) -> TruthEvent:
        """The event of an actor that enters on a leg; `full`: its share in view at the end."""
        shares = leg.shares(actor, self.width, self.height, self.camera) / full
        times = (crossing_s(leg.times_s, shares, 0.25), crossing_s(leg.times_s, shares, 0.6))
        return actor.event(EventKind.ENTERS, times, edge, INWARD[edge])

    def leaving(self, actor: Actor, leg: Leg, edge: str, full: float) -> TruthEvent:
        """The event of an actor that leaves on a leg; `full`: its share in view before."""
        shares = leg.shares(actor, self.width, self.height, self.camera) / full
        inside = int(np.argmax(shares >= 0.98)) if (shares >= 0.98).any() else 0
        gone = 1 - shares[inside:]
        times = (crossing_s(leg.times_s[inside:], gone, 0.25), crossing_s(leg.times_s[inside:], gone, 0.6))
        return actor.event(EventKind.LEAVES, times, edge, OUTWARD[edge])

    def stopping(self, actor: Actor, leg: Leg) -> TruthEvent | None:
        """The event of an actor that stops at a leg's end; None if it is not clearly within a third."""
        away = np.hypot(*(leg.points - leg.points[-1]).T)
        time_s = float(leg.times_s[int(np.flatnonzero(away > self.scale)[-1]) + 1])
        side, sure = self.side_at(actor, leg.points[-1])
        if not sure:
            return None
        return actor.event(EventKind.STOPS, (time_s, time_s + max(0.3, 1.0 / self.settings.fps)), side)

    def starting(self, actor: Actor, leg: Leg, direction: str | None) -> TruthEvent | None:
        """The event of an actor that starts to move; None if it is not clearly within a third."""
        away = np.hypot(*(leg.points - leg.points[0]).T) / self.scale
        side, sure = self.side_at(actor, leg.points[0])
        if not sure:
            return None
        times = (crossing_s(leg.times_s, away, 2.0), crossing_s(leg.times_s, away, 6.0))
        return actor.event(EventKind.STARTS, times, side, direction)

    def commit(self, actor: Actor, leg: Leg, events: list[TruthEvent | None], direction: str | None) -> float | None:
        """Add a leg and its events if they fit, and return the leg's end; None if they do not."""
        known = [event for event in events if event is not None]
        if len(known) < len(events) or not self.fits(known) or not self.clear(actor, leg):
            return None
        if not actor.times_s:
            actor.born_s = float(leg.times_s[0])
            self.actors.append(actor)
        actor.follow(leg)
        actor.motions.append(Motion(float(leg.times_s[0]), float(leg.times_s[-1]), direction))
        self.events.extend(known)
        if any(event.kind is EventKind.LEAVES for event in known):
            actor.gone_s = float(leg.times_s[-1])
        return float(leg.times_s[-1])

    def while_waiting(self, end_s: float, events: list[TruthEvent], apply: Callable[[], object]) -> float | None:
        """Add an effect by calling `apply`; nothing else happens until `end_s`. Returns `end_s`; None if it cannot."""
        if not self.fits(events):
            return None
        self.events.extend(events)
        apply()
        self.free_from_s = end_s
        return end_s
