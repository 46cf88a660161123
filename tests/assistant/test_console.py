"""What a person reads, and what a program reads."""

from __future__ import annotations

import io
import json

import pytest

from assistant.commands.console import JsonSink, Progress, TextSink, WatchedFeed, shown_time
from assistant.events import Answer, Comment, StatusEvent, StatusKind, event_from_dict
from tests.assistant.fakes import FakeFeed, frame


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


REMARK = Comment(source="clip.mp4", time_s=12.46, text="A red circle enters on the left.")


@pytest.mark.parametrize(
    ("time_s", "shown"),
    [(0.0, "00:00.0"), (12.46, "00:12.5"), (59.96, "01:00.0"), (3725.0, "1:02:05.0"), (-1.0, "00:00.0")],
)
def test_media_time_for_a_person(time_s: float, shown: str) -> None:
    assert shown_time(time_s) == shown


def test_remarks_and_answers_go_to_the_output_and_status_to_the_errors() -> None:
    output, errors = io.StringIO(), io.StringIO()
    sink = TextSink(output, Progress(errors, shown=False))
    sink.append(REMARK)
    sink.append(Answer(source="a", time_s=3661.0, text="Two.", question="How many?", asked_at_s=3661.2))
    sink.append(StatusEvent(source="a", time_s=5.0, text="no frames for 3 s", kind=StatusKind.GAP))
    sink.append(StatusEvent(source="a", time_s=5.0, text="window full", kind=StatusKind.EVICTED))
    assert output.getvalue() == (
        "[00:12.5] A red circle enters on the left.\n[1:01:01.0] Q: How many?\n[1:01:01.0] A: Two.\n"
    )
    assert errors.getvalue() == "[00:05.0] gap: no frames for 3 s\n"


def test_words_cannot_move_the_cursor() -> None:
    output = io.StringIO()
    TextSink(output, Progress(io.StringIO(), shown=False)).append(
        Comment(source="a", time_s=0.0, text="a\x1b[2Jb\r\nc\u202ed")
    )
    assert output.getvalue() == "[00:00.0] a [2Jb c d\n"


def test_json_lines_are_events_and_nothing_else() -> None:
    output = io.BytesIO()
    JsonSink(output).append(REMARK)
    (line,) = output.getvalue().splitlines()
    assert event_from_dict(json.loads(line)) == REMARK


def test_the_bar_follows_media_time_and_stays_out_of_the_output() -> None:
    output, errors = io.StringIO(), Terminal()
    with Progress(errors, shown=True, start_s=10.0, total_s=30.0) as progress:
        feed = WatchedFeed(FakeFeed([frame(25.0), frame(99.0), None]), progress)
        assert not feed.is_drained
        while feed.get() is not None:
            progress.print("a remark", output)
            progress.warn("a warning")
        assert feed.is_drained
    assert output.getvalue() == "a remark\na remark\n"
    assert errors.getvalue().count("a warning\n") == 2
    assert "15/30 s of video" in errors.getvalue() and "30/30 s of video" in errors.getvalue()


def test_no_bar_where_there_is_no_terminal() -> None:
    errors = io.StringIO()
    with Progress(errors, shown=False, total_s=30.0) as progress:
        progress.reached(15.0)
    assert errors.getvalue() == ""
