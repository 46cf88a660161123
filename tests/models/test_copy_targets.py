"""Copy targets of answers in training: words of remarks, and times through the remarks' last tokens, which fetch the
digits."""

from __future__ import annotations

import re

import numpy as np
import pytest

from models.checkpoint.loader import Checkpoint
from models.eviction import WindowSettings
from models.session.tokenizer import StreamTokenizer
from models.training.copy_targets import Spelling, with_copies
from models.training.examples import ExampleBuilder, StreamExample, Turn
from models.vision import VisionSettings

REMARKS = [Turn(3.0, "A red circle enters on the left."), Turn(12.5, "The red circle stops in the centre.")]
TIMES = [1.0, 3.0, 8.0, 12.5, 14.0]


@pytest.fixture(scope="module")
def codec(trainee: Checkpoint) -> StreamTokenizer:
    return StreamTokenizer(trainee)


def _told(trainee: Checkpoint, codec: StreamTokenizer, *asides: Turn, shown_from_s: float = 0.0) -> StreamExample:
    window = WindowSettings(4000, 5000, 4000, 5000)
    builder = ExampleBuilder(codec, trainee.special, VisionSettings(), window, shown_offset_s=shown_from_s)
    example = builder.tell(TIMES, REMARKS, begin_s=0.0, asides=asides)
    return with_copies(example, Spelling.of(codec, trainee.special))


def _words(codec: StreamTokenizer, ids: np.ndarray, places: np.ndarray) -> list[str]:
    return [codec.decode([int(ids[place])]).strip() for place in places]


def test_the_end_of_a_remark_fetches_the_digits_of_the_time_before_it(
    trainee: Checkpoint, codec: StreamTokenizer
) -> None:
    example = _told(trainee, codec)
    decode = codec.tokenizer.decode
    fetched = [tuple(decode([int(example.ids[at])])[:10] for at in pair) for pair in example.carries[:, :2].tolist()]
    assert [(token, digit[:1]) for token, digit in fetched] == [
        (".", "3"), ("<|im_end|>", "."), (".", "1"), ("<|im_end|>", "2"), ("\n", "."),
    ]  # fmt: skip
    assert (example.carries[:, 0] > example.carries[:, 1]).all()
    assert example.carries[:, 2].tolist() == [int(str(digit)[:1].isdigit()) for _, digit in fetched]
    later = _told(trainee, codec, shown_from_s=100.0)
    assert codec.decode(later.ids[later.carries[:, 1]].tolist()) == "103112"


def test_every_word_of_a_remark_looks_at_the_last_digit_of_the_time_before_it(
    trainee: Checkpoint, codec: StreamTokenizer
) -> None:
    example = _told(trainee, codec)
    words: dict[int, list[int]] = {}
    for word, digit in example.dated.tolist():
        words.setdefault(digit, []).append(int(example.ids[word]))
    assert [codec.decode([int(example.ids[digit])]) for digit in words] == ["3", "2"], "of 3 and 12 seconds"
    assert [codec.decode(said[:-1]) for said in words.values()] == [turn.text for turn in REMARKS]
    assert {said[-1] for said in words.values()} == {codec.closing[0]}


@pytest.mark.parametrize(("shown_from_s", "second"), [(0.0, "12"), (90.0, "102")])
def test_a_time_is_copied_from_the_tokens_that_fetch_it(
    trainee: Checkpoint, codec: StreamTokenizer, shown_from_s: float, second: str
) -> None:
    asked = Turn(14.0, f"At {second} seconds.", "When did the red circle stop?", rests_on=(12.5,))
    example = _told(trainee, codec, asked, shown_from_s=shown_from_s)
    asides, fetches = example.asides, dict(example.carries[:, :2].tolist())
    read = [codec.decode([int(example.ids[fetches[place]])])[:1] for place in asides.copies[:, 1].tolist()]
    assert "".join(read) == (second + ".")[:3], "what follows three digits need not be fetched"
    assert codec.decode(asides.labels[asides.copies[:, 0]].tolist()[: len(second)]) == second


