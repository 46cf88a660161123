"""Answers are compared by meaning: other words for the truth are right, other content and silence are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from models.groundtruth.meanings import is_right, meaning
from models.groundtruth.questions import questions
from models.groundtruth.wording import all_answers
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene


@pytest.mark.parametrize(
    ("given", "truth"),
    [
        ("Red", "Red."),
        ("It is red.", "Red."),
        ("the shape is a circle", "A circle."),
        ("There are two shapes.", "Two."),
        ("2", "Two."),
        ("None.", "None."),
        ("Something and a red circle.", "A red circle and something."),
        ("The red circle.", "A red circle."),
        ("At 13 s.", "At 12 seconds."),
        ("At 13 s.", "It gets dark at 12 seconds."),
        ("12 to 18 s", "From 12 to 19 seconds."),
        ("From 12 to 18", "It gets dark at 12 seconds. It gets bright at 19 seconds."),
        ("On the left side.", "On the left."),
        ("To the left", "Left."),
        ("Yes, there is.", "Yes."),
        ("a red circle enters on the left", "A red circle enters on the left."),
        ("Nothing of that kind came.", "Nothing of that kind."),
        ("In the second image.", "The second."),
    ],
)
def test_other_words_for_the_truth_are_right(given: str, truth: str) -> None:
    assert is_right(given, truth)


@pytest.mark.parametrize(
    ("given", "truth"),
    [
        ("", "Red."),
        ("Blue.", "Red."),
        ("Red and blue.", "Red."),
        ("Three.", "Two."),
        ("One or two.", "Two."),
        ("A red circle.", "A red circle and something."),
        ("A red circle and a red circle.", "A red circle."),
        ("At 15 seconds.", "At 12 seconds."),
        ("From 12 to 25 seconds.", "From 12 to 19 seconds."),
        ("It gets dark at 12 seconds.", "It gets dark at 12 seconds. It gets bright at 19 seconds."),
        ("It gets dark.", "It gets dark at 12 seconds."),
        ("12 things, 19 in all.", "From 12 to 19 seconds."),
        ("On the right.", "On the left."),
        ("On the left or on the right.", "On the left."),
        ("Yes and no.", "Yes."),
        ("No.", "Yes."),
        ("A red circle leaves on the left.", "A red circle enters on the left."),
        ("At 12 seconds.", "Nothing of that kind."),
        ("Nothing of that kind.", "At 12 seconds."),
        ("Nothing of that kind.", "Nothing."),
        ("Nothing.", "A red circle."),
        ("Both.", "The second."),
        ("The view is covered.", "A red circle."),
    ],
)
def test_other_content_is_wrong(given: str, truth: str) -> None:
    assert not is_right(given, truth)


def test_every_true_answer_has_a_meaning_and_is_right_for_itself() -> None:
    for answer in sorted(set(all_answers())):
        assert meaning(answer) is not None, answer
        assert is_right(answer, answer), answer
        assert not is_right("", answer), answer


def test_true_answers_of_scenes_tell_apart_what_differs() -> None:
    rng = np.random.default_rng(0)
    truths = set()
    for seed in range(4):
        scene = Scene(seed, SceneSettings(duration_s=40, still_probability=0.0))
        asked = [questions(scene, float(t), rng) for t in rng.uniform(5, 40, 25)]
        truths |= {one.answer for one in asked if one is not None}
    constant = max(truths, key=lambda guess: sum(is_right(guess, truth) for truth in truths))
    assert sum(is_right(constant, truth) for truth in truths) < 0.2 * len(truths)
