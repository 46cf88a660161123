"""The order of what is said: urgency, staleness, a bounded queue, and pieces of growing text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistant.speech.announcements import Announcement, Freshness, SpeechQueue, SpokenKind, Unspoken
from assistant.speech.clauses import ClauseSplitter, clauses

REMARK, ALERT, ANSWER = SpokenKind.REMARK, SpokenKind.ALERT, SpokenKind.ANSWER


def of(kind: SpokenKind, text: str, at_s: float = 0.0) -> Announcement:
    return Announcement.of_text(kind, text, at_s)


def test_the_most_urgent_is_said_first_and_of_one_kind_the_first_put() -> None:
    queue = SpeechQueue()
    for kind, text in ((REMARK, "one"), (ALERT, "two"), (ALERT, "three"), (ANSWER, "four")):
        queue.put(of(kind, text), 0.0)
    order = [queue.next(0.0)[0] for _ in range(5)]
    assert [u.text if u else None for u in order] == ["four", "two", "three", "one", None]


def test_a_stale_remark_is_dropped_with_its_age_and_a_fresh_one_is_said() -> None:
    queue = SpeechQueue(Freshness(remark_s=4.0))
    queue.put(of(REMARK, "late", 0.0), 0.0)
    queue.put(of(REMARK, "fresh", 3.0), 3.0)
    said, (dropped,) = queue.next(4.5)
    assert said is not None and said.text == "fresh"
    assert (dropped.announcement.text, dropped.why, dropped.after_s) == ("late", Unspoken.STALE, 4.5)
    assert dropped.sentence.startswith("remark not said aloud: its turn came 4.5 s after it")
    assert queue.counts == {Unspoken.STALE: 1}


def test_too_many_that_wait_cost_the_oldest_remark_and_no_alert() -> None:
    queue = SpeechQueue(Freshness(most_waiting=3))
    for text in ("a", "b"):
        queue.put(of(ALERT, text), 0.0)
    assert queue.put(of(REMARK, "c", 0.0), 0.0) == []
    (dropped,) = queue.put(of(REMARK, "d", 1.0), 1.0)
    assert (dropped.announcement.text, dropped.why) == ("c", Unspoken.CROWDED) and len(queue) == 3


def test_an_answer_that_is_awaited_holds_the_others_until_its_words_come() -> None:
    queue = SpeechQueue()
    answer = Announcement(ANSWER, 0.0)
    queue.put(answer, 0.0)
    queue.put(of(ALERT, "door"), 0.0)
    assert queue.next(0.0) == (None, [])
    answer.feed("It is on the left, ")
    assert queue.next(0.0)[0] is answer and answer.take() == "It is on the left,"


def test_an_answer_without_a_word_holds_nobody() -> None:
    queue = SpeechQueue()
    answer = Announcement(ANSWER, 0.0)
    queue.put(answer, 0.0)
    queue.put(of(REMARK, "door"), 0.0)
    answer.end()
    said, _ = queue.next(0.0)
    assert said is not None and said.text == "door"


def test_only_something_more_urgent_interrupts() -> None:
    queue = SpeechQueue()
    queue.put(of(ALERT, "door"), 0.0)
    assert queue.is_more_urgent(of(REMARK, "x"))
    assert not queue.is_more_urgent(of(ALERT, "x")) and not queue.is_more_urgent(of(ANSWER, "x"))


@given(st.text("ab .,;!?3\n", max_size=400), st.lists(st.integers(1, 30)))
def test_pieces_have_all_words_in_order_however_the_text_comes(text: str, cuts: list[int]) -> None:
    splitter, found, rest = ClauseSplitter(), [], text
    for cut in cuts:
        found += splitter.feed(rest[:cut])
        rest = rest[cut:]
    found += [*splitter.feed(rest), *splitter.flush()]
    assert " ".join(found).split() == text.split()
    assert found == clauses(text) and all(piece.strip() == piece != "" for piece in found)


def test_the_first_clause_is_complete_before_its_sentence_is() -> None:
    splitter = ClauseSplitter()
    assert splitter.feed("A person came in at the door, and") == ["A person came in at the door,"]
    assert splitter.feed(" then left, and was gone") == []
    assert splitter.feed(". So") == ["and then left, and was gone."]


def test_text_without_a_mark_is_cut_at_a_space() -> None:
    pieces = clauses("First it began. " + "word " * 100)
    assert max(len(piece) for piece in pieces) <= 240 and "".join(pieces).count("word") == 100
