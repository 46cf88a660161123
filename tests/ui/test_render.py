from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest

from assistant.events import Answer, StatusEvent, StatusKind
from assistant.viewers.feed import Feed
from tests.assistant.streams import remark
from ui.render import MOST_SHOWN, messages
from ui.safe import literal, with_time_links

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "</span></span><h1>**bold** `code` $$x$$",
    "http://evil.example www.evil.example a@b.example",
    "# heading\n- list\n> quote\n```\ncode",
    '" onmouseover="alert(1)',
    "&lt;b&gt; &#60;i&#62;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_others_holds_no_markup_at_all(text: str) -> None:
    shown = literal(text).replace("<br>", "")
    assert re.fullmatch(r"(?:\w| |&#\d+;)*", shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_feed_shows_hostile_text_letter_by_letter(text: str) -> None:
    feed = Feed()
    feed.add(remark(text))
    feed.fail_answer(feed.begin_answer(text, 1.0, attached=text).id, text)
    for message in messages(feed.items()):
        assert literal(text) in message["content"]
        tags = set(re.findall(r"</?(\w+)", message["content"]))
        assert tags <= {"span", "a", "br"}
        assert set(re.findall(r'href="(.*?)"', message["content"])) <= {"#sva-event-1", "#sva-event-2"}


def test_a_question_stands_before_its_answer_with_badge_time_and_delay() -> None:
    feed = Feed()
    asked = "What is on the left?"
    item = feed.begin_answer(asked, 12.0, "cat.jpg")
    waiting = messages(feed.items())[1]["content"]
    feed.finish_answer(
        item.id, Answer(source="s", time_s=12.5, text="A cat.", latency_ms=340.0, question=asked, asked_at_s=12.0)
    )
    question, answer = messages(feed.items())
    assert question["role"] == "user" and "cat&#46;jpg" in question["content"]
    assert "answering" in waiting and "answering" not in answer["content"]
    assert answer["role"] == "assistant"
    for part in ("Answer", literal("00:12.5"), literal("0.3 s"), literal("A cat.")):
        assert part in answer["content"]


def test_times_in_answers_are_links_and_those_of_status_lines_are_not() -> None:
    feed = Feed()
    item = feed.begin_answer("When?", 90.0)
    text = "At 0:12 and 75.5 s, not at 12:99 or in 5 squares."
    feed.finish_answer(item.id, Answer(source="s", time_s=90.0, text=text, question="When?", asked_at_s=90.0))
    feed.add(StatusEvent(source="s", time_s=0.0, text="60.0 s long", kind=StatusKind.OPENED))
    _, answer, status = messages(feed.items())
    assert re.findall(r"#sva-moment-([\d.]+)", answer["content"])[:2] == ["12.000", "75.500"]
    assert "sva-moment" not in status["content"]


def test_link_text_is_escaped_too() -> None:
    assert with_time_links("0:01", lambda seconds, shown: shown) == "0&#58;01"


def test_another_source_is_set_apart() -> None:
    from dataclasses import replace

    feed = Feed()
    for source in ("scene", "scene", "<b>Webcam"):
        feed.add(replace(remark("It moves."), source=source))
    contents = [message["content"] for message in messages(feed.items())]
    assert [content for content in contents if "sva-divider" in content] == [contents[2]]
    assert literal("<b>Webcam") in contents[2]


@pytest.mark.parametrize(("text", "shown"), [("Something leaves", "Something leaves…"), ("It is dark.", "It is dark.")])
def test_a_remark_that_was_left_off_shows_it_but_where_all_was_said(text: str, shown: str) -> None:
    feed = Feed()
    feed.add(replace(remark(text), reason="cut_short"))
    (message,) = messages(feed.items())
    words = re.search(r'sva-text">(.*?)</span>', message["content"])
    assert words is not None and html.unescape(words[1]) == shown


def test_long_feeds_are_cut_to_the_newest() -> None:
    feed = Feed()
    for number in range(MOST_SHOWN + 50):
        feed.add(remark(f"number {number}"))
    shown = messages(feed.items())
    assert len(shown) == MOST_SHOWN and literal(f"number {MOST_SHOWN + 49}") in shown[-1]["content"]
