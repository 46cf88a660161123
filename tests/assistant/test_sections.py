"""The sections of an evaluation: an oracle scores 1, silence and constants do not, and each scene is asked evenly."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from assistant.errors import ConfigError
from assistant.evaluation.baselines import Baselines, BaselineScene, WithoutMemory, changed_shares
from assistant.evaluation.question_sampling import QuestionSampler, SampledQuestion, questions_with_pictures
from assistant.evaluation.report import ScenePlan, chosen_sections, run_scenes
from assistant.evaluation.sections import AnswerSection, CheckSection, ObedienceSection, QuietSection, scope_of
from assistant.evaluation.tables import values_as_table
from assistant.evaluation.watching import WatchedStream, owed_remarks
from models.checkpoint.loader import load_checkpoint
from models.engine import Engine
from models.groundtruth.instructions import Instruction, instructions
from models.groundtruth.remarks import remarks
from models.groundtruth.wording import YES_NO_SUFFIX
from models.session.results import Check
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene
from streaming.types import Frame

SETTINGS = SceneSettings(duration_s=40, still_probability=0.0)
SCENES = [Scene(seed, SETTINGS) for seed in (3, 11, 12, 14)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(load_checkpoint(progress=False))


class _Scripted(AnswerSection):
    """Answers by a rule in the place of the model."""

    def __init__(self, says: object) -> None:

        super().__init__(_Nobody(), SETTINGS)  # type: ignore[arg-type]
        self._says = says

    def take(self, posed: list[SampledQuestion]) -> None:
        says = self._says
        given = [str(says(one) if callable(says) else says) for one in posed]
        self._marks.add(
            [self._mark(one.kind, one.question, one.answer, text) for one, text in zip(posed, given, strict=True)]
        )


class _Nobody:
    """An engine that is never asked, with the settings of the embedded checkpoint's stream."""

    class checkpoint:  # noqa: N801
        class stream:  # noqa: N801
            max_shown_time_s = 180.0


@pytest.mark.parametrize(("says", "low", "high"), [(None, 1.0, 1.0), ("", 0.0, 0.0), ("Yes.", 0.01, 0.35)])
def test_answers_of_an_oracle_score_one_of_silence_nothing_and_a_constant_low(
    says: str | None, low: float, high: float
) -> None:
    sampler = QuestionSampler(2.0)
    scripted = _Scripted(says if says is not None else lambda one: one.answer)
    for scene in SCENES:
        scripted.take(sampler.questions(scene, 12))
    found = scripted.as_dict()
    assert found["asked"] >= 40 and low <= found["value"] <= high
    assert found["interval"][0] <= found["value"] <= found["interval"][1]
    assert len(scripted.wrong) == found["asked"] - found["right"]


def test_questions_are_spread_over_the_kinds_and_a_seed_fixes_them() -> None:
    first, second = QuestionSampler(2.0), QuestionSampler(2.0)
    asked = [first.questions(scene, 8) for scene in SCENES]
    assert asked == [second.questions(scene, 8) for scene in SCENES]
    assert len(first.counts) >= 20 and max(first.counts.values()) <= 4
    assert all(one.at_s * 2 == int(one.at_s * 2) for posed in asked for one in posed)


def test_long_scenes_are_not_asked_about_times_that_the_model_is_shown_anew() -> None:
    sampler = QuestionSampler(2.0, shown_for_s=30.0)
    for scene in SCENES:
        sampler.questions(scene, 12)
    assert not {"what_at", "when_enter", "when_leave", "when_view", "span"} & set(sampler.counts)


def test_checks_ask_for_yes_and_no_as_often_and_constants_reach_a_half() -> None:
    checks, always, oracle = (CheckSection(SETTINGS, shown_for_s=180.0) for _ in range(3))
    truths: Counter[bool] = Counter()
    for scene in SCENES:
        posed = checks.pose(scene)
        truths.update(one.is_yes for one in posed)
        assert all(one.question.endswith(YES_NO_SUFFIX) for one in posed)
        always.mark(posed, WatchedStream((), (), (), checks=tuple(Check(True, 1.0) for _ in posed)))
        oracle.mark(posed, WatchedStream((), (), (), checks=tuple(Check(one.is_yes, 0.0) for one in posed)))
    assert abs(truths[True] - truths[False]) <= 6
    assert always.as_dict()["value"] == 0.5 and oracle.as_dict()["value"] == 1.0


