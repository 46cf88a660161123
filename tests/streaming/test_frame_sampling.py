"""Frames are sampled by their media time, without drift."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import OptionError
from streaming.frame_sampling import FrameSampler

STEPS = st.lists(st.integers(1, 400), min_size=1, max_size=200)


def taken(fps: float | None, stamps_s: list[float]) -> list[float]:
    sampler = FrameSampler(fps)
    return [pts_s for pts_s in stamps_s if sampler.wants(pts_s)]


@given(steps_ms=STEPS, fps=st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0, 5.0]))
def test_each_tick_gets_the_first_frame_at_or_after_it(steps_ms: list[int], fps: float) -> None:
    stamps_ms = [sum(steps_ms[:index]) for index in range(len(steps_ms))]
    interval_ms = round(1000 / fps)
    ticks_ms = range(0, stamps_ms[-1] + 1, interval_ms)
    # A frame one millisecond early counts as on the tick, for containers that round.
    wanted = sorted({next(ms for ms in stamps_ms if ms >= tick_ms - 1) for tick_ms in ticks_ms})
    got = [round(1000 * pts_s) for pts_s in taken(fps, [ms / 1000 for ms in stamps_ms])]
    assert [ms for ms in got if ms < ticks_ms[-1]] == [ms for ms in wanted if ms < ticks_ms[-1]]


def test_ten_hours_do_not_drift() -> None:
    num_frames = 36_000 * 30
    got = taken(2.0, [index * 1001 / 30_000 for index in range(0, num_frames, 5)])
    errors_s = [pts_s - number / 2 for number, pts_s in enumerate(got)]
    assert min(errors_s) > -0.0011
    assert max(errors_s) < 5 * 1001 / 30_000


@pytest.mark.parametrize("fps", [None, 25.0, 30.0, 60.0, 1000.0])
def test_a_rate_at_or_above_the_streams_own_takes_every_frame(fps: float | None) -> None:
    stamps_s = [round(index / 25, 3) for index in range(100)]
    assert taken(fps, stamps_s) == stamps_s


def test_milliseconds_of_matroska_do_not_cost_a_frame() -> None:
    stamps_s = [math.floor(1000 * index / 30) / 1000 for index in range(91)]
    assert taken(3.0, stamps_s) == stamps_s[::10]


def test_a_gap_costs_its_ticks_and_nothing_more() -> None:
    assert taken(2.0, [0.0, 0.5, 7.3, 7.4, 7.5, 7.9, 8.0]) == [0.0, 0.5, 7.3, 7.5, 8.0]


def test_time_that_jumps_back_starts_the_ticks_anew() -> None:
    assert taken(1.0, [5.0, 5.5, 6.0, 2.3, 2.8, 3.3, 4.2]) == [5.0, 6.0, 2.3, 3.3]


def test_reset_takes_the_next_frame() -> None:
    sampler = FrameSampler(1.0)
    assert sampler.wants(0.0)
    assert not sampler.wants(0.1)
    sampler.reset()
    assert sampler.wants(0.2)


@pytest.mark.parametrize("fps", [0.0, -1.0, math.nan, math.inf, 1e6])
def test_rates_that_cannot_be_are_refused(fps: float) -> None:
    with pytest.raises(OptionError, match="frames a second"):
        FrameSampler(fps)
