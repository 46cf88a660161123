"""Planted covers, darkenings and cuts: seen in the pictures when they are owed, and an oracle scores 1."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from assistant.errors import AssistantError
from assistant.planted import Trick, evaluate_planted, owed_of, plan_plants, planted
from models.checkpoint import load_checkpoint
from models.engine import Engine
from models.training.scoring import Said, score_scene
from tests.clips import write_clip

TIMES = [index / 2 for index in range(240)]
GROUND = np.random.default_rng(0).integers(90, 160, (36, 64, 3), dtype=np.uint8)
OTHER = [np.full((20, 20, 3), level, np.uint8) for level in (10, 40, 250)]


def _shown(seed: int) -> dict[float, np.ndarray]:
    return dict(planted(((t, GROUND) for t in TIMES), plan_plants(seed, TIMES[-1]), OTHER))


def test_each_kind_is_planted_in_turn_with_quiet_between() -> None:
    plants = plan_plants(4, 120.0)
    assert {plant.trick for plant in plants[:3]} == set(Trick) and len(plants) >= 8
    assert plants == plan_plants(4, 120.0) != plan_plants(5, 120.0)
    assert all(b.start_s - (a.end_s + a.fall_s) >= 2 for a, b in itertools.pairwise(plants))
    assert plan_plants(4, 6.0) == []


def test_pictures_change_where_something_is_planted_and_nowhere_else() -> None:
    plants, shown = plan_plants(7, TIMES[-1]), _shown(7)
    for time_s, picture in shown.items():
        share = max(plant.share(time_s) for plant in plants)
        assert picture.shape == GROUND.shape and picture.dtype == np.uint8
        assert (picture == GROUND).all() if share == 0 else share < 0.05 or (picture != GROUND).any()


@pytest.mark.parametrize("trick", list(Trick))
def test_a_plant_in_full_hides_dims_or_replaces_the_picture(trick: Trick) -> None:
    plants, shown = plan_plants(7, TIMES[-1]), _shown(7)
    plant = next(plant for plant in plants if plant.trick is trick)
    middle = min(TIMES, key=lambda t: abs(t - (plant.start_s + plant.end_s) / 2))
    picture = shown[middle].astype(float)
    if trick is Trick.DARK:
        assert picture.mean() == pytest.approx(plant.strength * GROUND.mean(), rel=0.05)
    elif trick is Trick.COVER:
        assert (np.abs(picture - plant.grey) < 20).mean() > 0.85
    else:
        assert any((picture == frame[0, 0]).all() for frame in OTHER)


def test_an_oracle_scores_one_and_events_lie_at_frames_that_show_a_quarter() -> None:
    plants = plan_plants(7, TIMES[-1])
    owed = owed_of(plants, TIMES)
    assert len(owed) == 2 * len(plants) and all(event.time_s in TIMES for event in owed)
    score = score_scene(owed, [Said(event.time_s, event.slots) for event in owed], TIMES[-1])
    assert score.num_matched == len(owed) and score.slots_right == score.slots_asked
    dark = next(plant for plant in plants if plant.trick is Trick.DARK)
    first = next(event.time_s for event in owed if event.kind == "gets_dark")
    assert dark.share(first) >= 0.25 > dark.share(first - 0.5)


def test_clips_of_a_folder_are_watched_and_short_ones_left_out(tmp_path: Path) -> None:
    engine = Engine(load_checkpoint(progress=False))
    with pytest.raises(AssistantError, match="holds no clip"):
        evaluate_planted(engine, tmp_path, [0])
    write_clip(tmp_path / "short.mp4", num_frames=20)
    with pytest.raises(AssistantError, match="no clip of 15 s"):
        evaluate_planted(engine, tmp_path, [0])
    write_clip(tmp_path / "long.mp4", stamps_s=[index / 2 for index in range(40)], num_frames=40)
    scores = evaluate_planted(engine, tmp_path, [0])
    assert [name for name, _ in scores] == ["long.mp4"] and scores[0][1].num_owed >= 2
