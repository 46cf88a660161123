"""Actors of a synthetic scene: things with their outlines, and the paths they move along. Any thread."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from streaming.scenes.object_names import group_of
from streaming.scenes.scenario import ColourChange, EventKind, Motion, Thing, Trajectory, TruthEvent, share_inside
from streaming.scenes.scenery import COLOURS, RGB, Outline, muted_colour, outline_extent, outline_points

STEP_S = 0.04
"""Time between two knots of a path."""
Look = tuple[str, str]
"""The look of a plain shape: its colour and its form."""
EDGES = ("left", "right", "top", "bottom")
INWARD = {"left": "right", "right": "left", "top": "down", "bottom": "up"}
OUTWARD = {"left": "left", "right": "right", "top": "up", "bottom": "down"}
_GROUP_ODDS = {"people": 6.0, "vehicles": 3.0, "animals": 2.0, "things": 1.5}
"""Relative frequency of cut-outs of each group; 1 for objects without a word."""
_ARM_ANGLE = {"bottom": 0.0, "left": np.pi / 2, "top": np.pi, "right": -np.pi / 2}


@dataclass(slots=True)
class Actor:
    """A thing while the scene is still being planned; positions are world pixels (view plus camera offset)."""

    thing_id: int
    outline: Outline
    size_px: float
    colour: str | None
    rgb: RGB
    points: np.ndarray
    low: np.ndarray
    """Extent to the left and top from the centre (negative), pixels `[2]`."""
    high: np.ndarray
    """Extent to the right and bottom from the centre, pixels `[2]`."""
    seed: int
    edge: str = ""
    """The edge that an arm is attached to; empty for other things."""
    times_s: list[float] = field(default_factory=list)
    places: list[tuple[float, float]] = field(default_factory=list)
    motions: list[Motion] = field(default_factory=list)
    changes: list[ColourChange] = field(default_factory=list)
    born_s: float = 0.0
    gone_s: float = float("inf")
    busy_until_s: float = 0.0
    full_share: float = 1.0
    name: str | None = None
    """Its word of `object_names.NAMES`; None for shapes and for objects without a word."""

    @property
    def is_upright(self) -> bool:
        """Whether it stands on the ground, so that it never enters from above."""
        return self.outline.form in ("person", "cutout")

    def place_at(self, times_s: np.ndarray) -> np.ndarray:
        """World positions `[n, 2]` at times `[n]`."""
        places = np.asarray(self.places)
        return np.stack([np.interp(times_s, self.times_s, places[:, axis]) for axis in (0, 1)], axis=1)

    def colour_at_end(self) -> str | None:
        """The name of its colour after all changes; None for textured things."""
        return self.changes[-1].colour if self.changes else self.colour

    def event(
        self, kind: EventKind, times_s: tuple[float, float], side: str, direction: str | None = None
    ) -> TruthEvent:
        """A truth event of this actor with its present look; `times_s` are the event's `time_s` and `visible_s`."""
        shape = self.outline.form if self.colour is not None else None
        return TruthEvent(kind, *times_s, self.thing_id, self.colour_at_end(), shape, side, direction, name=self.name)

    def follow(self, leg: Leg) -> None:
        """Append a leg to its path."""
        self.times_s.extend(leg.times_s.tolist())
        self.places.extend((float(x), float(y)) for x, y in leg.points)
        self.busy_until_s = max(self.busy_until_s, float(leg.times_s[-1]))

    def finished(self, duration_s: float) -> Thing:
        """The immutable `Thing` for the scenario, which ends at `duration_s`."""
        return Thing(
            thing_id=self.thing_id,
            outline=self.outline,
            size_px=self.size_px,
            colour=self.colour,
            rgb=self.rgb,
            changes=tuple(self.changes),
            born_s=self.born_s,
            gone_s=min(self.gone_s, duration_s + 1.0),
            way=Trajectory(np.asarray(self.times_s), np.asarray(self.places)),
            motions=tuple(self.motions),
            points=self.points,
            full_share=self.full_share,
            seed=self.seed,
            name=self.name,
        )


@dataclass(frozen=True, slots=True)
class Leg:
    """One section of a path."""

    times_s: np.ndarray
    """float64 `[num_knots]`, rising."""
    points: np.ndarray
    """World positions, float64 `[num_knots, 2]`."""

    def shares(self, actor: Actor, width: int, height: int, camera: np.ndarray) -> np.ndarray:
        """Share of the actor's form in view at each knot, `[num_knots]`."""
        view = self.points - camera
        return share_inside(actor.points, view[:, 0], view[:, 1], width, height)


def straight(
    start: np.ndarray, end: np.ndarray, speed_px: float, start_s: float, ease_in_s: float, ease_out_s: float
) -> Leg:
    """A straight leg at constant speed (pixels a second), which accelerates and slows down over the given times."""
    distance = float(np.hypot(*(end - start)))
    total = distance / speed_px + (ease_in_s + ease_out_s) / 2
    clock = np.linspace(0.0, total, max(int(np.ceil(total / STEP_S)), 4) + 1)
    speed = np.ones_like(clock)
    if ease_in_s > 0:
        speed = np.minimum(speed, clock / ease_in_s)
    if ease_out_s > 0:
        speed = np.minimum(speed, (total - clock) / ease_out_s)
    travelled = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2)])
    travelled /= travelled[-1]
    return Leg(start_s + clock, start + travelled[:, None] * (end - start))


