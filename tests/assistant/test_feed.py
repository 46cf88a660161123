from __future__ import annotations

from assistant.events import Answer, StatusEvent, StatusKind
from assistant.viewers.feed import Badge, Feed
from tests.assistant.streams import remark


def answer(text: str) -> Answer:
    return Answer(source="s", time_s=3.0, text=text, question="What?", asked_at_s=2.0)


def status(kind: StatusKind) -> StatusEvent:
    return StatusEvent(source="s", time_s=1.0, text=kind.value, kind=kind)


def test_filters_keep_answers_that_are_still_coming() -> None:
    feed = Feed()
    feed.add(remark("one"))
    feed.begin_answer("What?", 2.0)
    feed.add(status(StatusKind.EVICTED))
    assert [item.badge for item in feed.items({Badge.MEMORY})] == [Badge.ANSWER, Badge.MEMORY]
    assert [item.badge for item in feed.items()] == [Badge.REMARK, Badge.ANSWER, Badge.MEMORY]


def test_an_answer_grows_and_then_stands() -> None:
    feed = Feed()
    item = feed.begin_answer("What?", 2.0, "cat.jpg")
    for piece in ("A red", " circle"):
        feed.say(item.id, piece)
    now = feed.get(item.id)
    assert now is not None and now.text == "A red circle" and now.is_open and feed.num_open == 1
    feed.finish_answer(item.id, answer("A red circle."))
    feed.say(item.id, " too late")
    now = feed.get(item.id)
    assert now is not None and now.text == "A red circle." and not now.is_open and now.attached == "cat.jpg"


def test_a_failed_answer_keeps_its_question_and_what_was_said() -> None:
    feed = Feed()
    silent, begun = feed.begin_answer("A?", 0.0), feed.begin_answer("B?", 0.0)
    feed.say(begun.id, "Half an")
    feed.fail_answer(silent.id, "too many questions")
    feed.fail_answer(begun.id, "stopped")
    first, second = feed.items()
    assert (first.question, first.text, first.is_error) == ("A?", "too many questions", True)
    assert (second.question, second.text, second.is_error) == ("B?", "Half an", False)


def test_old_items_leave_and_open_answers_stay() -> None:
    feed = Feed(most_items=10)
    open_item = feed.begin_answer("Still?", 0.0)
    for number in range(30):
        feed.add(remark(str(number)))
    items = feed.items()
    assert len(items) == 10 and items[0].id == open_item.id and items[-1].text == "29"


def test_listeners_hear_every_change_until_they_leave() -> None:
    feed = Feed()
    heard: list[int] = []
    leave = feed.listen(lambda: heard.append(feed.version))
    item = feed.begin_answer("A?", 0.0)
    feed.say(item.id, "x")
    leave()
    feed.clear()
    assert heard == [1, 2] and feed.version == 3
