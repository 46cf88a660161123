"""History labels for every visual token: what was on its cell before, and what the thing on it is doing.

They train the model to attend to earlier tokens, which remarks alone teach slowly. Pure functions, for any thread; data
workers run them.
"""

from __future__ import annotations

import math

import numpy as np

from models.training.cell_targets import COLOURS, IN_DOUBT, NOBODY, SHAPES, UNSURE, cell_owners
from streaming.difffp.live import CellGrid
from streaming.scenes.scenario import EventKind, Thing
from streaming.scenes.source import Scene

WAYS = ("still", "left", "right", "up", "down", "to and fro")
DEEDS = (None, EventKind.ENTERS, EventKind.LEAVES, EventKind.STARTS, EventKind.STOPS, EventKind.CHANGES_COLOUR)
HISTORY_SIZES = (len(COLOURS), len(SHAPES), len(WAYS), len(DEEDS))
"""Number of answers to each question about a visual token: colour and shape of the thing on its cell one sampled frame
ago; the direction in which the thing on it, now or then, moves; what the thing has just done."""
_SURE_S = 0.3
"""A thing counts as moving from this many seconds after it began to,"""
_SURE_PX = 4.0
"""or once it is this far from its place one sampled frame ago, in pixels of a 224-pixel view."""


def token_labels(
    scene: Scene, time_s: float, before_s: float | None, cells: np.ndarray, grid: CellGrid, fps: float
) -> np.ndarray:
    """int8 `[num_tokens, 4]` by `HISTORY_SIZES`: labels of the kept cells `[num_tokens]` of the frame at `time_s`.

    before_s: time of the sampled frame before it, `None` for the first frame. `UNSURE` where the truth is uncertain.
    """
    labels = np.full((len(cells), len(HISTORY_SIZES)), UNSURE, dtype=np.int8)
    things = scene.scenario.things
    now = cell_owners(scene.scenario, time_s, grid)[cells]
    before = np.full(len(cells), IN_DOUBT) if before_s is None else cell_owners(scene.scenario, before_s, grid)[cells]
    labels[before == NOBODY, :2] = 0
    for owner in {int(owner) for owner in before if owner >= 0}:
        colour, shape = things[owner].colour_at(before_s or 0.0), things[owner].shape
        labels[before == owner, 0] = COLOURS.index(colour or "textured")
        labels[before == owner, 1] = SHAPES.index(shape or "textured")
    subject = np.where(now >= 0, now, before)
    labels[(now == NOBODY) & (before == NOBODY), 2:] = 0
    for owner in {int(owner) for owner in subject if owner >= 0}:
        labels[subject == owner, 2] = _way(scene, things[owner], time_s, before_s, fps)
        labels[subject == owner, 3] = _deed(scene, things[owner], time_s, fps)
    return labels


def _way(scene: Scene, thing: Thing, time_s: float, before_s: float | None, fps: float) -> int:
    for motion in thing.motions:
        begun_s = before_s if before_s is not None and motion.start_s < time_s < motion.end_s else time_s
        moved_px = math.dist(thing.way.at(begun_s), thing.way.at(time_s)) / scene.scenario.scale
        if moved_px >= _SURE_PX or motion.start_s + _SURE_S <= time_s <= motion.end_s - 0.1:
            return WAYS.index(motion.direction or "to and fro")
        if motion.start_s - 0.1 < time_s < motion.end_s + 1 / fps + 0.1:
            return UNSURE
    return 0


def _deed(scene: Scene, thing: Thing, time_s: float, fps: float) -> int:
    events = [event for event in scene.truth if event.thing_id == thing.thing_id and event.time_s <= time_s]
    recent = [event for event in events if 0 <= time_s - event.visible_s < 1 / fps]
    if recent:
        return DEEDS.index(recent[-1].kind)
    return UNSURE if any(time_s < event.visible_s for event in events) else 0
