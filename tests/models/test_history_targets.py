"""History labels of visual tokens agree with the scene's truth."""

from __future__ import annotations

import numpy as np

from models.training.cell_targets import COLOURS, SHAPES, UNSURE, cell_labels
from models.training.history_targets import DEEDS, HISTORY_SIZES, WAYS, token_labels
from streaming.difffp.live import CellGrid
from streaming.scenes.scenario import EventKind, Family, SceneSettings
from streaming.scenes.source import Scene

GRID = CellGrid(rows=4, cols=7, merge=2, patch_px=14)
SETTINGS = SceneSettings(
    duration_s=40, view_sizes=((196, 112),), families=frozenset({Family.SHAPES}), still_probability=0.0, pace=1.5
)
ALL = np.arange(GRID.num_cells)


def _scene_with(kind: EventKind) -> tuple[Scene, int]:
    for seed in range(60):
        scene = Scene(seed, SETTINGS)
        for number, event in enumerate(scene.truth):
            if event.kind is kind:
                return scene, number
    raise AssertionError(kind)


def test_what_was_on_a_cell_is_what_the_frame_before_shows() -> None:
    scene = Scene(3, SETTINGS)
    picture = np.zeros((112, 196, 3), np.uint8)
    for before_s in np.arange(0.5, 30.0, 0.5):
        labels = token_labels(scene, before_s + 0.5, float(before_s), ALL, GRID, 2.0)
        shown = cell_labels(scene.scenario, float(before_s), picture, GRID)[:, 2:4]
        assert (labels[shown[:, 0] == UNSURE, 0] == UNSURE).all()
        plain = (shown[:, 0] != UNSURE) & (shown[:, 1] != UNSURE)
        assert (labels[plain, 0] == shown[plain, 0]).all() and (labels[plain, 1] == shown[plain, 1]).all()
        assert (labels < np.array(HISTORY_SIZES)).all()


def test_the_first_frame_has_no_before() -> None:
    assert (token_labels(Scene(3, SETTINGS), 0.0, None, ALL, GRID, 2.0)[:, :2] == UNSURE).all()


def test_what_a_thing_has_just_done_and_which_way_it_moves_stand_on_its_cells() -> None:
    for kind in (EventKind.ENTERS, EventKind.LEAVES, EventKind.STARTS, EventKind.STOPS):
        scene, number = _scene_with(kind)
        event = scene.truth[number]
        time_s = event.visible_s + 0.01
        labels = token_labels(scene, time_s, time_s - 0.5, ALL, GRID, 2.0)
        assert DEEDS.index(kind) in labels[:, 3], kind
        if kind is EventKind.STARTS:
            later = token_labels(scene, event.visible_s + 0.3, event.visible_s - 0.2, ALL, GRID, 2.0)
            assert WAYS.index(event.direction or "to and fro") in later[:, 2]


def test_the_way_is_known_as_soon_as_a_thing_lies_elsewhere_than_a_frame_ago() -> None:
    scene, number = _scene_with(EventKind.STARTS)
    event = scene.truth[number]
    thing = next(thing for thing in scene.scenario.things if thing.thing_id == event.thing_id)
    start_s = max(motion.start_s for motion in thing.motions if motion.start_s <= event.time_s)
    at_once_s = event.visible_s + 0.01
    labels = token_labels(scene, at_once_s, start_s - 0.2, ALL, GRID, 2.0)
    assert at_once_s < start_s + 0.3
    assert WAYS.index(event.direction or "to and fro") in labels[:, 2]
    barely = token_labels(scene, start_s + 0.02, start_s - 0.2, ALL, GRID, 2.0)
    assert WAYS.index(event.direction or "to and fro") not in barely[:, 2]


def test_a_thing_that_left_is_told_by_what_was_there() -> None:
    scene, number = _scene_with(EventKind.LEAVES)
    event = scene.truth[number]
    labels = token_labels(scene, event.visible_s + 0.01, event.time_s - 0.2, ALL, GRID, 2.0)
    told = labels[:, 3] == DEEDS.index(EventKind.LEAVES)
    assert COLOURS.index(event.colour or "textured") in labels[told, 0]
    assert SHAPES.index(event.shape or "textured") in labels[told, 1]
