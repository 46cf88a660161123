"""Remarks and questions about scenes with real things, and training scenes with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.checkpoint.loader import Checkpoint
from models.errors import SettingsError
from models.groundtruth.meanings import is_right
from models.groundtruth.questions import NAMED_KINDS, NOW_KINDS, PAST_KINDS, TrueAnswer, questions
from models.groundtruth.remarks import event_slots, named_remarks, parse, remarks
from models.groundtruth.scenes import CORPUS
from models.training.data import Mixture, SceneMaker
from models.training.movers import Movers, kinds_of
from streaming.scenes.scenario import Family, SceneSettings
from streaming.scenes.source import Scene
from tests.footage import write_footage

Sample = tuple[Scene, float, TrueAnswer]
USUAL = SceneSettings(duration_s=24.0, families=frozenset({Family.MOTION}), still_probability=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_footage(tmp_path_factory.mktemp("movers") / "made")


@pytest.fixture(scope="module")
def scenes(folder: Path) -> list[Scene]:
    movers = Movers(str(folder), 1.0)
    return [Scene(seed, movers.settings(np.random.default_rng(seed), USUAL)) for seed in range(30)]


@pytest.fixture(scope="module")
def asked(scenes: list[Scene]) -> list[Sample]:
    found = []
    rng = np.random.default_rng(3)
    for scene in scenes:
        for _ in range(20):
            t_s = float(rng.choice(scene.times()[2:]))
            sample = questions(scene, t_s, rng, kinds=kinds_of(scene, ("in_view", "moves", "first", "left_last")))
            if sample is not None:
                found.append((scene, t_s, sample))
    return found


def test_every_remark_has_the_word_and_can_be_read_back(scenes: list[Scene]) -> None:
    named = 0
    for scene in scenes:
        for remark, event in zip(remarks(scene), scene.truth, strict=True):
            assert parse(remark.text) == remark.slots == event_slots(event)
            assert (remark.slots["object"] == "dog") == (event.name == "dog") == ("dog" in remark.text)
            named += event.name is not None
    assert named > 60


def test_every_named_remark_has_its_own_content() -> None:
    contents = {text: tuple(sorted(parse(text).items())) for text in named_remarks()}
    assert all(contents.values()) and len(set(contents.values())) == len(contents)
    words = {word.strip(".,?").casefold() for text in CORPUS() for word in text.split()}
    assert {"person", "people", "buses", "anyone", "several"} <= words


def test_what_is_asked_of_real_things_agrees_with_what_is_there(asked: list[Sample]) -> None:
    answers: dict[str, set[str]] = {}
    for scene, t_s, (question, answer, kind, *_) in asked:
        things = [thing for thing in scene.state(t_s).things if thing.share_in > 0.5]
        dogs = sum(thing.name == "dog" for thing in things)
        answers.setdefault(kind, set()).add(answer)
        if kind == "is_anyone":
            assert answer == "No."
        elif kind == "is_named" and "dog" in question:
            assert (answer == "Yes.") == (dogs > 0)
        elif kind == "count_named":
            assert answer == ("One." if dogs and "dogs" in question else "None.")
        elif kind == "where_named":
            assert "dog" in question and dogs == 1
        elif kind == "in_view":
            assert ("dog" in answer) == (dogs > 0)
    assert answers["is_named"] == {"Yes.", "No."} and answers["count_named"] == {"One.", "None."}
    assert "A dog." in answers["first"] and "A dog." in answers["in_view"] and "The dog." in answers["moves"]
    assert len(answers["where_named"]) > 1


def test_answers_with_names_are_compared_by_what_they_name() -> None:
    assert is_right("A dog and something.", "Something and a dog.")
    assert not is_right("Something.", "A dog and something.") and not is_right("A cat.", "A dog.")
    assert is_right("I see a person.", "A person.")


def test_movers_need_a_folder_with_cut_outs(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"movers_share 0\.5: .* train with --footage DIR"):
        Movers("", 0.5)
    usual = [Movers(str(folder), 0.4).settings(np.random.default_rng(seed), USUAL) is USUAL for seed in range(200)]
    assert 0.5 < np.mean(usual) < 0.7
    assert kinds_of(Scene(0, USUAL), NOW_KINDS) == NOW_KINDS


def test_a_training_scene_says_and_asks_the_words(trainee: Checkpoint, folder: Path) -> None:
    mixture = Mixture(
        families=("motion",),
        duration_s=(14.0, 16.0),
        questions_per_scene=0.0,
        asides_per_scene=12.0,
        movers_share=1.0,
        footage=str(folder),
        scene={"still_probability": 0.0},
    )
    maker = SceneMaker(trainee, mixture, 4)
    made = [maker.make(index) for index in range(4)]
    assert trainee.tokenizer is not None
    said = " ".join(str(trainee.tokenizer.decode(one.stream.ids)) for one in made)
    posed = " ".join(str(trainee.tokenizer.decode(one.stream.asides.ids)) for one in made)
    assert "dog" in said and ("anyone" in posed or "are in view" in posed)
    assert (made[0].stream.ids == SceneMaker(trainee, mixture, 4).make(0).stream.ids).all()
    assert set(NAMED_KINDS).isdisjoint((*NOW_KINDS, *PAST_KINDS))