def test_both_ends_of_a_span_come_from_their_own_remarks(trainee: Checkpoint, codec: StreamTokenizer) -> None:
    asked = Turn(14.0, "From 3 to 12 seconds.", "From when to when was it in view?", rests_on=(3.0, 12.5))
    example = _told(trainee, codec, asked)
    assert example.asides.copies[:, 1].tolist() == example.carries[:, 0].tolist()
    labels = example.asides.labels[example.asides.copies[:, 0]].tolist()
    assert [codec.decode([labels[at]]) for at in (0, 2, 3)] == ["3", "1", "2"]


def test_what_stands_before_a_time_is_copied_from_its_own_remark_word_by_word(
    trainee: Checkpoint, codec: StreamTokenizer
) -> None:
    text = "A red circle enters on the left at 3 seconds. The red circle stops in the centre at 12 seconds."
    example = _told(trainee, codec, Turn(14.0, text, "From when to when did it move?", rests_on=(3.0, 12.5)))
    asides, ends = example.asides, set(example.carries[:, 0].tolist())
    words = [pair for pair in asides.copies.tolist() if pair[1] not in ends]
    said = [codec.decode([int(asides.labels[at])]).strip() for at, _ in words]
    assert " ".join(said) == "A red circle enters on the left The red circle stops in the centre"
    assert _words(codec, example.ids, np.array(words)[:, 1]) == said
    assert (np.diff([place for _, place in words]) > 0).all(), "the second remark's words are not sought in the first"
    fetched = [codec.decode([int(asides.labels[at])]) for at, place in asides.copies.tolist() if place in ends]
    assert "".join(text for text in fetched if text.isdigit()) == "312"


def test_other_words_are_copied_from_the_remark_that_the_answer_rests_on(
    trainee: Checkpoint, codec: StreamTokenizer
) -> None:
    example = _told(trainee, codec, Turn(14.0, "A red circle.", "What entered first?", rests_on=(3.0,)))
    copies = example.asides.copies
    assert _words(codec, example.asides.labels, copies[:, 0]) == ["A", "red", "circle"]
    assert _words(codec, example.ids, copies[:, 1]) == ["A", "red", "circle"]
    assert len(_told(trainee, codec, Turn(14.0, "No.", "Was it dark?", rests_on=())).asides.copies) == 0


def test_a_time_that_does_not_stand_there_is_not_copied(trainee: Checkpoint, codec: StreamTokenizer) -> None:
    asked = Turn(14.0, "At 11 seconds.", "When did the red circle stop?", rests_on=(12.5,))
    assert len(_told(trainee, codec, asked).asides.copies) == 0


def test_a_time_in_a_question_is_matched_by_the_token_that_fetches_its_last_digit(
    trainee: Checkpoint, codec: StreamTokenizer
) -> None:
    asked = [
        Turn(14.0, "The red circle stops in the centre.", "What happened at 12 seconds?", rests_on=(12.5,)),
        Turn(14.0, "Nothing.", "What happened at 9 seconds?", rests_on=()),
    ]
    example = _told(trainee, codec, *asked)
    asides, fetches = example.asides, dict(example.carries[:, :2].tolist())
    (there, nowhere) = asides.matches.tolist()
    assert codec.decode([int(asides.ids[there[0]])]) == codec.decode([int(example.ids[fetches[there[1]]])]) == "2"
    assert codec.decode([int(asides.ids[nowhere[0]])]) == "9" and nowhere[1] == 0


def test_a_second_without_a_remark_is_matched_by_the_remark_a_second_beside_it(
    trainee: Checkpoint, codec: StreamTokenizer
) -> None:
    def matched(second: int) -> list[int]:
        asked = Turn(14.0, "The red circle stops.", f"What happened at {second} seconds?", rests_on=(12.5,))
        return _told(trainee, codec, asked).asides.matches[:, 1].tolist()

    assert matched(11) == matched(13) == matched(12) != [0]
    assert matched(10) == [0]


def test_a_remark_that_came_after_the_question_is_not_copied(trainee: Checkpoint, codec: StreamTokenizer) -> None:
    example = _told(trainee, codec, Turn(8.0, "A red circle.", "What entered last?", rests_on=(3.0,)))
    said = codec.decode(example.ids[: int(example.asides.copies[:, 1].max()) + 1].tolist())
    assert re.search(r"A red circle$", said) and example.asides.copies[:, 1].max() <= example.asides.after[0]
