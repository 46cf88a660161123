"""Media time of live sources: by timestamps that keep pace with our clock, else by arrival."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.sources.live_timeline import LivePlaced, LiveTimeline

Stamp = Callable[[float], float]


def test_live_time_counts_from_the_first_frame_and_goes_on_over_connections() -> None:
    timeline = LiveTimeline()
    assert timeline.place(1000.0, now_s=50.0).pts_s == 0.0
    assert timeline.place(1000.5, now_s=50.7).pts_s == 0.5
    timeline.reconnect()
    assert timeline.place(3.0, now_s=60.0).pts_s == 10.0
    assert timeline.place(3.1, now_s=60.3).pts_s == pytest.approx(10.1)
    timeline.reconnect()
    back = timeline.place(4.0, now_s=70.0)
    assert (back.pts_s, back.jump_s) == (20.0, 0.0)


@pytest.mark.slow
@given(
    steps=st.lists(
        st.tuples(st.floats(-50, 50), st.floats(0, 2), st.sampled_from(["ok", "none", "again"])), max_size=50
    )
)
def test_live_time_never_runs_backwards_nor_away_from_our_clock(steps: list[tuple[float, float, str]]) -> None:
    timeline, now_s, stamp_s, last_s = LiveTimeline(), 100.0, 0.0, 0.0
    for jump_s, passed_s, what in steps:
        now_s += passed_s
        stamp_s += jump_s
        if what == "again":
            timeline.reconnect()
        placed = timeline.place(None if what == "none" else stamp_s, now_s)
        assert placed.pts_s >= last_s
        assert placed.pts_s <= now_s - 100.0 + 31.0
        last_s = placed.pts_s


def test_without_timestamps_live_time_is_the_time_of_arrival() -> None:
    timeline = LiveTimeline()
    assert [timeline.place(None, now_s).pts_s for now_s in (7.0, 7.5, 9.0)] == [0.0, 0.5, 2.0]


Seen = list[tuple[float, LivePlaced]]
"""The arrival times of pictures, and their media times."""


def watch(stamp_of: Stamp, until_s: float, fps: float = 10.0, late: Stamp = lambda taken_s: 0.0) -> Seen:
    """Pictures taken at a steady rate, stamped by a clock of the camera's own, and `late` by so much."""
    timeline = LiveTimeline()
    placed, arrived_s = [], 0.0
    for number in range(int(until_s * fps)):
        taken_s = number / fps
        arrived_s = max(arrived_s, taken_s + late(taken_s))
        placed.append((arrived_s, timeline.place(7000.0 + stamp_of(taken_s), 500.0 + arrived_s)))
    return placed


def told(placed: Seen) -> Iterator[tuple[float, LivePlaced]]:
    """The places with a message, and their times."""
    return ((at_s, place) for at_s, place in placed if place.message)


@pytest.mark.parametrize(
    ("rate", "within_s"),
    [
        (0.1, 6),
        (0.4, 6),
        (0.7, 6),
        (1.5, 6),
        (2.5, 6),
        (4.0, 6),
        (0.9, 9),
        (1.15, 9),
        (0.92, 9),
        (1.05, 17),
        (0.97, 25),
    ],
)
@pytest.mark.parametrize("fps", [5.0, 10.0, 25.0])
def test_timestamps_at_another_rate_are_found_within_seconds_and_arrival_is_followed(
    rate: float, within_s: float, fps: float
) -> None:
    placed = watch(lambda taken_s: rate * taken_s, 100.0, fps)
    ((at_s, place),) = told(placed)
    assert at_s <= within_s
    assert place.rate == pytest.approx(rate, abs=0.02 + 0.02 * rate)
    assert place.skipped_s == pytest.approx(max(0.0, (1 - rate) * at_s), abs=0.2)
    assert "0.0 s" not in place.message
    assert not place.skipped_s or f"{place.skipped_s:.1f} s of media time were left out" in place.message
    ahead_s = [place.pts_s - at_s for at_s, place in placed]
    assert max(ahead_s) <= min(2 * rate, 8.0) + 0.6
    late_s = ahead_s[-int(40 * fps) :]
    assert max(late_s) - min(late_s) < 0.2, "from then on it keeps step with our clock"
    steps_s = [after[1].pts_s - before[1].pts_s for before, after in itertools.pairwise(placed)]
    assert min(steps_s) >= 0.0 and sorted(steps_s)[-2] <= max(1.0, rate) / fps + 0.01, "one leap, and none back"


def test_a_claimed_rate_that_changes_is_found_and_one_that_becomes_right_is_followed_again() -> None:
    def stamp_of(taken_s: float) -> float:
        return taken_s if taken_s < 60 else 60 + 0.4 * (taken_s - 60) if taken_s < 120 else 84 + taken_s - 120

    placed = watch(stamp_of, 180.0)
    ((at_s, place),) = told(placed)
    assert 60 < at_s <= 67 and place.rate == pytest.approx(0.4, abs=0.05)
    assert place.skipped_s == pytest.approx(0.6 * (at_s - 60), abs=0.2)
    assert [place.by_stamp for at_s, place in placed if at_s < 60] == [True] * 600
    assert not any(place.by_stamp for at_s, place in placed if 68 < at_s < 120)
    assert all(place.by_stamp for at_s, place in placed if at_s > 140)
    assert placed[-1][1].pts_s == pytest.approx(placed[-1][0], abs=0.2)


