"""Scoring of real footage by its words: what an oracle, silence and several kinds of chatter score."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app import run
from assistant.errors import AssistantError
from assistant.evaluation.footage_labels import evaluate_footage, read_labels
from assistant.evaluation.footage_scoring import Fact, score_picture, score_words, summarise_words
from assistant.evaluation.report import run_footage
from assistant.evaluation.tables import footage_as_table
from assistant.evaluation.watching import evaluate_clips
from models.checkpoint.loader import load_checkpoint
from models.engine import Engine
from models.groundtruth.remarks import COUNT_WORDS, named_text, parse
from streaming.scenes.object_names import NAMES, PLURALS
from streaming.scenes.scenario import EventKind
from tests.clips import write_clip

STREET = (
    Fact(2.0, 3.0, ("enters",), ("person",), ("left",), owed=True),
    Fact(2.5, 9.0, ("starts",), ("person",), ("left", "centre"), ("right",)),
    Fact(9.0, 10.5, ("leaves",), ("person",), ("right",), owed=True),
    Fact(14.0, 15.0, ("enters",), ("car", "truck"), ("right",), owed=True),
    Fact(17.0, 18.5, ("stops",), ("car",), ("centre",), owed=True),
    Fact(22.0, 23.0, ("enters",), ("person",), ("bottom",), count=2, owed=True),
    Fact(26.0, 27.0, ("enters",), ("dog",), ("left",), owed=True),
    Fact(30.0, 31.0, ("enters",), (), ("top",), owed=True),
)
ORACLE = (
    (2.5, "A person enters on the left."),
    (9.5, "The person leaves on the right."),
    (14.5, "A car enters on the right."),
    (17.5, "The car stops in the centre."),
    (22.5, "Two people enter at the bottom."),
    (26.5, "A dog enters on the left."),
    (30.5, "Something enters at the top."),
)
SECONDS = [index / 2 for index in range(80)]


def _summary(*said: tuple[float, str], facts: tuple[Fact, ...] = STREET) -> dict[str, Any]:
    return summarise_words([score_words("street.mp4", facts, said, 40.0)])


def _value(found: dict[str, Any]) -> float:
    return float(found["value"])


def test_an_oracle_scores_one_everywhere() -> None:
    values = _summary(*ORACLE)
    assert [_value(values[key]) for key in ("true", "told", "named", "named_wrongly")] == [1.0, 1.0, 1.0, 0.0]
    assert values["by_group"]["people"]["right"]["asked"] == 3 and values["named"]["asked"] == 6
    assert "owed events told within 2 s        1.000" in footage_as_table(values)


def test_silence_says_nothing_false_and_tells_nothing() -> None:
    values = _summary()
    assert values["true"]["value"] is None and values["named"]["value"] is None
    assert (_value(values["told"]), values["told"]["asked"]) == (0.0, 7)


def _renamed(subject: str) -> list[tuple[float, str]]:
    """What the oracle says, each thing called the same."""
    one = [(time_s, text.replace("enter at", "enters at")) for time_s, text in ORACLE]
    return [(time_s, re.sub(r"^(Something|\w+ \w+) (?=enters|leaves|stops)", subject, text)) for time_s, text in one]


def test_one_who_never_names_is_true_and_names_nothing() -> None:
    values = _summary(*_renamed("Something "))
    assert (_value(values["true"]), _value(values["told"])) == (1.0, 1.0)
    assert (_value(values["named"]), _value(values["named_wrongly"])) == (0.0, 0.0)


def test_one_who_always_says_person_is_right_of_people_alone() -> None:
    values = _summary(*_renamed("A person "))
    assert (values["by_group"]["people"]["right"]["right"], values["named_wrongly"]["right"]) == (3, 3)
    assert (values["true"]["right"], _value(values["told"])) == (3, 1.0)


def test_a_spammer_of_every_remark_tells_all_and_is_hardly_ever_true() -> None:
    spam = [
        (t, named_text(EventKind.ENTERS, name, side)) for t in SECONDS for name in NAMES for side in ("left", "right")
    ]
    values = _summary(*spam)
    assert _value(values["true"]) < 0.02


def test_a_spammer_of_one_true_remark_says_the_same_again() -> None:
    values = _summary(*[(time_s, "The person moves on the left.") for time_s in SECONDS if 2.5 <= time_s <= 8.5])
    assert (values["true"]["right"], values["repeated"]) == (2, 11)


def test_words_are_held_against_place_way_kind_and_time() -> None:
    wrong = (
        (2.5, "A person enters on the right."),
        (5.0, "The person starts moving left."),
        (5.0, "The person stops in the centre."),
        (12.9, "A car enters on the right."),
        (16.8, "A car enters on the right."),
        (22.5, "Three people enter at the bottom."),
        (35.0, "The camera moves."),
        (35.0, "Hello."),
    )
    assert _summary(*wrong)["true"]["right"] == 0
    assert (
        _summary((5.0, "The person starts moving right."), (22.5, "A person enters at the bottom."))["true"]["right"]
        == 2
    )


def test_what_is_told_too_late_is_true_and_not_told() -> None:
    long = (Fact(2.0, 9.0, ("starts",), ("dog",), owed=True),)
    values = _summary((5.0, "The dog moves on the left."), facts=long)
    assert (_value(values["true"]), _value(values["told"])) == (1.0, 0.0)


def test_people_one_by_one_may_be_told_together_or_apart() -> None:
    both = tuple(Fact(start, start + 1, ("enters",), ("person",), ("left",), owed=True) for start in (4.0, 4.6))
    together = _summary((5.0, "Two people enter on the left."), facts=both)
    apart = _summary(*[(time_s, "A person enters on the left.") for time_s in (4.5, 5.0, 5.5)], facts=both)
    assert (_value(together["told"]), _value(together["true"])) == (1.0, 1.0)
    assert (_value(apart["told"]), apart["true"]["right"], apart["repeated"]) == (1.0, 2, 1)
    crowd = (Fact(0.0, 30.0, ("starts",), ("person",), count=7),)
    assert _value(_summary((4.0, "Several people are walking."), facts=crowd)["true"]) == 1.0
    assert _value(_summary((4.0, "Several people are walking."), facts=both)["true"]) == 0.0


def test_a_clip_without_facts_counts_false_alarms() -> None:
    quiet = score_words("room.mp4", (), [(3.0, "It gets dark.")], 1800.0)
    assert summarise_words([quiet])["quiet"]["value"] == 2.0
    shape = score_words(
        "shape.mp4", (Fact(1, 2, ("enters",), ("red circle",)),), [(1.0, "A red circle enters on the left.")], 9.0
    )
    assert (shape.num_true, summarise_words([shape])["quiet"]["value"]) == (1, None)


@pytest.mark.parametrize(
    ("answer", "named", "wrong"),
    [
        ("A dog.", True, False),
        ("Two dogs and a ball.", True, False),
        ("A cat.", False, True),
        ("A dog and a cat.", True, True),
        ("Something.", False, False),
        ("A doghouse.", False, False),
    ],
)
def test_a_photograph_wants_its_main_thing_and_nothing_that_is_not_there(answer: str, named: bool, wrong: bool) -> None:
    found = score_picture("a.jpg", answer, ["dog"], ["ball"])
    assert (found.named, found.wrong) == (named, wrong)


def test_named_remarks_are_read_back() -> None:
    for name in NAMES:
        one = parse(named_text(EventKind.LEAVES, name, "right"))
        assert one == {"object": name, "action": "leaves", "side": "right"}
        for count in (*range(2, 6), 9):
            several = parse(named_text(EventKind.STARTS, name, "centre", count))
            assert several == {
                "object": name,
                "count": str(count) if count < 6 else "several",
                "action": "starts",
                "side": "centre",
            }
    assert parse("Several people are walking.") == {"object": "person", "count": "several", "action": "starts"}
    assert len(set(PLURALS.values())) == len(NAMES) == 19 and len(COUNT_WORDS) == 5
    assert parse("Two unicorns enter on the left.") == parse("Six people enter on the left.") == {}


# ---- the file -------------------------------------------------------------------------------------------------------


def _folder(path: Path, **entries: Any) -> Path:
    write_clip(path / "a.mp4", num_frames=50)
    Image.fromarray(np.full((60, 90, 3), 90, np.uint8)).save(path / "b.jpg")
    (path / "events.json").write_text(json.dumps(entries), encoding="utf-8")
    return path


FACT = {"start_s": 0.5, "end_s": 1.0, "kinds": ["enters"]}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"activity": []}, r"a\.mp4\.facts: Field required"),
        ({"facts": [{**FACT, "kinds": ["arrives"]}]}, r"kinds arrives: known are enters, .*; write one of them"),
        ({"facts": [{**FACT, "names": ["human"]}]}, r"names human: known are person, .*red circle"),
        ({"facts": [{**FACT, "sides": ["north"]}]}, r"sides north: known are left"),
        ({"facts": [{**FACT, "end_s": 0.1}]}, r"end_s 0\.1 lies before start_s 0\.5; exchange them"),
        ({"facts": [{**FACT, "owned": True}]}, r"a\.mp4\.facts\.0\.owned: Extra inputs"),
        ({"facts": [], "questions": [{"at_s": 1, "question": "What?"}]}, r"questions\.0\.answers"),
        (3, r"a\.mp4: "),
    ],
)
def test_labels_that_are_none_are_one_clear_error(tmp_path: Path, entry: Any, problem: str) -> None:
    folder = _folder(tmp_path, **{"a.mp4": entry})
    with pytest.raises(AssistantError, match=rf"events\.json: .*{problem}.*docs/footage\.md"):
        read_labels(folder)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssistantError, match=r"no events\.json"):
        read_labels(tmp_path)
    folder = _folder(tmp_path, **{"gone.mp4": {"facts": []}})
    with pytest.raises(AssistantError, match=r"gone\.mp4: no such file"):
        read_labels(folder)
    (tmp_path / "events.json").write_text("{", encoding="utf-8")
    with pytest.raises(AssistantError, match=r"events\.json: .*mend the entry"):
        read_labels(tmp_path)


def test_clips_and_photographs_of_a_folder_are_scored(tmp_path: Path) -> None:
    question = {"at_s": 1.0, "question": "Is anything moving?", "answers": ["No.", "Yes."]}
    folder = _folder(
        tmp_path,
        **{
            "a.mp4": {"facts": [], "questions": [question], "minor": []},
            "b.jpg": {"main": ["dog"], "others": ["ball"]},
        },
    )
    engine = Engine(load_checkpoint(progress=False))
    clips, pictures = evaluate_footage(engine, folder)
    assert [(clip.name, clip.is_quiet, round(clip.hours * 3600)) for clip in clips] == [("a.mp4", True, 2)]
    assert clips[0].answers[0][2] and pictures[0].answer and not pictures[0].named
    assert [score.name for score in evaluate_clips(engine, folder)] == ["a.mp4"]
    values, table = run_footage(engine, folder, 0.0, progress=False)
    assert values["answers"]["value"] == 1.0 and json.dumps(values) and "a.mp4" in table


def test_footage_is_scored_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--footage", str(tmp_path), "--clips", str(tmp_path)]) != 0
    assert "--footage: it cannot be combined with --clips or --task; leave those out" in capsys.readouterr().err
