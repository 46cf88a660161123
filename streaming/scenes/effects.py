"""Effects on light and view in a synthetic scene: acts with the interface of `acts.py`, and the camera's sensor."""

from __future__ import annotations

import numpy as np

from streaming.scenes.casting import EDGES, Leg, crossing_s, straight
from streaming.scenes.scenario import Cover, EventKind, Motion, Ramp, SceneSettings, Sensor, TruthEvent
from streaming.scenes.scenery import RGB, muted_colour
from streaming.scenes.stage import SceneStage

_SHIMMER_RANGE = ((0.0, 1.0), (0.0, 1.0), (0.3, 0.2), (0.3, 0.2))
"""For left, top, width and height of the shimmering part: the least value as a share of the most, and the most."""
_PLAIN_LEVELS = 10.0
"""Change of a pixel that is visible despite noise, grey levels."""
_CAMERA_RANGE_PX = 44.0
"""Largest distance that the camera pans from its start, pixels of a 224-pixel view."""


def _level_event(kind: EventKind, start_s: float, length_s: float, told: float = 0.6) -> TruthEvent:
    """The event of a level that changes from `start_s` for `length_s`; visible after the share `told` of the change."""
    return TruthEvent(kind, start_s + 0.25 * length_s, start_s + told * length_s)


def light_changes(stage: SceneStage, t: float) -> float | None:
    """It gets dark or bright: lastingly, while other acts continue, or for a while, in which nothing else happens."""
    rng = stage.rng
    luma = stage.shots[-1].ground.luma
    dark = luma > 45 and (luma > 175 or rng.random() < 0.7)
    level = float(rng.uniform(0.1, 0.55) if dark else rng.uniform(1.3, min(1.8, max(235 / luma, 1.32))))
    kind, back = (EventKind.GETS_DARK, EventKind.GETS_BRIGHT) if dark else (EventKind.GETS_BRIGHT, EventKind.GETS_DARK)
    length = float(rng.uniform(0.05, 1.2))
    event = _level_event(kind, t, length)
    if not stage.fits([event]):
        return None
    if 0.45 <= level < 1:
        stage.events.append(event)
        stage.gain += [(t, 1.0), (t + length, level)]
        return t + length
    if any(actor.busy_until_s > t for actor in stage.alive(t)):
        return None
    end_s, length_back = t + length + float(rng.uniform(1.5, 9.0)), float(rng.uniform(0.05, 1.2))
    return stage.while_waiting(
        end_s + length_back, [event, _level_event(back, end_s, length_back)],
        lambda: stage.gain.extend([(t, 1.0), (t + length, level), (end_s, level), (end_s + length_back, 1.0)]),
    )  # fmt: skip


def light_returns(stage: SceneStage, t: float) -> float | None:
    """It gets bright again after a lasting darkness."""
    length = float(stage.rng.uniform(0.05, 1.2))
    event = _level_event(EventKind.GETS_BRIGHT, t, length)
    if not stage.fits([event]):
        return None
    stage.events.append(event)
    stage.gain += [(t, stage.gain[-1][1]), (t + length, 1.0)]
    return t + length


def covered(stage: SceneStage, t: float) -> float | None:
    """Something covers the lens and is removed again."""
    rng = stage.rng
    first, second = rng.uniform(0.15, 0.8, 2)
    end_s = t + first + rng.uniform(1.5, 9.0)
    full = float(rng.uniform(0.93, 1.0))
    ramp = Ramp((t, t + first, end_s, end_s + second), (0.0, full, full, 0.0))
    cover = Cover(
        ramp, EDGES[int(rng.integers(4))], _cover_colour(rng, stage.shots[-1].ground.luma),
        float(stage.scale * rng.uniform(2, 24)), int(rng.integers(2**31)),
    )  # fmt: skip
    events = [
        _level_event(EventKind.COVERED, t, first, 0.7),
        _level_event(EventKind.UNCOVERED, end_s, second, 0.7),
    ]
    return stage.while_waiting(end_s + second, events, lambda: stage.covers.append(cover))


