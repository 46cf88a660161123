"""A question about a time that the model forgot is answered from the timeline, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.events import StatusEvent, StatusKind
from assistant.timeline.moments import find_moment
from assistant.timeline.recall import Recall
from assistant.timeline.sink import ChannelSink
from assistant.timeline.store import Timeline
from streaming.clock import FakeClock
from tests.assistant.timelines import alert, keeper_with, picture, remark

NOW = datetime(2026, 11, 22, 15, 0)
"""A Sunday."""
NOW_S = NOW.timestamp()


def shown(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s).strftime("%d %H:%M:%S")


@pytest.mark.parametrize(
    ("question", "start", "end"),
    [
        ("What happened at 10:15?", "22 10:14:00", "22 10:17:00"),
        ("at 10:15:30", "22 10:15:20", "22 10:15:41"),
        ("Who was there around noon?", "22 11:55:00", "22 12:06:00"),
        ("at 3:30 pm", "21 15:29:00", "21 15:32:00"),
        ("yesterday at 10:15 pm?", "21 22:14:00", "21 22:17:00"),
        ("on 2026-11-20 at 10:15", "20 10:14:00", "20 10:17:00"),
        ("on Monday at 9 o'clock", "16 08:55:00", "16 09:06:00"),
        ("Who came 20 minutes ago?", "22 14:38:00", "22 14:42:00"),
        ("an hour ago was there a red circle", "22 13:54:00", "22 14:06:00"),
        ("half an hour ago", "22 14:27:00", "22 14:33:00"),
        ("two days ago", "20 00:00:00", "21 00:00:00"),
        ("in the last 10 minutes", "22 14:50:00", "22 15:00:00"),
        ("during the past hour", "22 14:00:00", "22 15:00:00"),
        ("this morning", "22 05:00:00", "22 12:00:00"),
        ("this afternoon", "22 12:00:00", "22 15:00:00"),
        ("last night", "21 18:00:00", "22 06:00:00"),
        ("yesterday morning", "21 05:00:00", "21 12:00:00"),
        ("today", "22 00:00:00", "22 15:00:00"),
        ("between 9 and 10:30", "22 09:00:00", "22 10:30:00"),
        ("from 1 to 2 pm", "22 13:00:00", "22 14:00:00"),
        ("between 22:00 and 1:00", "21 22:00:00", "22 01:00:00"),
        ("since 9:00", "22 09:00:00", "22 15:00:00"),
    ],
)
def test_times_in_a_question_are_understood(question: str, start: str, end: str) -> None:
    moment = find_moment(question, NOW_S)
    assert moment is not None and (shown(moment.start_s), shown(moment.end_s)) == (start, end)


@pytest.mark.parametrize(
    "question",
    [
        "What is on the left?",
        "How many circles are there now?",
        "Is there 1 circle at 3?",
        "What is the last thing you saw?",
        "at 25:00",
        "at 13 pm",
        "on 2026-02-30",
        "in 5 minutes",
        "Is this a test?",
        "tomorrow at noon, 2027-01-01",
        "99999 weeks ago",
    ],
)
def test_other_questions_name_no_time(question: str) -> None:
    assert find_moment(question, NOW_S) is None


@given(st.text(st.sampled_from("0123456789: apmago-betwn lst'")))
def test_no_question_breaks_it(question: str) -> None:
    find_moment(question, NOW_S)
    find_moment(question, NOW_S, 100.0)


@pytest.mark.parametrize(
    ("question", "middle_s"),
    [("What was there at 1:20?", 80.0), ("at second 12", 12.0), ("at 12.5 s", 12.5), ("10 seconds ago", 90.0)],
)
def test_in_a_recording_times_are_its_own(question: str, middle_s: float) -> None:
    moment = find_moment(question, NOW_S, 100.0)
    assert moment is not None and moment.in_media and moment.start_s == middle_s - 2
    beyond = find_moment("at 10:15", NOW_S, 100.0)
    assert beyond is not None and not beyond.in_media


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now_s=50_000.0, wall_s=NOW_S)


@pytest.fixture
def timeline(tmp_path: Path, clock: FakeClock) -> Iterator[Timeline]:
    """A morning at the door, and one remark in the hall."""
    with Timeline(tmp_path, clock=clock) as timeline:
        for time_of_day, text in (
            ("09:00:10", "A cyclist passes."),
            ("10:14:50", "A red circle enters on the left."),
            ("10:15:20", "A blue square stops."),
            ("10:15:40", "The red circle leaves."),
        ):
            timeline.record(remark(4, text), camera="door", wall_s=at(time_of_day))
        timeline.record(alert("Fire!"), camera="hall", wall_s=at("10:15:00"))
        yield timeline


def at(time_of_day: str) -> float:
    return datetime.fromisoformat(f"2026-11-22T{time_of_day}").timestamp()


def recalled(timeline: Timeline, clock: FakeClock, question: str, **more: float) -> str | None:
    found = Recall(timeline.reader, clock, camera="door").answer(
        question, media_s=more.get("media_s", 20_000.0), oldest_s=more.get("oldest_s", 19_940.0)
    )
    return found.text if found else None


def test_what_was_noted_then_is_told_with_its_times(timeline: Timeline, clock: FakeClock) -> None:
    assert recalled(timeline, clock, "What happened at 10:15?") == (
        "From the timeline (10:14:00 to 10:17:00): 10:14:50 A red circle enters on the left. 10:15:20 A blue square"
        " stops. 10:15:40 The red circle leaves."
    )


def test_the_question_s_own_words_pick_what_is_told(timeline: Timeline, clock: FakeClock) -> None:
    text = recalled(timeline, clock, "Did red circles come in at 10:15?")
    assert text is not None and '2 of 3 notes mention "red circles come": 10:14:50' in text and "blue" not in text
    text = recalled(timeline, clock, "Was there a dog at 10:15?")
    assert text is not None and 'nothing noted then mentions "dog"; what was noted: 10:14:50' in text


def test_what_the_model_still_remembers_is_left_to_it(timeline: Timeline, clock: FakeClock) -> None:
    assert recalled(timeline, clock, "What happened 20 seconds ago?") is None
    assert recalled(timeline, clock, "What happened 20 seconds ago?", oldest_s=19_990.0) is not None
    assert recalled(timeline, clock, "What is on the left?") is None


def test_where_nothing_was_noted_it_says_what_was_before_and_after(timeline: Timeline, clock: FakeClock) -> None:
    assert recalled(timeline, clock, "What happened at 9:30?") == (
        "From the timeline (09:29:00 to 09:32:00): nothing was noted then; the last before it: 09:00:10 A cyclist"
        " passes. the next: 10:14:50 A red circle enters on the left."
    )
    text = recalled(timeline, clock, "What happened at 8:00?")
    assert text is not None and text.endswith("nothing was kept of then or before.")


def test_where_it_was_not_watched_it_says_so(timeline: Timeline, clock: FakeClock) -> None:
    away = StatusEvent(source="cam", time_s=1.0, text="gone", reason="gone", kind=StatusKind.RECONNECTING)
    timeline.record(away, camera="door", wall_s=at("11:00:00"))
    text = recalled(timeline, clock, "What happened at noon?")
    assert text is not None and text.endswith("it was not watched then (reconnecting since 11:00:00).")


def test_all_cameras_can_be_asked_at_once(timeline: Timeline, clock: FakeClock) -> None:
    found = Recall(timeline.reader, clock).answer("What happened at 10:15?", media_s=0.0, oldest_s=0.0)
    assert found is not None and "10:15:00 hall: Fire!" in found.text and "10:14:50 door: A red" in found.text


def test_kept_frames_of_then_come_with_it(timeline: Timeline, clock: FakeClock) -> None:
    past = FakeClock(wall_s=at("10:15:00"))
    keeper = keeper_with(6, past)
    ChannelSink(timeline, "door", keeper=keeper).append(remark(5, "A star stops."))
    found = Recall(timeline.reader, clock, camera="door").answer("At 10:15?", media_s=9_000.0, oldest_s=8_990.0)
    assert found is not None and "3 pictures of then are kept." in found.text
    pictures = found.pictures(2)
    assert len(pictures) == 2 and abs(pictures[0].astype(int) - picture()).max() < 12
    said = found.as_answer("At 10:15?", source="cam", time_s=9_000.0)
    assert (said.reason, said.text, said.question, said.time_s) == ("timeline", found.text, "At 10:15?", 9_000.0)
    both = found.with_words_of_the_model("A grey wall.", 2)
    assert both.startswith(found.text) and both.endswith("The model, shown 2 pictures kept of then: A grey wall.")


def test_a_recording_is_asked_by_its_own_time(timeline: Timeline, clock: FakeClock) -> None:
    sink = ChannelSink(timeline, "clip")
    sink.append(remark(40, "A green star enters."))
    ChannelSink(timeline, "clip").append(remark(40, "Another run."))
    recall = Recall(timeline.reader, clock, camera="clip", run=sink.run)
    found = recall.answer("What happened at 0:20?", media_s=300.0, oldest_s=200.0, is_live=False)
    assert found is not None and found.text == (
        "From the timeline (00:18.0 to 00:22.0 of the recording): 00:20.0 A green star enters."
    )
    assert recall.answer("What happened at 4:00?", media_s=300.0, oldest_s=200.0, is_live=False) is None


def test_a_busy_time_is_told_in_few_words(timeline: Timeline, clock: FakeClock) -> None:
    for minute in range(60):
        timeline.record(remark(minute, f"Number {minute}."), camera="door", wall_s=at("13:00:00") + 60 * minute)
    text = recalled(timeline, clock, "What happened between 13:00 and 14:00?")
    assert text is not None and "Number 0." in text and "Number 59." in text and text.endswith("And 54 more.")
