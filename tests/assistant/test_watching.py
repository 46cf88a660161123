"""Scoring of clips and scenes around the scorer itself: intervals, labels for calibration, options."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.errors import AssistantError, ConfigError
from assistant.evaluation.calibration import write_calibration
from assistant.evaluation.report import chosen_seeds, plot_decisions, scene_settings, scenes_as_dict
from assistant.evaluation.tables import scenes_as_table
from assistant.evaluation.watching import (
    WatchedStream,
    clip_labels,
    clip_pictures,
    decision_labels,
    owed_remarks,
    score_clip,
)
from assistant.stream.speaking import Decision, Reason
from models.checkpoint.settings import StreamSettings
from models.groundtruth.calibrate import Platt
from models.groundtruth.remarks import remarks
from models.groundtruth.scoring import ScoredRemark, score_scene
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene
from tests.clips import write_joined

LABELS = {
    "activity": [{"start_s": 5.0, "end_s": 7.0}, {"start_s": 20.0, "end_s": 22.0}],
    "minor": [{"start_s": 7, "end_s": 12}],
}
SETTINGS = SceneSettings(duration_s=30, still_probability=0.0)


def test_an_activity_is_caught_by_one_remark_near_it() -> None:
    score = score_clip("clip", LABELS, [(4.6, "early"), (6.0, "again"), (23.9, "late"), (11.0, "minor")])
    assert (score.num_caught, score.num_said, score.num_false_alarms) == (2, 4, 1)


def test_a_remark_beside_every_widened_interval_is_a_false_alarm() -> None:
    score = score_clip("clip", LABELS, [(1.0, "nothing"), (13.5, "nothing"), (4.4, "just before")])
    assert (score.num_caught, score.num_false_alarms) == (0, 2)


@pytest.mark.parametrize("text", ["{", "[]", '{"a.mp4": 3}', '{"a.mp4": {"activity": [{"start_s": 1}]}}'])
def test_labels_that_are_none_are_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "events.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AssistantError, match=r"events\.json: .*mend the entry"):
        clip_labels(path)


def test_a_joined_clip_is_scored_in_media_time_that_goes_on(tmp_path: Path) -> None:
    times_s = [time_s for time_s, _ in clip_pictures(write_joined(tmp_path / "joined.ts", [50, 50]), 2.0)]
    assert times_s == sorted(times_s) and times_s[-1] > 3.0


def test_an_oracle_that_says_each_remark_when_it_is_true_scores_one() -> None:
    scene = Scene(11, SETTINGS)
    said = [ScoredRemark(event.time_s + 0.5, event.slots) for event in owed_remarks(scene, 2.0)]
    values = scenes_as_dict([score_scene(owed_remarks(scene, 2.0), said, scene.duration_s)])
    assert values["f1"] == values["content"] == 1.0
    assert "F1 within" in scenes_as_table(values)


def test_calibration_takes_the_first_frame_at_which_a_remark_is_true() -> None:
    scene = Scene(11, SETTINGS)
    times = [i / 2 for i in range(60)]
    scores, owed = decision_labels(scene, WatchedStream((), (), tuple((t, t) for t in times)), 2.0)
    due = [min(t for t in times if t >= remark.speak_s) for remark in remarks(scene) if remark.speak_s <= times[-1]]
    assert [score for score, is_owed in zip(scores, owed, strict=True) if is_owed] == sorted(set(due))


def test_a_calibration_is_written_into_the_stream_settings(tmp_path: Path) -> None:
    write_calibration(tmp_path, Platt(0.5, -1.25), "measured")
    speaking = StreamSettings.of_checkpoint(tmp_path).speaking
    assert (speaking.platt_scale, speaking.platt_shift) == (0.5, -1.25)


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    decisions = tuple(Decision(i / 2, False, Reason.BELOW_THRESHOLD, float(i % 5), 2.0, 0.1) for i in range(60))
    plot_decisions(tmp_path / "curve.png", Scene(11, SETTINGS), WatchedStream((), decisions, ()), 2.0)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong", ["9-3", "a-b", "-5", "1-", ""])
def test_wrong_seeds_are_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match="A-B"):
        chosen_seeds(wrong)


def test_wrong_families_and_lengths_are_named() -> None:
    assert chosen_seeds("3-5") == [3, 4, 5] and chosen_seeds("7") == [7]
    with pytest.raises(ConfigError, match="known are shapes"):
        scene_settings("shapes,cats", None, 30)
    with pytest.raises(ConfigError, match="duration_s"):
        scene_settings("shapes", None, -1)
