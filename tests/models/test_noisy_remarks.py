"""Remarks in training that are one frame off, and the questions that may then be asked."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from models.checkpoint.loader import Checkpoint
from models.training.data import Mixture, SceneMaker
from models.training.examples import Turn
from models.training.noisy_remarks import following, mistimed

TIMES = np.arange(0.25, 20.0, 0.5)
TURNS = [Turn(time_s, f"{time_s}") for time_s in (0.1, 3.0, 3.4, 9.0, 9.6, 19.75)]


@pytest.mark.parametrize("seed", range(20))
def test_remarks_move_by_a_frame_and_keep_their_order(seed: int) -> None:
    told, moved = mistimed(TURNS, TIMES, 0.7, np.random.default_rng(seed))
    frames = [np.searchsorted(TIMES, turn.time_s) for turn in TURNS]
    new = [np.searchsorted(TIMES, turn.time_s) for turn in told]
    assert [turn.text for turn in told] == [turn.text for turn in TURNS]
    assert all(abs(after - before) <= 1 for before, after in zip(frames, new, strict=True))
    assert all(after < later for after, later in pairwise(new)), "no two share a frame"
    assert {turn.time_s for turn in TURNS if turn not in told} == set(moved)
    assert [turn.time_s for turn in told] == [moved.get(turn.time_s, turn.time_s) for turn in TURNS]


def test_some_move_early_and_some_late_and_none_without_a_share() -> None:
    ways = set()
    for seed in range(20):
        _, moved = mistimed(TURNS, TIMES, 0.5, np.random.default_rng(seed))
        ways |= {after > before for before, after in moved.items()}
    assert ways == {False, True}
    assert mistimed(TURNS, TIMES, 0.0, np.random.default_rng(0)) == (TURNS, {})


def test_what_is_asked_of_a_moved_remark_rests_on_its_new_time_and_tells_none() -> None:
    moved = {9.0: 9.75, 3.0: 2.75}
    what = Turn(12.0, "It gets dark.", "What happened at 9 seconds?", rests_on=(9.0,))
    followed = following(what, moved)
    assert followed is not None and followed.rests_on == (9.75,)
    assert following(Turn(12.0, "It gets dark at 9 seconds.", "When did it get dark?", rests_on=(9.0,)), moved) is None
    other = Turn(12.0, "It gets dark at 5 seconds.", "When did it get dark?", rests_on=(5.0,))
    assert following(other, moved) is other
    no_times = Turn(12.0, "Yes.", "Is it dark?")
    assert following(no_times, moved) is no_times


@pytest.mark.parametrize(("asked_at_s", "is_asked"), [(9.25, False), (9.75, True), (2.8, False), (3.0, True)])
def test_nothing_is_asked_between_the_remark_and_the_truth(asked_at_s: float, is_asked: bool) -> None:
    aside = Turn(asked_at_s, "Nothing.", "What happened last?", rests_on=())
    assert (following(aside, {9.0: 9.75, 3.0: 2.75}) is aside) == is_asked


def test_scenes_told_without_pictures_have_them(trainee: Checkpoint) -> None:
    def remarked(share: float) -> list[list[int]]:
        mixture = Mixture(
            families=("shapes", "motion"), duration_s=(20.0, 30.0), told_share=1.0, mistimed_share=share,
            asides_per_scene=8.0,
        )  # fmt: skip
        maker = SceneMaker(trainee, mixture, 5)
        return [maker.make(number).stream.ids.tolist() for number in range(3)]

    assert remarked(0.0) == remarked(0.0) != remarked(0.6)
