"""Media time of live sources: the camera's timestamps while they keep pace with our clock, else the time of arrival.

One object for each source, for the thread that reads it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from streaming.sources.delay_line import DelayLine

_HOLD_S = 0.5
"""How far timestamps may be out of order, or ahead of the latest possible time, before they are corrected."""
_DIVERGENCE_S = 30.0
"""Difference between timestamps and arrival that counts as a jump."""
_LEAP_S = 5.0
"""Change of a picture's delay, from one picture to the next, that counts as a jump."""
_BEGINNING_S = 2.0
"""Time after connecting in which a server may send buffered pictures faster than real time."""

_BIN_S = 4.0 / 3.0
_WINDOWS = (3, 9, 27, 81)
"""Numbers of bins over which rates are compared: 4 s reveal a rate that is off by 25 %, 108 s one off by 1 %. Where
delays lie on a straight line, `DelayLine` finds it sooner."""
_DRIFT_S = 1.0 / 3.0
"""Least change of the delay from one third of a window to the next that counts as another rate."""
_STEADY_S = 0.1
"""Largest change of the delay over `_NUM_STEADY` bins that counts as steady."""

Least = tuple[float, float]
"""The least delay within a bin, and the arrival time of the picture that had it."""
_NOTHING: Least = (math.inf, math.inf)
_NUM_STEADY = 9


@dataclass(frozen=True, slots=True)
class LivePlaced:
    """The media time of a picture of a live source."""

    pts_s: float
    """Media time."""
    message: str = ""
    """What to report about its timestamps; empty if there is nothing to report."""
    skipped_s: float = 0.0
    """How far media time leapt forward with it, because the earlier timestamps were too slow or jumped."""
    jump_s: float = 0.0
    """How far the timestamps jumped; below 0 if they went back."""
    rate: float | None = None
    """Timestamp seconds per second of our clock, if `message` is about the rate; else None."""
    by_stamp: bool = False
    """Whether `pts_s` follows the picture's timestamp, rather than its arrival."""


class ClockRateMonitor:
    """Compares the rate of the timestamps with that of our clock, over all pictures of a connection.

    The delay of pictures varies, but never falls below the least network delay. So the least delay in each short bin is
    kept: it is constant if both clocks run at the same rate, and rises or falls steadily if they do not.
    """

    def __init__(self) -> None:
        self._least: deque[Least] = deque(maxlen=max(_WINDOWS))
        self._bin: int | None = None
        self._last_s: float | None = None
        self._line = DelayLine()

    def add(self, arrival_s: float, stamp_s: float) -> float | None:
        """Add the next picture; return the timestamps' rate relative to our clock if it differs, else None."""
        delay_s, number = arrival_s - stamp_s, int(arrival_s // _BIN_S)
        if self._last_s is None or abs(delay_s - self._last_s) > _LEAP_S:
            self._least.clear()
            self._bin = None
            self._line.clear()
        self._last_s = delay_s
        slope = self._line.add(arrival_s, delay_s)
        if slope is not None:
            return 1.0 - slope
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
        """The least delay, if it was constant over the last twelve seconds; else None."""
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
        """The least delay of each third of the last `num_bins` bins; None if one third is empty."""
        if len(self._least) < num_bins:
            return None
        recent, third = list(self._least)[-num_bins:], num_bins // 3
        first, second, last = (min(recent[third * index : third * (index + 1)]) for index in range(3))
        return (first, second, last) if max(first, second, last) < _NOTHING else None


class LiveTimeline:
    """Media time of a live source over all its connections, in seconds since its first picture.

    Within a connection it follows the camera's timestamps, which are steadier than arrival times. After a reconnect or
    a jump of the timestamps it continues from the time that has passed by our clock. Timestamps that run at another
    rate than our clock are ignored until they keep pace again, and timestamps in the future are held back.
    """

    def __init__(self) -> None:
        self._first_at_s: float | None = None
        self._last_s = 0.0
        self._base_s: float | None = None
        """Media time minus timestamp, for this connection."""
        self._began_s = self._lead_s = 0.0
        """Arrival of the connection's first picture, and how far media time may lie ahead of arrival."""
        self._before_s: tuple[float, float] | None = None
        """Timestamp and arrival of the previous picture of this connection."""
        self._watch = ClockRateMonitor()
        self._by_arrival = False
        self.is_bursty = False
        """Whether many seconds arrive at once, so that arrival times say nothing about the rate."""

    def reconnect(self) -> None:
        """Start a new connection with the next picture."""
        self._base_s = None

    def place(self, stamp_s: float | None, now_s: float) -> LivePlaced:
        """Media time of a picture with timestamp `stamp_s` (None: without one) that arrived at `now_s` by our clock."""
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
        """Set the media time of `stamp_s` to its arrival, or to the previous picture's media time if that is later."""
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
        skipped_s = self._last_s - before_s
        message = f"{what}; media time follows our clock{_skipped(skipped_s)}"
        return LivePlaced(self._last_s, message, skipped_s, jump_s)

    def _leave_stamps(self, rate: float, arrival_s: float) -> LivePlaced:
        """Follow arrival times from here on, because the timestamps run at another rate."""
        before_s = self._last_s
        self._by_arrival, self._watch = True, ClockRateMonitor()
        self._last_s = max(arrival_s, before_s)
        self._lead_s = self._last_s - arrival_s
        skipped_s = self._last_s - before_s
        message = f"timestamps run at {rate:.2f} of our clock; media time follows arrival from here"
        if self._lead_s >= 0.05:
            message += f", and stays {self._lead_s:.1f} s ahead of it"
        return LivePlaced(self._last_s, message + _skipped(skipped_s), skipped_s, rate=rate)

    def _place_by_arrival(self, stamp_s: float, arrival_s: float) -> LivePlaced:
        delay_s = self._watch.steady_delay_s()
        if delay_s is not None:
            self._by_arrival, self._watch = False, ClockRateMonitor()
            self._base_s, self._before_s = delay_s + self._lead_s, None
        return self._at(arrival_s + self._lead_s)


def _skipped(seconds: float) -> str:
    """A clause on how much media time was skipped; empty if that rounds to 0."""
    return f"; {seconds:.1f} s of media time were left out" if seconds >= 0.05 else ""