def _obeyed(says: str) -> dict[str, object]:
    found = ObedienceSection(_Nobody(), SETTINGS)  # type: ignore[arg-type]
    for scene in SCENES:
        instruction = Instruction(*instructions(np.random.default_rng([scene.seed, 14]), scene))
        said = [
            (owed.time_s, remark.text)
            for owed, remark in zip(owed_remarks(scene, 2.0), remarks(scene), strict=True)
            if says == "all" or (says == "allowed" and instruction.allows(remark))
        ]
        found.mark(scene, instruction, said)
    return found.as_dict()


def test_obedience_of_an_oracle_is_one_and_of_silence_and_chatter_a_half() -> None:
    assert _obeyed("allowed")["value"] == 1.0
    assert _obeyed("all")["value"] == _obeyed("nothing")["value"] == 0.5


def test_the_scope_of_an_instruction_is_what_it_lets_through() -> None:
    assert scope_of(Instruction("", lambda remark: True)) == "everything"
    assert scope_of(Instruction("", lambda remark: False)) == "nothing"
    assert scope_of(Instruction("", lambda remark: remark.slots.get("colour") == "red")) == "some"


@pytest.mark.slow
def test_floors_know_the_best_sentence_and_threshold_and_silence_scores_nothing() -> None:
    floors = Baselines()
    for scene in SCENES:
        pictures = [(float(t), scene.frame(float(t))) for t in scene.times(2.0)]
        owed = tuple(owed_remarks(scene, 2.0))
        floors.scenes.append(BaselineScene(owed, scene.duration_s, changed_shares(pictures)))
    found = floors.as_dict()
    assert found["silent"]["f1"] == 0 < found["every_5_s"]["f1"] < 1
    assert 0 < found["pixel_change"]["f1"] < 1 and found["pixel_change"]["threshold"] > 0
    assert set(found["sentence"]) & {"action"} and "last_four_frames" not in found


def test_the_model_without_a_memory_knows_its_last_frames_alone(engine: Engine) -> None:
    session = WithoutMemory(engine, engine.checkpoint.stream, num_frames=2)
    sizes = []
    for index in range(4):
        picture = SCENES[0].frame(index / 2)
        sight = engine.run(session.see(Frame(picture, index, index / 2, index / 2, "scene")))
        assert sight.score is not None
        sizes.append(session._session.usage.num_tokens)
    assert sizes[0] < sizes[1] and sizes[1] == sizes[2] == sizes[3]


def test_questions_come_with_an_image_two_images_a_clip_and_both() -> None:
    kinds = [one.kind for scene in SCENES for one in questions_with_pictures(scene)]
    assert set(kinds) == {"image", "two images", "clip", "clip and image"}


@pytest.mark.slow
def test_everything_at_once_gives_the_names_that_readers_of_the_json_rely_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.evaluation.report.LONG_SCENE_S", 10.0)
    monkeypatch.setattr("assistant.evaluation.sections.QUIET_SCENE_S", 4.0)
    monkeypatch.setattr("assistant.evaluation.report.QUIET_SCENE_S", 4.0)
    plan = ScenePlan([3], SceneSettings(duration_s=6), chosen_sections("all"), quiet_hours=4 / 3600)
    values, table = run_scenes(engine, plan, progress=False)
    assert {"f1", "precision", "recall", "content", "redundancy", "delay_median_s", "delay_p95_s"} < set(values)
    assert {"side_of_few_cells", "by_kind", "answers", "yes_no", "obedience", "floors", "long", "quiet"} < set(values)
    assert set(values["floors"]) == {"sentence", "silent", "every_5_s", "pixel_change", "last_four_frames"}
    assert values["long"]["f1_beside_usual"] is not None and values["quiet"]["hours"] > 0
    assert json.loads(json.dumps(values)) == values and "same model, last four frames" in table
    some, _ = run_scenes(engine, replace(plan, sections=chosen_sections("yesno, obedience")), progress=False)
    assert set(some) == {"yes_no", "obedience"} and some["obedience"] == values["obedience"]


@pytest.mark.slow
def test_a_quiet_scene_counts_every_remark_by_what_disturbs_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.evaluation.sections.QUIET_SCENE_S", 6.0)
    quiet = QuietSection(engine, SETTINGS)
    for seed in range(4):
        quiet.watch(seed)
    found = quiet.as_dict()
    assert found["hours"] == pytest.approx(4 * 6 / 3600) and found["count"] == len(quiet.remarks)
    assert any(name.startswith("noise") for name in found["by_distractor"]) and "h264" in found["by_distractor"]
    assert "false alarms an hour" in values_as_table({"quiet": found})


def test_unknown_sections_are_named() -> None:
    with pytest.raises(ConfigError, match="known are triggers"):
        chosen_sections("triggers,cats")
