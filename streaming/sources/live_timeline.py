"""Media time of live sources: by the camera's timestamps while those keep step with our clock, else by arrival.

Plain objects, one for each source, for the thread that reads it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

_HOLD_S = 0.5
"""Timestamps may be out of order, or ahead of what can be, by so much."""
_DIVERGENCE_S = 30.0
_LEAP_S = 5.0
_BEGINNING_S = 2.0
"""So long after connecting, pictures may arrive that a server kept: faster than they were taken."""

_BIN_S = 4.0 / 3.0
_WINDOWS = (3, 9, 27, 81)
"""Bins that rates are compared over: 4 s tell a quarter from each other, 108 s a hundredth."""
_DRIFT_S = 1.0 / 3.0
_STEADY_S = 0.1

Least = tuple[float, float]
"""The least delay within some time, and the arrival of the picture that had it."""
_NOTHING: Least = (math.inf, math.inf)
_NUM_STEADY = 9


@dataclass(frozen=True, slots=True)
class LivePlaced:
    """Where a picture of a live source lies in media time."""

    pts_s: float
    told: str = ""
    """What is to be told of its timestamps, empty where nothing is."""
    left_out_s: float = 0.0
    """By how much media time leapt with it, because the timestamps before were too slow or jumped."""
    jump_s: float = 0.0
    """How far the timestamps jumped, below 0 where they went back."""
    rate: float | None = None
    """Seconds by the timestamps in a second of our clock, where that is what is told."""
    by_stamp: bool = False
    """Whether it lies where its timestamp says."""


class ClockRateMonitor:
    """Compares the rate of timestamps with that of our clock, over all pictures of a connection.

    What a picture takes to arrive varies, but never falls below what the way takes at least. So the least delay of each
    short time is kept: it stays where both clocks run alike, and climbs or falls evenly where they do not.
    """

    def __init__(self) -> None:
        self._least: deque[Least] = deque(maxlen=max(_WINDOWS))
        self._bin: int | None = None
        self._last_s: float | None = None

    def add(self, arrival_s: float, stamp_s: float) -> float | None:
        """Take the next picture; gives the timestamps' rate by our clock where it is found to be another, else None."""
        delay_s, number = arrival_s - stamp_s, int(arrival_s // _BIN_S)
        if self._last_s is None or abs(delay_s - self._last_s) > _LEAP_S:
            self._least.clear()
            self._bin = None
        self._last_s = delay_s
        if number == self._bin:
            self._least[-1] = min(self._least[-1], (delay_s, arrival_s))
            return None
        rate = self._compare()
        if self._bin is not None:
            self._least.extend([_NOTHING] * min(number - self._bin - 1, max(_WINDOWS)))
        self._bin = number
        self._least.append((delay_s, arrival_s))
        return rate

    def steady_delay_s(self) -> float | None:
        """The least delay, where it stayed over the last twelve seconds; else None."""
        thirds = self._thirds(_NUM_STEADY)
        if thirds is None or max(thirds)[0] - min(thirds)[0] > _STEADY_S:
            return None
        return thirds[-1][0]

    def _compare(self) -> float | None:
        for num_bins in _WINDOWS:
            thirds = self._thirds(num_bins)
            if thirds is None:
                continue
            (first_s, begin_s), (second_s, _), (third_s, end_s) = thirds
            changes_s = (second_s - first_s, third_s - second_s)
            low_s, high_s = sorted(abs(change_s) for change_s in changes_s)
            if changes_s[0] * changes_s[1] > 0 and low_s >= _DRIFT_S and high_s <= 2 * low_s:
                return 1.0 - (third_s - first_s) / (end_s - begin_s)
        return None

    def _thirds(self, num_bins: int) -> tuple[Least, Least, Least] | None:
        """The least of each third of the last bins; None where one of them is empty."""
        if len(self._least) < num_bins:
            return None
        recent, third = list(self._least)[-num_bins:], num_bins // 3
        first, second, last = (min(recent[third * index : third * (index + 1)]) for index in range(3))
        return (first, second, last) if max(first, second, last) < _NOTHING else None


class LiveTimeline:
    """Media time of a live source over all its connections, in seconds since its first picture.

    Within a connection it follows the camera's timestamps, which are steadier than arrival. A new connection, and
    timestamps that jump, start anew from the time that has passed here. Timestamps that run at another rate than our
    clock are not followed until they keep step with it, and those that are ahead of what can be are held back.
    """

    def __init__(self) -> None:
        self._first_at_s: float | None = None
        self._last_s = 0.0
        self._base_s: float | None = None
        """Media time minus timestamp, for this connection."""
        self._began_s = self._lead_s = 0.0
        """Arrival of the connection's first picture, and how far its media time may lie ahead of arrival."""
        self._before_s: tuple[float, float] | None = None
        """Timestamp and arrival of the picture before, within this connection."""
        self._watch = ClockRateMonitor()
        self._by_arrival = False
        self.is_bursty = False
        """Whether many seconds arrive at once, so that arrival says nothing about the rate."""

    def reconnect(self) -> None:
        """The next picture is the first of a new connection."""
        self._base_s = None

    def place(self, stamp_s: float | None, now_s: float) -> LivePlaced:
        """Media time of a picture stamped `stamp_s` (None: without) that arrived when our clock said `now_s`."""
        if self._first_at_s is None:
            self._first_at_s = now_s
        arrival_s = now_s - self._first_at_s
        if stamp_s is None:
            return self._at(arrival_s + (self._lead_s if self._by_arrival else 0.0))
        if self._base_s is None:
            self._begin(stamp_s, arrival_s)
        rate = None if self.is_bursty else self._watch.add(arrival_s, stamp_s)
        if self._by_arrival:
            return self._place_by_arrival(stamp_s, arrival_s)
        if rate is not None:
            return self._leave_stamps(rate, arrival_s)
        return self._place_by_stamp(stamp_s, arrival_s)

    def _begin(self, stamp_s: float, arrival_s: float) -> None:
        self._rebase(stamp_s, arrival_s)
        self._began_s, self._before_s = arrival_s, None
        self._watch = ClockRateMonitor()
        self._by_arrival = False

    def _rebase(self, stamp_s: float, arrival_s: float) -> None:
        """Media time of `stamp_s` is that of its arrival, or that of the picture before."""
        self._base_s = max(arrival_s, self._last_s) - stamp_s
        self._lead_s = max(0.0, self._last_s - arrival_s)

    def _at(self, pts_s: float, *, by_stamp: bool = False) -> LivePlaced:
        self._last_s = max(self._last_s, pts_s)
        return LivePlaced(self._last_s, by_stamp=by_stamp)

    def _place_by_stamp(self, stamp_s: float, arrival_s: float) -> LivePlaced:
        assert self._base_s is not None
        before_s, self._before_s = self._before_s or (stamp_s, arrival_s), (stamp_s, arrival_s)
        leap_s = stamp_s - before_s[0] - (arrival_s - before_s[1])
        media_s = stamp_s + self._base_s
        step_s, ahead_s = media_s - self._last_s, media_s - arrival_s
        if step_s < -_HOLD_S:
            return self._jump(stamp_s, arrival_s, step_s, f"timestamps jumped back by {-step_s:.1f} s")
        if ahead_s < -_DIVERGENCE_S:
            return self._jump(stamp_s, arrival_s, step_s, f"timestamps fell {-ahead_s:.1f} s behind our clock")
        if self.is_bursty or arrival_s - self._began_s <= _BEGINNING_S:
            if ahead_s > _DIVERGENCE_S:
                return self._jump(stamp_s, arrival_s, step_s, f"timestamps jumped ahead by {step_s:.1f} s")
            self._lead_s = max(self._lead_s, ahead_s)
            return self._at(media_s, by_stamp=True)
        excess_s = ahead_s - self._lead_s
        if excess_s <= _HOLD_S:
            return self._at(media_s, by_stamp=True)
        if leap_s > _LEAP_S or self._watch.steady_delay_s() is not None:
            return self._jump(stamp_s, arrival_s, excess_s, f"timestamps jumped ahead by {excess_s:.1f} s")
        return self._at(arrival_s + self._lead_s + _HOLD_S)

    def _jump(self, stamp_s: float, arrival_s: float, jump_s: float, what: str) -> LivePlaced:
        before_s = self._last_s
        self._rebase(stamp_s, arrival_s)
        self._last_s = max(arrival_s, before_s)
        left_out_s = self._last_s - before_s
        told = f"{what}; media time follows our clock{_left_out(left_out_s)}"
        return LivePlaced(self._last_s, told, left_out_s, jump_s)

    def _leave_stamps(self, rate: float, arrival_s: float) -> LivePlaced:
        """Follow arrival from here on."""
        before_s = self._last_s
        self._by_arrival, self._watch = True, ClockRateMonitor()
        self._last_s = max(arrival_s, before_s)
        self._lead_s = self._last_s - arrival_s
        left_out_s = self._last_s - before_s
        told = f"timestamps run at {rate:.2f} of our clock; media time follows arrival from here"
        if self._lead_s >= 0.05:
            told += f", and stays {self._lead_s:.1f} s ahead of it"
        return LivePlaced(self._last_s, told + _left_out(left_out_s), left_out_s, rate=rate)

    def _place_by_arrival(self, stamp_s: float, arrival_s: float) -> LivePlaced:
        delay_s = self._watch.steady_delay_s()
        if delay_s is not None:
            self._by_arrival, self._watch = False, ClockRateMonitor()
            self._base_s, self._before_s = delay_s + self._lead_s, None
        return self._at(arrival_s + self._lead_s)


def _left_out(seconds: float) -> str:
    """How much media time was left out, in words; nothing where that rounds to none."""
    return f"; {seconds:.1f} s of media time were left out" if seconds >= 0.05 else ""
