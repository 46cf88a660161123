"""The scorer itself: an oracle scores 1, silence 0, a spammer low; matching is one to one."""

from __future__ import annotations

import numpy as np

from models.training.scoring import Owed, Said, score_scene, summarise

CIRCLE = {"colour": "red", "shape": "circle", "action": "enters", "side": "left"}
SQUARE = {"colour": "blue", "shape": "square", "action": "leaves", "side": "right"}
OWED = [Owed(3.0, CIRCLE, "enters"), Owed(9.5, SQUARE, "leaves"), Owed(15.0, CIRCLE, "enters")]


def test_an_oracle_scores_one() -> None:
    said = [Said(event.time_s + 0.5, event.slots) for event in OWED]
    summary = summarise([score_scene(OWED, said, 20.0)], resamples=20)
    assert (summary["precision"], summary["recall"], summary["f1"], summary["content"]) == (1, 1, 1, 1)
    assert summary["delay_median_s"] == 0.5 and summary["redundancy"] == 0 and summary["false_alarms_per_hour"] == 0


def test_silence_scores_zero_where_something_was_owed_and_one_where_nothing_was() -> None:
    assert summarise([score_scene(OWED, [], 20.0)], resamples=20)["f1"] == 0
    assert summarise([score_scene([], [], 20.0)], resamples=20)["f1"] == 1


def test_a_spammer_scores_low() -> None:
    said = [Said(float(t), CIRCLE) for t in np.arange(0, 20, 0.5)]
    summary = summarise([score_scene(OWED, said, 20.0)], resamples=20)
    assert summary["recall"] == 1 and summary["precision"] < 0.1 and summary["redundancy"] > 1


def test_matching_is_one_to_one_and_in_order() -> None:
    owed = [Owed(1.0, CIRCLE, "enters"), Owed(2.0, SQUARE, "leaves")]
    said = [Said(1.5, SQUARE)]
    score = score_scene(owed, said, 5.0)
    assert score.pairs == ((1, 0),) and score.slots_right == 4
    two = score_scene(owed, [Said(1.9, SQUARE), Said(2.0, CIRCLE)], 5.0)
    assert two.num_matched == 2


def test_outside_the_tolerance_is_a_miss_and_a_false_alarm() -> None:
    score = score_scene([Owed(3.0, CIRCLE, "enters")], [Said(4.2, CIRCLE)], 5.0)
    assert score.num_matched == 0 and score.num_said == 1


def test_wrong_words_at_the_right_time_are_a_match_with_wrong_content() -> None:
    wrong = {**CIRCLE, "colour": "green"}
    summary = summarise([score_scene(OWED[:1], [Said(3.0, wrong)], 5.0)], resamples=20)
    assert summary["f1"] == 1 and summary["content"] == 0.75
    mute = summarise([score_scene(OWED[:1], [Said(3.0, None)], 5.0)], resamples=20)
    assert mute["content"] == 0
