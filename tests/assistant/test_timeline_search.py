"""Events are found by what people type, and nothing that they type raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.errors import ConfigError, StoreError
from assistant.timeline.folder import TimelineFolder
from assistant.timeline.search import Query, TimelineReader, match_expression
from assistant.timeline.store import Timeline
from assistant.timeline.times import parse_when
from tests.assistant.timelines import NOON_S, alert, answer, gap, noon, remark

LOCAL_NOON_S = datetime(2026, 11, 22, 12, 0).timestamp()


@pytest.fixture(scope="module")
def timeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Timeline]:
    """An hour at two cameras."""
    clock = noon()
    with Timeline(tmp_path_factory.mktemp("timeline"), clock=clock) as timeline:
        for number, text in enumerate(
            ("A red circle enters on the left.", "The red circles stop.", "A blue square enters.", "Größer wird es.")
        ):
            timeline.record(remark(number, text), camera="door")
            clock.advance(600.0)
        timeline.record(remark(4, "A red square enters; a circle leaves."), camera="hall")
        timeline.record(answer("How many circles?", "Two."), camera="hall")
        timeline.record(alert("Someone is at the door."), camera="hall")
        timeline.record(gap(2.0, 30.0), camera="hall")
        timeline.record(remark(5, "一个红色的圆圈进来了。"), camera="hall")
        yield timeline


def numbers(timeline: Timeline, query: Query) -> list[int]:
    return [found.id for found in timeline.search(query)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("red circle", [5, 2, 1]),
        ('"red circle"', [2, 1]),
        ("CIRCLES", [6, 5, 2, 1]),
        ("squ*", [5, 3]),
        ("grosser", []),
        ("größer", [4]),
        ("grosse*", []),
        ("how many", [6]),
        ("red -circle", [5, 2, 1]),
        ("红色", [9]),
        ("红色 圆圈", [9]),
        ("绿色", []),
        ("", [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ("!?", []),
        ("door", [7]),
    ],
)
def test_words_are_found_in_any_form(timeline: Timeline, text: str, found: list[int]) -> None:
    assert numbers(timeline, Query(text=text)) == found


def test_time_camera_and_type_narrow_it_down(timeline: Timeline) -> None:
    assert numbers(timeline, Query(since_s=NOON_S + 600, until_s=NOON_S + 1200)) == [3, 2]
    assert numbers(timeline, Query(cameras=("door",))) == [4, 3, 2, 1]
    assert numbers(timeline, Query(types=("answer", "alert"))) == [7, 6]
    assert numbers(timeline, Query(types=("gap",))) == [8]
    assert numbers(timeline, Query(types=("status",))) == [8]
    assert numbers(timeline, Query(text="red", cameras=("door", "hall"), limit=2)) == [5, 2]
    assert numbers(timeline, Query(before_id=3)) == [2, 1]
    assert numbers(timeline, Query(after_id=7, oldest_first=True)) == [8, 9]
    with pytest.raises(ConfigError, match="type 'remark'"):
        Query(types=("remark",))


def test_all_are_read_page_by_page(timeline: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.timeline.search.PAGE", 2)
    assert [found.id for found in timeline.reader.every(Query(limit=1))] == list(range(1, 10))


def test_one_is_found_by_its_number_or_its_name(timeline: Timeline) -> None:
    first = timeline.reader.get(1)
    assert first is not None and timeline.reader.get(first.uid) == first
    assert (
        timeline.reader.get(99) is None and timeline.reader.get(1 << 70) is None and timeline.reader.get("no") is None
    )
    assert timeline.reader.cameras() == ["door", "hall"]


HOSTILE = [
    '"', '""', '"a', "*", "**", "a*b", "AND", "OR", "NOT", "a AND", "NEAR(", "NEAR(a b, 5)", "text:red", "^red",
    "{text}:a", "-x", "(", ")", "'; DROP TABLE events; --", "\0", "a\0b", "%", "_", "\\", "\ud800", "😀",
    "events_text", '"a"*"b"', "+",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_only_find_nothing(timeline: Timeline, text: str) -> None:
    timeline.search(Query(text=text, cameras=(text.replace("\ud800", ""),)))
    timeline.search(Query(text=text))
    assert len(numbers(timeline, Query())) == 9


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.text(st.characters() | st.sampled_from('"*():^-+{}'), max_size=30))
def test_whatever_is_typed_never_raises(timeline: Timeline, text: str) -> None:
    timeline.search(Query(text=text))


@given(st.lists(st.sampled_from(["red", "circle", "enters", "blue"]), min_size=1, max_size=4))
def test_a_whole_sentence_finds_itself(words: list[str]) -> None:
    expression, unspaced = match_expression(" ".join(words))
    assert expression.split(" ") == [f'"{word}"' for word in words] and unspaced == []


def test_where_there_is_no_timeline_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no timeline there"):
        TimelineReader(TimelineFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2h", LOCAL_NOON_S - 7200),
        ("30m", LOCAL_NOON_S - 1800),
        ("90s", LOCAL_NOON_S - 90),
        ("1h30m", LOCAL_NOON_S - 5400),
        ("1.5d", LOCAL_NOON_S - 129_600),
        ("10:15", datetime(2026, 11, 22, 10, 15).timestamp()),
        ("12:30", datetime(2026, 11, 21, 12, 30).timestamp()),
        ("9:05:07", datetime(2026, 11, 22, 9, 5, 7).timestamp()),
        ("2026-11-22T10:00", datetime(2026, 11, 22, 10, 0).timestamp()),
        ("2026-11-20", datetime(2026, 11, 20).timestamp()),
        ("2026-11-22T10:00:00+00:00", 1_795_341_600.0),
        ("2026-11-22T10:00Z", 1_795_341_600.0),
        ("now", LOCAL_NOON_S),
        ("today", datetime(2026, 11, 22).timestamp()),
        ("yesterday", datetime(2026, 11, 21).timestamp()),
    ],
)
def test_times_are_read_as_people_type_them(text: str, wanted: float) -> None:
    assert parse_when(text, LOCAL_NOON_S) == wanted


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2x", "25:00", "10:75", "2026-13-01", "2026-02-30", "soon", "-2h", "9" * 400 + "d"]
)
def test_other_times_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="it must be a span back"):
        parse_when(text, LOCAL_NOON_S)


@given(st.text(max_size=20))
def test_no_time_that_is_typed_breaks_it(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(parse_when(text, LOCAL_NOON_S), float)