def sway(rng: np.random.Generator, centre: np.ndarray, start_s: float, length_s: float, amplitude_px: float) -> Leg:
    """A leg on the spot: to and fro, ending where it began."""
    clock = np.linspace(0.0, length_s, int(np.ceil(length_s / STEP_S)) + 1)
    envelope = np.clip(np.minimum(clock, length_s - clock) / 0.3, 0, 1)
    offset = np.zeros((clock.size, 2))
    for axis, strength in ((0, 1.0), (1, rng.uniform(0.1, 0.5))):
        slow, fast = rng.uniform(0.45, 0.8), rng.uniform(0.9, 1.4)
        wave = np.sin(2 * np.pi * slow * clock + rng.uniform(0, 6)) + 0.6 * np.sin(2 * np.pi * fast * clock)
        offset[:, axis] = amplitude_px * strength * envelope * wave
    return Leg(start_s + clock, centre + offset)


def crossing_s(times_s: np.ndarray, values: np.ndarray, level: float) -> float:
    """The time at which rising values first reach a level (linear between samples); the last time if they never do."""
    above = np.flatnonzero(values >= level)
    if above.size == 0:
        return float(times_s[-1])
    index = int(above[0])
    if index == 0:
        return float(times_s[0])
    before, after = values[index - 1], values[index]
    share = (level - before) / max(after - before, 1e-9)
    return float(times_s[index - 1] + share * (times_s[index] - times_s[index - 1]))


def jittered(rng: np.random.Generator, name: str) -> RGB:
    """A random variation of a named colour."""
    red, green, blue = np.clip(np.asarray(COLOURS[name]) + rng.uniform(-10, 10, 3), 0, 255)
    return (float(red), float(green), float(blue))


def _actor(
    rng: np.random.Generator, thing_id: int, outline: Outline, size_px: float, colour: str | None, rgb: RGB
) -> Actor:
    low, high = outline_extent(outline, size_px)
    points, seed = outline_points(outline, size_px), int(rng.integers(2**31))
    return Actor(thing_id, outline, size_px, colour, rgb, points, low, high, seed)


def cast_shape(rng: np.random.Generator, thing_id: int, look: Look, scale: float, limit_px: float) -> Actor:
    """A plain shape with the given colour and form, of random size."""
    colour, shape = look
    tilt = {"circle": 0.0, "square": 0.2, "triangle": 0.3, "star": 0.3}[shape]
    outline = Outline(shape, angle_rad=float(rng.uniform(-tilt, tilt)))
    size = min(scale * rng.uniform(22, 60), limit_px)
    return _actor(rng, thing_id, outline, size, colour, jittered(rng, colour))


def cast_textured(
    rng: np.random.Generator, thing_id: int, scale: float, limit_px: float, ground: tuple[RGB, ...]
) -> Actor:
    """A textured person, blob or ellipse whose colour contrasts with the ground."""
    form = ("person", "person", "blob", "ellipse")[int(rng.integers(4))]
    count = 3 if form == "blob" else 0
    lobes = tuple((float(rng.uniform(0.02, 0.12)), float(rng.uniform(0, 6.3))) for _ in range(count))
    tilt = 0.15 if form == "person" else np.pi
    outline = Outline(form, float(rng.uniform(-tilt, tilt)), float(rng.uniform(0.5, 1.0)), lobes)
    size = min(scale * (rng.uniform(56, 130) if form == "person" else rng.uniform(30, 90)), limit_px)
    return _actor(rng, thing_id, outline, size, None, off_ground(rng, ground))


def cast_cutout(
    rng: np.random.Generator, thing_id: int, scale: float, limit_px: float, cutouts: tuple[tuple[str, str], ...]
) -> Actor:
    """An object cut out of a photograph: mostly people; within a group all words, within a word all pictures alike."""
    words = sorted({word for _, word in cutouts})
    groups = [group_of(word) for word in words]
    odds = np.array([_GROUP_ODDS.get(group or "", 1.0) / groups.count(group) for group in groups])
    word = words[int(rng.choice(len(words), p=odds / odds.sum()))]
    files = [path for path, of_word in cutouts if of_word == word]
    picture, mirrored = files[int(rng.integers(len(files)))], bool(rng.random() < 0.5)
    outline = Outline("cutout", picture=picture, mirrored=mirrored)
    actor = _actor(rng, thing_id, outline, min(scale * rng.uniform(45, 130), limit_px), None, (0.0, 0.0, 0.0))
    actor.name = word or None
    return actor


def cast_arm(rng: np.random.Generator, thing_id: int, scale: float, limit_px: float, ground: tuple[RGB, ...]) -> Actor:
    """An arm that reaches in from an edge and stays attached to it."""
    edge = EDGES[int(rng.integers(4))]
    outline = Outline("arm", float(_ARM_ANGLE[edge] + rng.uniform(-0.25, 0.25)))
    size = min(scale * rng.uniform(80, 150), limit_px)
    actor = _actor(rng, thing_id, outline, size, None, off_ground(rng, ground))
    actor.edge = edge
    return actor


def off_ground(rng: np.random.Generator, ground: tuple[RGB, ...]) -> RGB:
    """A muted colour that contrasts with all of the ground's colours, or at least with its main one."""
    for least in (*[60.0] * 20, *[45.0] * 20, *[30.0] * 20):
        colour = muted_colour(rng, 0.6)
        if np.linalg.norm(np.subtract(colour, ground), axis=1).min() >= least:
            return colour
    while True:
        colour = muted_colour(rng, 0.6)
        if np.linalg.norm(np.subtract(colour, ground[0])) >= 45:
            return colour