def test_a_rate_that_changes_from_slow_to_fast_keeps_step_with_our_clock() -> None:
    placed = watch(lambda taken_s: 0.4 * taken_s if taken_s < 40 else 16 + 3 * (taken_s - 40), 80.0)
    assert [place.rate is not None for _, place in told(placed)] == [True]
    assert placed[-1][1].pts_s == pytest.approx(placed[-1][0], abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_network_that_jitters_and_stalls_is_no_other_rate(seed: int) -> None:
    rng = random.Random(seed)

    def late(taken_s: float) -> float:
        stall_s = 8.0 - taken_s % 60.0 if 5.0 < taken_s % 60.0 < 8.0 else 0.0
        return stall_s + rng.uniform(0.0, 0.4)

    placed = watch(lambda taken_s: taken_s, 600.0, 10.0, late)
    assert not list(told(placed))
    assert all(place.by_stamp for _, place in placed)


def _stalls(rng: random.Random) -> Stamp:
    """Nothing comes for 0.3 to 0.8 s now and then, and then all at once."""
    begins_s = [15.0 * number + rng.uniform(0.0, 10.0) for number in range(40)]
    stalls = [(begin_s, begin_s + rng.uniform(0.3, 0.8)) for begin_s in begins_s]
    return lambda taken_s: next((end_s - taken_s for begin_s, end_s in stalls if begin_s <= taken_s < end_s), 0.0)


def _waves(rng: random.Random) -> Stamp:
    """A queue that grows and shrinks at random, within some seconds by some tenths."""
    queue_s = 0.0

    def late(taken_s: float) -> float:
        nonlocal queue_s
        queue_s += -queue_s / 50 + rng.gauss(0.0, 0.1 * (2 / 50) ** 0.5)
        return max(0.0, 0.2 + queue_s) + rng.uniform(0.0, 0.03)

    return late


def _bursts(rng: random.Random) -> Stamp:
    """Pictures are sent twice a second, all that there are."""
    return lambda taken_s: -taken_s % 0.5 + rng.uniform(0.0, 0.03)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("network", [_stalls, _waves, _bursts])
def test_bursts_short_stalls_and_queues_are_no_other_rate(network: Callable[[random.Random], Stamp], seed: int) -> None:
    assert not list(told(watch(lambda taken_s: taken_s, 300.0, late=network(random.Random(seed)))))


@pytest.mark.parametrize("network", [_stalls, _bursts])
@pytest.mark.parametrize(("rate", "within_s"), [(0.92, 14), (1.08, 14), (0.97, 34)])
def test_a_rate_that_is_off_by_a_little_is_found_behind_such_networks(
    network: Callable[[random.Random], Stamp], rate: float, within_s: float
) -> None:
    found = list(told(watch(lambda taken_s: rate * taken_s, 60.0, late=network(random.Random(1)))))
    assert found and found[0][0] <= within_s and found[0][1].rate == pytest.approx(rate, abs=0.01)


def test_a_way_that_takes_longer_from_a_moment_on_is_no_other_rate() -> None:
    assert not list(told(watch(lambda taken_s: taken_s, 200.0, late=lambda taken_s: 3.0 if taken_s > 50 else 0.0)))


def test_pictures_that_a_server_kept_arrive_at_once_and_keep_their_times() -> None:
    timeline = LiveTimeline()
    kept = [timeline.place(number / 10, 100.0 + number / 1000) for number in range(80)]
    later = [timeline.place(8.0 + number / 10, 100.1 + number / 10) for number in range(600)]
    assert [place.pts_s for place in kept] == pytest.approx([number / 10 for number in range(80)])
    assert not any(place.message for place in [*kept, *later])
    assert later[-1].pts_s == pytest.approx(67.9)


@pytest.mark.parametrize("leap_s", [3.0, 3600.0, -7.0])
def test_a_leap_of_the_cameras_clock_is_told_once_with_its_size(leap_s: float) -> None:
    placed = watch(lambda taken_s: taken_s + (leap_s if taken_s >= 30 else 0.0), 90.0)
    ((at_s, place),) = told(placed)
    assert 30 <= at_s <= 45
    assert place.jump_s == pytest.approx(leap_s, abs=0.3)
    assert f"{abs(place.jump_s):.1f} s" in place.message and " 0.0 s" not in place.message
    assert abs(placed[-1][1].pts_s - placed[-1][0]) <= 0.7


def test_what_fell_behind_is_said_with_what_was_left_out() -> None:
    """Where too few pictures come to compare rates, media time is at most half a minute behind."""
    timeline = LiveTimeline()
    placed = [timeline.place(3.0 * number, 100.0 + 10.0 * number) for number in range(20)]
    leaps = [place for place in placed if place.message]
    assert leaps and all(place.skipped_s > 5.0 and "left out" in place.message for place in leaps)
    assert placed[-1].pts_s >= 160.0


def test_bursts_say_nothing_about_the_rate() -> None:
    timeline = LiveTimeline()
    timeline.is_bursty = True
    placed = [timeline.place(number / 10, 100.0 + number // 60 * 6.0) for number in range(1200)]
    assert not any(place.message for place in placed)
    assert placed[-1].pts_s == pytest.approx(119.9)
