"""The scorer: an oracle scores 1, silence 0, constant remarks low; matching is one to one."""

from __future__ import annotations

import numpy as np
import pytest

from models.groundtruth.scoring import Owed, ScoredRemark, mean_rate, rate, rate_per_hour, score_scene, summarise

CIRCLE = {"colour": "red", "shape": "circle", "action": "enters", "side": "left"}
SQUARE = {"colour": "blue", "shape": "square", "action": "leaves", "side": "right"}
OWED = [Owed(3.0, CIRCLE, "enters"), Owed(9.5, SQUARE, "leaves"), Owed(15.0, CIRCLE, "enters")]


def test_an_oracle_scores_one() -> None:
    said = [ScoredRemark(event.time_s + 0.5, event.slots) for event in OWED]
    summary = summarise([score_scene(OWED, said, 20.0)], resamples=20)
    assert (summary["precision"], summary["recall"], summary["f1"], summary["content"]) == (1, 1, 1, 1)
    assert {kind: found["named"] for kind, found in summary["by_kind"].items()} == {"enters": 2, "leaves": 1}
    assert summary["delay_median_s"] == 0.5 and summary["redundancy"] == 0 and summary["false_alarms_per_hour"] == 0


def test_silence_scores_zero_where_something_was_owed_and_one_where_nothing_was() -> None:
    assert summarise([score_scene(OWED, [], 20.0)], resamples=20)["f1"] == 0
    assert summarise([score_scene([], [], 20.0)], resamples=20)["f1"] == 1


def test_a_spammer_scores_low() -> None:
    said = [ScoredRemark(float(t), CIRCLE) for t in np.arange(0, 20, 0.5)]
    summary = summarise([score_scene(OWED, said, 20.0)], resamples=20)
    assert summary["recall"] == 1 and summary["precision"] < 0.1 and summary["redundancy"] > 1


def test_matching_is_one_to_one_and_in_order() -> None:
    owed = [Owed(1.0, CIRCLE, "enters"), Owed(2.0, SQUARE, "leaves")]
    said = [ScoredRemark(1.5, SQUARE)]
    score = score_scene(owed, said, 5.0)
    assert score.pairs == ((1, 0),) and score.slots_right == 4
    two = score_scene(owed, [ScoredRemark(1.9, SQUARE), ScoredRemark(2.0, CIRCLE)], 5.0)
    assert two.num_matched == 2


def test_outside_the_tolerance_is_a_miss_and_a_false_alarm() -> None:
    score = score_scene([Owed(3.0, CIRCLE, "enters")], [ScoredRemark(4.2, CIRCLE)], 5.0)
    assert score.num_matched == 0 and score.num_said == 1


def test_wrong_words_at_the_right_time_are_a_match_with_wrong_content() -> None:
    wrong = {**CIRCLE, "colour": "green"}
    summary = summarise([score_scene(OWED[:1], [ScoredRemark(3.0, wrong)], 5.0)], resamples=20)
    assert summary["f1"] == 1 and summary["content"] == 0.75
    assert (summary["by_kind"]["enters"]["found"], summary["by_kind"]["enters"]["named"]) == (1, 0)
    mute = summarise([score_scene(OWED[:1], [ScoredRemark(3.0, None)], 5.0)], resamples=20)
    assert mute["content"] == 0


def test_the_side_is_scored_apart_where_a_frame_kept_few_cells() -> None:
    right, wrong = ScoredRemark(3.0, CIRCLE, num_kept=3), ScoredRemark(9.5, {**SQUARE, "side": "left"}, num_kept=1)
    many = ScoredRemark(15.0, {**CIRCLE, "side": "top"}, num_kept=4)
    score = score_scene(OWED, [right, wrong, many], 20.0)
    assert (score.few_right, score.few_asked) == (1, 2)
    assert summarise([score], resamples=20)["side_of_few_cells"]["value"] == 0.5


def test_a_share_has_an_interval_that_holds_it_and_nothing_asked_is_null() -> None:
    found = rate([(9, 10), (5, 10), (10, 10), (0, 0)])
    low, high = found["interval"]
    assert found["value"] == 0.8 and low < 0.8 < high <= 1
    assert rate([(0, 0)])["value"] is None and rate([])["value"] is None


def test_a_mean_of_classes_gives_a_constant_answer_nothing() -> None:
    always_yes = mean_rate([[(90, 90), (5, 5)], [(0, 4), (0, 1)]])
    assert always_yes["value"] == 0.5 and always_yes["asked"] == 100


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.391)])
def test_a_count_has_the_exact_poisson_interval(count: int, low: float, high: float) -> None:
    """Compared with published tables of the exact interval."""
    found = rate_per_hour(count, 2.0)
    assert found["value"] == count / 2
    assert found["interval"] == [pytest.approx(low / 2, abs=1e-3), pytest.approx(high / 2, abs=1e-3)]
