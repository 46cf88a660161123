"""Still lifes: many unrelated pictures on one ground from a seed, each with its own things, light and view.

They show far more different things per second of rendering than scenes do, so they serve to train an encoder. The
renderer of the scenes draws them. Pure functions, for any thread.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streaming.scenes import effects
from streaming.scenes.casting import EDGES, Actor, Look, cast_arm, cast_shape, cast_textured
from streaming.scenes.scenario import (
    Cover,
    Ramp,
    Scenario,
    SceneSettings,
    Sensor,
    Shot,
    Thing,
    Trajectory,
    share_inside,
)
from streaming.scenes.scenery import SHAPES, Ground, GroundSpec, choose_ground, muted_colour, seen_colours

MOST_THINGS = 5
_COUNT_ODDS = (0.08, 0.22, 0.25, 0.22, 0.14, 0.09)
"""Probabilities that a picture shows none, one, two … things."""
_LENGTH_S = 1.0
"""Length of each picture; only noise changes during it."""
_TRIES = 12


def still_lifes(seed: int, settings: SceneSettings, count: int) -> Scenario:
    """A scenario of `count` unrelated pictures; picture i is shown at i + 0.5 seconds."""
    rng = np.random.default_rng([seed, 0x571E5])
    width, height = settings.view_sizes[int(rng.integers(len(settings.view_sizes)))]
    scale = float(np.sqrt(width * height / (224 * 140)))
    ground = choose_ground(rng, settings.grounds, scale, photographs=settings.photographs)
    looks = [(colour, shape) for colour in seen_colours(ground) for shape in SHAPES]
    things: list[Thing] = []
    for number in range(count):
        for _ in range(int(rng.choice(MOST_THINGS + 1, p=_COUNT_ODDS))):
            actor = _cast(rng, looks, len(things), scale, min(width, height), ground.palette)
            thing = _placed(rng, actor, number, (width, height), things)
            if thing is not None:
                things.append(thing)
    light, blur, covers, cameras = _weather(rng, count, scale)
    times = np.arange(count) + 0.5 * _LENGTH_S
    plain = _plain(seed, (width, height), ground, things, effects.sensor(rng, settings), count)
    way = Trajectory(times, cameras) if count > 1 else _at(cameras[0])
    return replace(plain, covers=covers, gain=_steps(times, light), blur_px=_steps(times, blur), camera=way)


def close_ups(seed: int, settings: SceneSettings, count: int) -> Scenario:
    """Easy still lifes: one plain shape each, on a flat or gradient ground, without distractors."""
    rng = np.random.default_rng([seed, 0xC105E])
    width, height = settings.view_sizes[int(rng.integers(len(settings.view_sizes)))]
    settings = replace(settings, distractor_probability=0.0, artefact_probability=0.0)
    ground = choose_ground(rng, (Ground.FLAT, Ground.GRADIENT), 1.0)
    looks = [(colour, shape) for colour in seen_colours(ground) for shape in SHAPES]
    things: list[Thing] = []
    for number in range(count):
        look = looks[int(rng.integers(len(looks)))]
        actor = cast_shape(rng, number, look, float(rng.uniform(0.8, 1.5)), 0.9 * min(width, height))
        thing = _placed(rng, actor, number, (width, height), things)
        if thing is not None:
            things.append(thing)
    return _plain(seed, (width, height), ground, things, effects.sensor(rng, settings), count)


def _plain(
    seed: int, size: tuple[int, int], ground: GroundSpec, things: list[Thing], sensor: Sensor, count: int
) -> Scenario:
    return Scenario(
        seed=seed,
        width_px=size[0],
        height_px=size[1],
        duration_s=count * _LENGTH_S,
        shots=(Shot(0.0, ground),),
        things=tuple(things),
        covers=(),
        gain=Ramp((0.0,), (1.0,)),
        blur_px=Ramp((0.0,), (0.0,)),
        camera=_at(np.zeros(2)),
        camera_moves=(),
        sensor=sensor,
        truth=(),
        scale=float(np.sqrt(size[0] * size[1] / (224 * 140))),
    )


def _at(place: np.ndarray) -> Trajectory:
    return Trajectory(np.array([0.0, 1.0]), np.stack([place, place]))


def _cast(
    rng: np.random.Generator,
    looks: list[Look],
    thing_id: int,
    scale: float,
    side_px: int,
    palette: tuple[tuple[float, float, float], ...],
) -> Actor:
    draw = rng.random()
    if draw < 0.78:
        look = looks[int(rng.integers(len(looks)))]
        actor = cast_shape(rng, thing_id, look, scale, 0.46 * side_px)
        if rng.random() < 0.5:
            actor = cast_shape(rng, thing_id, look, scale * rng.uniform(1.0, 1.8), 0.6 * side_px)
        return actor
    if draw < 0.94:
        return cast_textured(rng, thing_id, scale, 0.9 * side_px, palette)
    return cast_arm(rng, thing_id, scale, 1.1 * side_px, palette)


def _placed(
    rng: np.random.Generator, actor: Actor, number: int, size: tuple[int, int], others: list[Thing]
) -> Thing | None:
    """The actor at rest in picture `number`, sometimes partly out of view or over another thing; None without room."""
    width, height = size
    extent = actor.high - actor.low
    for _ in range(_TRIES):
        out = 0.35 if rng.random() < 0.25 else -0.5
        low = -actor.low - (0.5 + out) * extent
        high = np.array([width, height]) - actor.high + (0.5 + out) * extent
        place = rng.uniform(np.minimum(low, high), np.maximum(low, high))
        present = [other for other in others if other.born_s == number * _LENGTH_S]
        if rng.random() < 0.15 or not any(_overlap(actor, place, other) for other in present):
            break
    else:
        return None
    share = share_inside(actor.points, place[:1], place[1:], width, height)[0]
    if share < 0.15:
        return None
    actor.times_s, actor.places = [number * _LENGTH_S], [(float(place[0]), float(place[1]))]
    actor.born_s, actor.gone_s = number * _LENGTH_S, (number + 1) * _LENGTH_S
    thing = actor.finished(actor.gone_s)
    return replace(thing, way=_at(place))


def _overlap(actor: Actor, place: np.ndarray, other: Thing) -> bool:
    x, y = other.way.points[0]
    low, high = other.points.min(axis=0) + (x, y), other.points.max(axis=0) + (x, y)
    return bool(((place + actor.low < high) & (place + actor.high > low)).all())


def _weather(
    rng: np.random.Generator, count: int, scale: float
) -> tuple[np.ndarray, np.ndarray, tuple[Cover, ...], np.ndarray]:
    """Random gain and blur of each picture, covers over some pictures, and the camera's positions."""
    light = np.where(rng.random(count) < 0.75, 1.0, rng.uniform(0.12, 1.7, count))
    blur = np.where(rng.random(count) < 0.9, 0.0, scale * rng.uniform(0.5, 8.0, count))
    cameras = np.where(rng.random((count, 1)) < 0.5, 0.0, rng.uniform(-1, 1, (count, 2)) * scale * (40.0, 30.0))
    covers = []
    for number in np.flatnonzero(rng.random(count) < 0.07):
        level = float(rng.uniform(0.93, 1.0) if rng.random() < 0.6 else rng.uniform(0.1, 0.9))
        start = float(number) * _LENGTH_S
        ramp = Ramp((start, start + 0.01, start + 0.98, start + 0.99), (0.0, level, level, 0.0))
        depth = float(rng.choice([0.1, 0.25, 0.4, 0.7]))
        red, green, blue = (depth * channel for channel in muted_colour(rng, 0.6))
        edge = EDGES[int(rng.integers(4))]
        covers.append(Cover(ramp, edge, (red, green, blue), scale * rng.uniform(2, 24), int(rng.integers(2**31))))
    return light, blur, tuple(covers), cameras


def _steps(times_s: np.ndarray, levels: np.ndarray) -> Ramp:
    return Ramp(tuple(float(t) for t in times_s), tuple(float(level) for level in levels))
