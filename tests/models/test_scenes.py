"""The language of synthetic scenes: remarks can be parsed back, answers agree with the scene, no answer dominates."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from models.groundtruth.moment import sightings
from models.groundtruth.questions import (
    NOW_KINDS,
    PAST_KINDS,
    PICTURE_KINDS,
    TrueAnswer,
    clip_and_image,
    picture_of,
    questions,
    shown_looks,
    which_image,
)
from models.groundtruth.remarks import SLOT_NAMES, all_remarks, event_slots, parse, remark_text, remarks
from models.groundtruth.scenes import CORPUS, instructions
from models.groundtruth.wording import NEVER, NUMBERS, YES_NO_KINDS, YES_NO_SUFFIX, listed, named, timed
from streaming.scenes.scenario import EventKind, Family, SceneSettings
from streaming.scenes.scenery import COLOURS, SHAPES
from streaming.scenes.source import Scene

SETTINGS = SceneSettings(duration_s=30.0)
Sample = tuple[Scene, float, TrueAnswer]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [Scene(seed, SETTINGS) for seed in range(80)]


@pytest.fixture(scope="module")
def asked(scenes: list[Scene]) -> dict[str, list[Sample]]:
    """Questions by kind, each with its scene and time."""
    rng = np.random.default_rng(1)
    found: dict[str, list[Sample]] = defaultdict(list)
    for scene in scenes:
        for _ in range(14):
            t_s = float(rng.choice(scene.times()[2:]))
            sample = questions(scene, t_s, rng)
            if sample is not None:
                found[sample.kind].append((scene, t_s, sample))
    return found


def words_of(text: str) -> set[str]:
    return {word for word in re.findall(r"[A-Za-z]+", text)}


# Remarks.


def test_every_remark_can_be_read_back(scenes: list[Scene]) -> None:
    for scene in scenes:
        for remark, event in zip(remarks(scene), scene.truth, strict=True):
            assert parse(remark.text) == remark.slots == event_slots(event)
            assert (remark.time_s, remark.speak_s, remark.kind) == (event.time_s, event.visible_s, event.kind)


def test_every_possible_remark_has_its_own_content() -> None:
    contents = {text: tuple(sorted(parse(text).items())) for text in all_remarks()}
    assert all(contents.values())
    assert len(set(contents.values())) == len(contents)
    assert {name for text in contents for name in parse(text)} == set(SLOT_NAMES)


def test_the_wording_is_as_agreed() -> None:
    texts = set(all_remarks())
    assert {
        "A red circle enters on the left.",
        "An orange star enters at the top.",
        "The red circle leaves on the right.",
        "The red circle stops in the centre.",
        "The red circle starts moving right.",
        "The red circle turns blue.",
        "Something enters at the bottom.",
        "Something moves on the left.",
        "It gets dark.",
        "The view is clear again.",
        "The camera moves.",
        "The scene changes.",
    } <= texts


@pytest.mark.parametrize("text", ["", "Hello.", "A red circle.", "A pink circle enters on the left.", "The view is"])
def test_other_text_says_nothing(text: str) -> None:
    assert parse(text) == {}


def test_reading_forgives_case_spaces_and_a_missing_full_stop() -> None:
    assert parse(" the  red circle stops in the centre") == parse("The red circle stops in the centre.")


# Answers.


def test_every_kind_of_question_is_asked(asked: dict[str, list[Sample]]) -> None:
    assert set(asked) == set(NOW_KINDS) | set(PAST_KINDS)


def test_what_is_in_view_how_many_and_where_agree_with_the_state(asked: dict[str, list[Sample]]) -> None:
    for scene, t_s, (question, answer, *_) in itertools.chain(
        asked["in_view"], asked["count"], asked["count_colour"], asked["count_shape"], asked["where"], asked["colour"]
    ):
        state = scene.state(t_s)
        if state.covered:
            assert answer == "The view is covered."
            continue
        shapes = [thing for thing in state.things if thing.shape]
        colour = next((name for name in COLOURS if name in question), None)
        shape = next((name for name in SHAPES if name in question), None)
        fitting = [t for t in shapes if colour in (None, t.colour) and shape in (None, t.shape)]
        if question.startswith("How many"):
            assert answer == f"{NUMBERS[len(fitting)]}."
        elif question.startswith("Wh") and "colour" in question:
            assert answer.lower() == f"{fitting[0].colour}." and len(fitting) == 1
        elif question.startswith("Where"):
            phrase = {"left": "On the left.", "centre": "In the centre.", "right": "On the right."}
            assert answer == phrase[fitting[0].side]
        else:
            assert answer == listed([named(thing.colour, thing.shape) for thing in state.things])


def test_what_moves_agrees_with_the_places(asked: dict[str, list[Sample]]) -> None:
    for scene, t_s, (_, answer, kind, *_) in itertools.chain(asked["moves"], asked["is_moving"]):
        in_view = {thing.thing_id for thing in scene.state(t_s).things}
        things = [thing for thing in scene.scenario.things if thing.thing_id in in_view]
        steps = [np.hypot(*np.subtract(t.way.at(t_s + 0.05), t.way.at(t_s - 0.3))) for t in things]
        assert any(step > 0.5 for step in steps) == (answer != "Nothing." if kind == "moves" else answer == "Yes.")


def test_existence_agrees_with_what_was_shown(asked: dict[str, list[Sample]]) -> None:
    for scene, t_s, (question, answer, kind, *_) in itertools.chain(asked["is_there"], asked["was_there"]):
        looks = shown_looks(scene, t_s)
        if kind == "was_there":
            looks = {(s.colour, s.shape) for s in sightings(scene, t_s) if s.colour and s.shape}
        colour = next((name for name in COLOURS if name in question), None)
        shape = next((name for name in SHAPES if re.search(rf"\b{name}\b", question)), None)
        fits = any(colour in (None, c) and shape in (None, s) for c, s in looks)
        assert answer == ("Yes." if fits else "No.")


def test_times_agree_with_the_events(asked: dict[str, list[Sample]]) -> None:
    for scene, t_s, (question, answer, kind, *_) in itertools.chain(asked["when_enter"], asked["when_leave"]):
        wanted = EventKind.ENTERS if kind == "when_enter" else EventKind.LEAVES
        fitting = [
            event
            for event in scene.truth
            if event.kind is wanted
            and event.visible_s <= t_s
            and event.shape
            and f"{event.colour} {event.shape}" in question
        ]
        if answer == NEVER:
            assert not fitting
        else:
            (event,) = fitting
            assert answer == timed(remark_text(event), int(event.visible_s))
    for scene, t_s, (question, answer, *_) in asked["span"]:
        first, last = (int(second) for second in re.findall(r"\d+", answer))
        told = [e for e in scene.truth if e.visible_s <= t_s and f"{e.colour} {e.shape}" in question]
        (comes,) = (e for e in told if e.kind is EventKind.ENTERS)
        (ends,) = (e for e in told if e.kind in (EventKind.LEAVES, EventKind.CHANGES_COLOUR))
        assert (first, last) == (int(comes.visible_s), int(ends.visible_s))
        assert answer == f"{timed(remark_text(comes), first)} {timed(remark_text(ends), last)}"
    for scene, t_s, (question, answer, *_) in asked["what_at"]:
        second = int(re.findall(r"\d+", question)[0])
        about = [e for e in scene.truth if abs(e.visible_s - second) <= 1.5 and e.visible_s <= t_s]
        assert (answer == "Nothing.") == (not about)
        assert answer == "Nothing." or answer in map(remark_text, about)


def test_first_last_and_number_agree_with_the_events(asked: dict[str, list[Sample]]) -> None:
    for scene, t_s, (_, answer, kind, *_) in itertools.chain(asked["first"], asked["last"], asked["count_entered"]):
        entered = [e for e in scene.truth if e.kind is EventKind.ENTERS and e.visible_s <= t_s]
        if kind == "count_entered":
            assert answer == f"{NUMBERS[len(entered)]}."
        else:
            event = entered[0 if kind == "first" else -1]
            assert answer == listed([named(event.colour, event.shape)])


def test_shown_time_is_what_answers_say(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(3)
    for scene in scenes:
        sample = questions(scene, 29.0, rng, shown_time=lambda t_s: t_s + 1000.0, kinds=("when_enter", "span"))
        if sample and sample.answer != NEVER:
            assert all(1000 <= int(number) <= 1029 for number in re.findall(r"\d+", sample.answer))
            return
    pytest.fail("no scene had an answer with a time")


def test_no_answer_rests_on_what_was_before_the_memory(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(4)
    num_answered = 0
    for scene in scenes:
        for kind in ("when_enter", "when_view", "span", "last", "what_last", "left_last"):
            sample = questions(scene, 29.0, rng, kinds=(kind,), since_s=15.0)
            if sample is None or sample.answer in (NEVER, "Nothing."):
                continue
            num_answered += 1
            recent = [event for event in scene.truth if event.time_s >= 15.0]
            assert recent
            assert all(int(number) >= 14 for number in re.findall(r"\d+", sample.answer))
    assert num_answered > 20


def test_yes_and_no_and_the_counts_are_balanced(asked: dict[str, list[Sample]]) -> None:
    answers = Counter(sample.answer for kind in YES_NO_KINDS for _, _, sample in asked[kind])
    assert set(answers) == {"Yes.", "No."}
    assert 0.4 < answers["Yes."] / answers.total() < 0.6
    existence = Counter(sample.answer for kind in ("is_there", "was_there") for _, _, sample in asked[kind])
    assert 0.38 < existence["Yes."] / existence.total() < 0.62
    counts = Counter(sample.answer for _, _, sample in asked["count"])
    assert len(counts) >= 3 and max(counts.values()) < 0.55 * counts.total()
    suffixed = [s.question.endswith(YES_NO_SUFFIX) for kind in YES_NO_KINDS for _, _, s in asked[kind]]
    assert 0.4 < np.mean(suffixed) < 0.6


def test_nothing_is_asked_about_what_cannot_happen() -> None:
    rng = np.random.default_rng(2)
    scene = Scene(6, SceneSettings(families=frozenset({Family.SHAPES})))
    kinds = ("is_covered", "is_dark", "is_blurred", "has_been", "when_view")
    assert all(questions(scene, float(t_s), rng, kinds=kinds) is None for t_s in scene.times())


def test_few_moments_allow_no_question(asked: dict[str, list[Sample]], scenes: list[Scene]) -> None:
    assert sum(map(len, asked.values())) > 0.7 * 14 * len(scenes)


# Images and clips.


def test_an_image_shows_what_it_was_made_for() -> None:
    for seed, look in enumerate([("red", "star"), ("black", "circle"), ("yellow", "square")]):
        image = picture_of(seed, look)
        assert shown_looks(image, 0.0) == {look}
        assert not image.truth
        sample = questions(image, 0.5, np.random.default_rng(seed), kinds=PICTURE_KINDS)
        assert sample is not None and sample.kind in PICTURE_KINDS


def test_which_image_is_told_rightly_and_all_four_answers_come() -> None:
    rng = np.random.default_rng(5)
    answers: Counter[str] = Counter()
    for seed in range(60):
        first = picture_of(seed, None)
        second = (
            picture_of(1000 + seed, next(iter(shown_looks(first, 0.0)))) if seed % 2 else picture_of(500 + seed, None)
        )
        question, answer, *_ = which_image(first, second, rng)
        look = next((c, s) for c in COLOURS for s in SHAPES if f"{c} {s}" in question)
        shown = (look in shown_looks(first, 0.0), look in shown_looks(second, 0.0))
        assert answer == {(1, 0): "The first.", (0, 1): "The second.", (1, 1): "Both.", (0, 0): "Neither."}[shown]
        answers[answer] += 1
    assert len(answers) == 4


def test_a_clip_and_an_image_are_compared_rightly(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(6)
    answers: Counter[str] = Counter()
    for index, clip in enumerate(scenes[:60]):
        made = clip_and_image(clip, 10_000 + index, rng)
        seen = {(s.colour, s.shape) for s in sightings(clip, clip.duration_s)}
        if made is None:
            assert seen <= {(None, None)}
            continue
        image, (question, answer, *_) = made
        (shown,) = shown_looks(image, 0.0)
        so = "yes" if shown in seen else "no"
        named_first = f"{listed([named(*shown)]).removesuffix('.')}: {so}."
        assert answer == (f"{so.capitalize()}." if YES_NO_SUFFIX in question else named_first)
        answers[so] += 1
    assert min(answers["yes"], answers["no"]) > 0.3 * answers.total()


# Instructions.


def test_instructions_let_through_what_they_name(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(7)
    owed = [remark for scene in scenes for remark in remarks(scene)]
    seen = set()
    for _ in range(400):
        text, allows = instructions(rng)
        seen.add(text)
        let_through = [remark for remark in owed if allows(remark)]
        if text == "Describe everything.":
            assert len(let_through) == len(owed)
        if text == "Say nothing unless asked.":
            assert not let_through
        if "appears" in text:
            assert all(remark.kind is EventKind.ENTERS for remark in let_through)
            for name in (*COLOURS, *SHAPES):
                if re.search(rf"\b{name}\b", text):
                    assert all(name in remark.text for remark in let_through)
        if text == "Tell me when the view is covered.":
            assert {remark.text for remark in let_through} == {"The view is covered."}
    assert {"Describe everything.", "Say nothing unless asked.", "Tell me when the view is covered."} <= seen


def test_with_a_scene_instructions_mostly_concern_it() -> None:
    rng = np.random.default_rng(8)
    scene = Scene(4, SceneSettings(families=frozenset({Family.SHAPES}), still_probability=0.0, duration_s=60.0))
    concerned = [any(map(instructions(rng, scene).allows, remarks(scene))) for _ in range(200)]
    assert 0.4 < np.mean(concerned) < 0.9


# The corpus.


def test_the_corpus_knows_every_word_that_is_used(scenes: list[Scene], asked: dict[str, list[Sample]]) -> None:
    corpus = list(CORPUS())
    known = set().union(*map(words_of, corpus))
    assert len(known) < 250 and len(corpus) == len(list(CORPUS()))
    rng = np.random.default_rng(9)
    used = [remark.text for scene in scenes for remark in remarks(scene)]
    used += [text for samples in asked.values() for _, _, sample in samples for text in sample[:2]]
    used += [instructions(rng).text for _ in range(300)]
    for text in used:
        assert words_of(text) <= known, text


def test_remarks_put_to_an_instruction_pass_as_often_as_not_and_by_its_meaning() -> None:
    from models.groundtruth.instructions import judged

    rng = np.random.default_rng(8)
    drawn = [judged(rng) for _ in range(400)]
    assert 0.4 < np.mean([passes for _, passes in drawn]) < 0.6
    for text, passes in drawn:
        asked = text.removesuffix(" Answer yes or no.")
        if asked.startswith("Say only when the view is covered."):
            assert passes == asked.endswith("The view is covered.")
        if asked.startswith(("Say nothing", "Be silent", "Speak only when asked", "Do not comment")):
            assert not passes
    of_something = [text for text, _ in drawn if " Something " in text]
    assert len(of_something) > 40, "what half of all remarks say is judged often"


@pytest.mark.parametrize("asked", ["Tell me only when something stops.", "Tell me only when anything appears."])
def test_an_instruction_for_one_deed_is_judged_by_the_other_deeds_of_the_same_things(asked: str) -> None:
    from models.groundtruth.instructions import judged

    rng = np.random.default_rng(9)
    drawn = [(text.removeprefix(asked), passes) for text, passes in (judged(rng) for _ in range(4000)) if asked in text]
    refused = [text for text, passes in drawn if not passes]
    deeds = {text.split()[1] for text in refused if text.startswith(" Something ")}
    assert 0.3 < len(refused) / len(drawn) < 0.7
    assert len(deeds) == 3, "of what enters, leaves, moves and stops it is told one"