def _shows(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two pictures differ visibly in a tenth of their pixels."""
    return bool(np.mean(np.abs(after - before).max(axis=2) > _PLAIN_LEVELS) > 0.1)


def _cover_colour(rng: np.random.Generator, luma: float) -> RGB:
    """The colour of a hand or cloth close to the lens: mostly dark, and of another brightness than the ground."""
    while True:
        depth = rng.choice([0.1, 0.25, 0.4, 0.7], p=[0.3, 0.35, 0.2, 0.15])
        red, green, blue = np.asarray(muted_colour(rng, 0.6)) * depth
        if abs(0.3 * red + 0.59 * green + 0.11 * blue - luma) >= 30:
            return (float(red), float(green), float(blue))


def blurred(stage: SceneStage, t: float) -> float | None:
    """The view goes out of focus and becomes sharp again."""
    rng = stage.rng
    first, second = rng.uniform(0.1, 0.9, 2)
    end_s, level = t + first + rng.uniform(1.5, 9.0), float(stage.scale * rng.uniform(4.0, 8.0))
    import cv2

    ground = stage.ground_picture(stage.camera)
    if not _shows(ground, cv2.GaussianBlur(ground, (0, 0), level)):
        return None
    events = [_level_event(EventKind.BLURRED, t, first), _level_event(EventKind.SHARP, end_s, second)]
    knots = [(t, 0.0), (t + first, level), (end_s, level), (end_s + second, 0.0)]
    return stage.while_waiting(end_s + second, events, lambda: stage.blur.extend(knots))


def camera_moves_away(stage: SceneStage, t: float) -> float | None:
    """The camera pans to another place, or shakes and returns."""
    rng, scale = stage.rng, stage.scale
    if rng.random() < 0.5:
        length = float(rng.uniform(0.8, 2.2))
        angle, reach = rng.uniform(0, 2 * np.pi), scale * rng.uniform(18, 40)
        goal = stage.camera + reach * np.array([np.cos(angle), 0.6 * np.sin(angle)])
        leg = straight(stage.camera, goal, reach / length, t, 0.15, 0.3)
    else:
        count = int(rng.integers(6, 16))
        times = t + np.concatenate([[0.0], np.cumsum(rng.uniform(0.1, 0.22, count))])
        swings = rng.uniform(-1, 1, (count + 1, 2)) * scale * rng.uniform(7, 16)
        swings[0], swings[-1] = 0, 0
        leg = Leg(times, stage.camera + swings)
        goal = stage.camera
    if np.abs(leg.points).max() > _CAMERA_RANGE_PX * scale or not stage.still_in_view(t, goal):
        return None
    away = np.hypot(*(leg.points - stage.camera).T)
    farthest = leg.points[int(away.argmax())]
    if not _shows(stage.ground_picture(stage.camera), stage.ground_picture(farthest)):
        return None
    fine = np.arange(t, float(leg.times_s[-1]), 0.02)
    away = np.interp(fine, leg.times_s, away)
    event = TruthEvent(
        EventKind.CAMERA_MOVES, crossing_s(fine, away, 0.25 * away.max()), crossing_s(fine, away, 0.6 * away.max())
    )

    def apply() -> None:
        stage.camera_knots.append((t, float(stage.camera[0]), float(stage.camera[1])))
        knots = zip(leg.times_s.tolist(), leg.points.tolist(), strict=True)
        stage.camera_knots.extend((time_s, x, y) for time_s, (x, y) in knots)
        stage.camera_moves.append(Motion(t, float(leg.times_s[-1]), None))
        stage.camera = np.asarray(goal, float)

    return stage.while_waiting(float(leg.times_s[-1]) + 0.5, [event], apply)


def cut(stage: SceneStage, t: float) -> float | None:
    """The view cuts to another ground, and all things are gone."""
    if not stage.fits([TruthEvent(EventKind.CUT, t, t)]):
        return None
    for actor in stage.alive(t):
        actor.gone_s = t
    stage.events.append(TruthEvent(EventKind.CUT, t, t))
    stage.camera_knots += [(t - 1e-6, float(stage.camera[0]), float(stage.camera[1])), (t, 0.0, 0.0)]
    stage.camera = np.zeros(2)
    stage.new_shot(t)
    stage.free_from_s = t + 0.5
    return t


def sensor(rng: np.random.Generator, settings: SceneSettings) -> Sensor:
    """Draw the sensor of a scene: its noise and artefacts, and the scene's distractors."""

    def some() -> bool:
        return bool(rng.random() < settings.distractor_probability)

    drift = ramp_of([(0.0, 1.0)])
    if some():
        times = np.arange(0.0, settings.duration_s + 30.0, 30.0)
        levels = 1.0 + np.clip(np.cumsum(rng.uniform(-0.035, 0.035, times.size)), -0.1, 0.1)
        drift = Ramp(tuple(map(float, times)), tuple(map(float, levels)))
    jpeg = rng.random() < settings.artefact_probability
    corners = ("top left", "top right", "bottom left", "bottom right")
    balance = rng.uniform(0.96, 1.04, 3)
    left, top, wide, high = (float(low + (1 - low) * rng.random()) * most for low, most in _SHIMMER_RANGE)
    return Sensor(
        noise_sigma=float(rng.uniform(*settings.noise_sigma)) if rng.random() < 0.85 else settings.noise_sigma[0],
        balance=(float(balance[0]), float(balance[1]), float(balance[2])),
        flicker_levels=float(rng.uniform(0.5, 2.5)) if some() else 0.0,
        flicker_hz=float(rng.uniform(0.3, 9.0)),
        drift=drift,
        reaction=float(rng.uniform(0.05, 0.35)) if some() else 0.0,
        shadow_levels=float(rng.uniform(4, 10)) if some() else 0.0,
        clock_corner=corners[int(rng.integers(4))] if some() else None,
        shimmer_levels=float(rng.uniform(3, 8)) if some() else 0.0,
        shimmer_box=(left, top, wide, high),
        jpeg_quality=int(rng.integers(45, 92)) if jpeg else None,
        pulse_s=float(rng.uniform(1.0, 4.0)) if jpeg and rng.random() < 0.5 else None,
    )


def ramp_of(knots: list[tuple[float, float]]) -> Ramp:
    """The ramp through `knots`, pairs of a time and a level."""
    return Ramp(tuple(t for t, _ in knots), tuple(level for _, level in knots))
