"""Clocks, media time and pacing."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.clock import FakeClock, SystemClock, sleep_until
from streaming.sources.pacing import MAX_WAIT_S, Pacer
from streaming.sources.pictures import Broken, Damage, DecodedPicture, Event
from streaming.sources.timestamps import RecordingTimeline, TimedPicture, time_pictures


def picture(stamp_s: float | None) -> DecodedPicture:
    return DecodedPicture(stamp_s, 0.0, (2, 2), lambda: pytest.fail("nothing is converted here"))


def times(stamps_s: list[float | None], fps: float | None = 25.0) -> list[float]:
    timeline = RecordingTimeline(fps)
    events = time_pictures([picture(stamp_s) for stamp_s in stamps_s], timeline)
    return [event.placed.pts_s for event in events if isinstance(event, TimedPicture)]


def test_the_systems_clock_waits_and_is_woken() -> None:
    clock, event = SystemClock(), threading.Event()
    before_s = clock.now_s()
    assert not clock.wait(event, 0.01)
    assert clock.now_s() >= before_s + 0.01
    event.set()
    assert clock.wait(event, None)
    assert clock.wall_s() > 1.7e9
    condition = threading.Condition()
    with condition:
        assert not clock.wait_for(condition, lambda: False, 0.001)


def test_a_fake_clock_moves_only_by_waits_and_by_hand() -> None:
    clock, event = FakeClock(now_s=5.0), threading.Event()
    assert not clock.wait(event, 3.0)
    clock.advance(2.0)
    assert clock.now_s() == 10.0
    assert clock.wall_s() - FakeClock().wall_s() == 5.0
    event.set()
    assert clock.wait(event, 3.0)
    assert clock.now_s() == 10.0
    assert clock.waits_s == [3.0]


def test_sleeping_ends_at_the_moment_or_when_interrupted() -> None:
    clock, event = FakeClock(), threading.Event()
    assert sleep_until(clock, 4.0, event)
    assert sleep_until(clock, 1.0, event)
    assert clock.now_s() == 4.0
    event.set()
    assert not sleep_until(clock, 9.0, event)
    assert clock.now_s() == 4.0


def test_media_time_follows_the_timestamps() -> None:
    stamps_s = [0.0, 0.04, 0.5, 0.51, 3.0]
    assert times(list(stamps_s)) == stamps_s


@given(stamps_ms=st.lists(st.integers(0, 100_000), min_size=1, max_size=60))
def test_media_time_never_runs_backwards(stamps_ms: list[int]) -> None:
    got = times([ms / 1000 for ms in stamps_ms])
    assert got == sorted(got)
    assert len(got) == len(stamps_ms)


def test_a_jump_back_is_rebased_by_one_usual_interval_and_told_once() -> None:
    timeline = RecordingTimeline(None)
    placed = [timeline.place(stamp_s) for stamp_s in (0.0, 0.1, 0.2, 10.0, 10.1, 3.0, 3.1, 3.2)]
    assert [round(place.pts_s, 6) for place in placed] == [0.0, 0.1, 0.2, 10.0, 10.1, 10.2, 10.3, 10.4]
    assert [round(place.jump_s, 6) for place in placed] == [0, 0, 0, 0, 0, -7.1, 0, 0]


def test_what_is_late_by_less_than_half_a_second_waits_and_is_no_jump() -> None:
    timeline = RecordingTimeline(None)
    placed = [timeline.place(stamp_s) for stamp_s in (0.0, 1.0, 0.8, 0.9, 1.1)]
    assert [place.pts_s for place in placed] == [0.0, 1.0, 1.0, 1.0, 1.1]
    assert [round(place.late_s, 6) for place in placed] == [0, 0, 0.2, 0, 0]
    assert not any(place.jump_s for place in placed)


def test_swapped_pairs_do_not_add_up() -> None:
    stamps_s = [(index + (1 if index % 2 else -1)) / 10 for index in range(1, 2001)]
    timeline = RecordingTimeline(10.0)
    placed = [timeline.place(stamp_s) for stamp_s in stamps_s]
    assert placed[-1].pts_s == pytest.approx(max(stamps_s), abs=0.11)


def test_a_long_gap_is_told_and_a_slow_stream_is_not() -> None:
    timeline = RecordingTimeline(25.0)
    assert [timeline.place(stamp_s).jump_s for stamp_s in (0.0, 0.04, 60.04, 60.08)] == [0, 0, 60, 0]
    slow = RecordingTimeline(0.05)
    assert [slow.place(20.0 * index).jump_s for index in range(1, 6)] == [0.0] * 5


def test_missing_timestamps_are_filled_in_between_their_neighbours() -> None:
    assert times([0.0, None, None, 0.9, 1.0]) == pytest.approx([0.0, 0.3, 0.6, 0.9, 1.0])


def test_timestamps_missing_at_the_start_end_up_before_the_first() -> None:
    assert times([None, None, 0.08, 0.12]) == pytest.approx([0.0, 0.04, 0.08, 0.12])


def test_without_any_timestamp_the_rate_counts() -> None:
    assert times([None] * 30, fps=10.0) == pytest.approx([index / 10 for index in range(30)])
    assert times([None] * 3, fps=None) == pytest.approx([0.0, 0.04, 0.08])


def test_waiting_for_a_timestamp_is_bounded_and_keeps_the_order() -> None:
    seen = 0

    def events() -> list[Event]:
        return [picture(0.0), *[picture(None) for _ in range(20)], Damage("x", 1), Broken("y")]

    def counted() -> object:
        nonlocal seen
        for event in events():
            seen += 1
            yield event

    lags = []
    kinds = []
    timed = time_pictures(counted(), RecordingTimeline(10.0))  # type: ignore[arg-type]
    for num_given, event in enumerate(timed, start=1):
        lags.append(seen - num_given)
        kinds.append(type(event))
    assert max(lags) <= 8
    assert kinds.count(TimedPicture) == 21
    assert kinds[-1] is Broken


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_a_paced_stream_takes_its_media_time_over_its_speed(speed: float) -> None:
    clock = FakeClock(now_s=7.0)
    pacer = Pacer(clock, speed, threading.Event())
    for index in range(101):
        assert pacer.wait(3.0 + index / 10) == 0.0
    assert clock.now_s() == pytest.approx(7.0 + 10.0 / speed)
    assert pacer.total_slowed_s == 0.0


def test_without_a_speed_nothing_waits() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, None, threading.Event())
    assert [pacer.wait(pts_s) for pts_s in (0.0, 100.0)] == [0.0, 0.0]
    assert clock.now_s() == 0.0


def test_a_slow_reader_slows_the_media_clock_and_is_told_of_once() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, 1.0, threading.Event())
    late_s = []
    for index in range(20):
        late_s.append(pacer.wait(index / 10))
        clock.advance(0.5)
    assert [round(value, 3) for value in late_s if value] == [0.4]
    assert pacer.total_slowed_s == pytest.approx(19 * 0.4)
    before_s = clock.now_s()
    for index in range(20, 40):
        pacer.wait(index / 10)
    assert clock.now_s() - before_s == pytest.approx(1.9)


def test_a_second_episode_is_told_again_after_a_calm() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, 1.0, threading.Event())
    late_s = []
    for index in range(200):
        late_s.append(pacer.wait(index / 10))
        if index in (10, 20, 150):
            clock.advance(1.0)
    assert sum(1 for value in late_s if value) == 2


def test_hours_between_joined_recordings_are_not_waited_for() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, 1.0, threading.Event())
    pacer.wait(0.0)
    pacer.wait(7200.0)
    pacer.wait(7201.0)
    assert clock.now_s() == pytest.approx(MAX_WAIT_S + 1.0)


def test_closing_wakes_a_pacer() -> None:
    clock, closed = FakeClock(), threading.Event()
    pacer = Pacer(clock, 1.0, closed)
    pacer.wait(0.0)
    closed.set()
    pacer.wait(20.0)
    assert clock.now_s() == 0.0
