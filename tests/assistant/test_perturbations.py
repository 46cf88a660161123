"""Planted covers, darkenings and cuts: seen in the pictures when they are owed, and an oracle scores 1."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from assistant.errors import AssistantError
from assistant.evaluation.perturbations import PerturbationKind, evaluate_planted, owed_of, plan_perturbations, planted
from models.checkpoint.loader import load_checkpoint
from models.engine import Engine
from models.groundtruth.scoring import ScoredRemark, score_scene
from tests.clips import write_clip

TIMES = [index / 2 for index in range(240)]
GROUND = np.random.default_rng(0).integers(90, 160, (36, 64, 3), dtype=np.uint8)
OTHER = [np.full((20, 20, 3), level, np.uint8) for level in (10, 40, 250)]


def _shown(seed: int) -> dict[float, np.ndarray]:
    return dict(planted(((t, GROUND) for t in TIMES), plan_perturbations(seed, TIMES[-1]), OTHER))


def test_each_kind_is_planted_in_turn_with_quiet_between() -> None:
    perturbations = plan_perturbations(4, 120.0)
    assert {perturbation.trick for perturbation in perturbations[:3]} == set(PerturbationKind) and len(
        perturbations
    ) >= 8
    assert perturbations == plan_perturbations(4, 120.0) != plan_perturbations(5, 120.0)
    assert all(b.start_s - (a.end_s + a.fall_s) >= 2 for a, b in itertools.pairwise(perturbations))
    assert plan_perturbations(4, 6.0) == []


def test_pictures_change_where_something_is_planted_and_nowhere_else() -> None:
    perturbations, shown = plan_perturbations(7, TIMES[-1]), _shown(7)
    for time_s, picture in shown.items():
        share = max(perturbation.share(time_s) for perturbation in perturbations)
        assert picture.shape == GROUND.shape and picture.dtype == np.uint8
        assert (picture == GROUND).all() if share == 0 else share < 0.05 or (picture != GROUND).any()


@pytest.mark.parametrize("trick", list(PerturbationKind))
def test_a_perturbation_in_full_hides_dims_or_replaces_the_picture(trick: PerturbationKind) -> None:
    perturbations, shown = plan_perturbations(7, TIMES[-1]), _shown(7)
    perturbation = next(perturbation for perturbation in perturbations if perturbation.trick is trick)
    middle = min(TIMES, key=lambda t: abs(t - (perturbation.start_s + perturbation.end_s) / 2))
    picture = shown[middle].astype(float)
    if trick is PerturbationKind.DARK:
        assert picture.mean() == pytest.approx(perturbation.strength * GROUND.mean(), rel=0.05)
    elif trick is PerturbationKind.COVER:
        assert (np.abs(picture - perturbation.grey) < 20).mean() > 0.85
    else:
        assert any((picture == frame[0, 0]).all() for frame in OTHER)


def test_an_oracle_scores_one_and_events_lie_at_frames_that_show_a_quarter() -> None:
    perturbations = plan_perturbations(7, TIMES[-1])
    owed = owed_of(perturbations, TIMES)
    assert len(owed) == 2 * len(perturbations) and all(event.time_s in TIMES for event in owed)
    score = score_scene(owed, [ScoredRemark(event.time_s, event.slots) for event in owed], TIMES[-1])
    assert score.num_matched == len(owed) and score.slots_right == score.slots_asked
    dark = next(perturbation for perturbation in perturbations if perturbation.trick is PerturbationKind.DARK)
    first = next(event.time_s for event in owed if event.kind == "gets_dark")
    assert dark.share(first) >= 0.25 > dark.share(first - 0.5)


@pytest.mark.slow
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
