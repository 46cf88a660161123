"""Finds delays that grow or shrink along a straight line, as those of a clock that runs at another rate do.

One object for each connection, for the thread that reads the stream. Networks delay pictures in jumps and waves.
"""

from __future__ import annotations

import math
import statistics
from collections import deque

BIN_S = 0.5
_WINDOWS = (16, 24, 32, 48, 64)
"""Numbers of bins that are looked at: 8 s reveal a rate that is off by 8 %, 24 s one off by 3 %."""
_NUM_GROUPS = 8
"""Each window is cut into so many groups, whose least delays are compared with a line."""
_DRIFT_S = 0.6
"""Least change of the delay over a window: queues in networks rarely grow steadily by so much."""
_STRAIGHT = 0.04
"""Largest distance from the line, as a share of that change (standard deviation)."""


class DelayLine:
    """The least delays of the last half minute."""

    def __init__(self) -> None:
        self._least: deque[tuple[float, float]] = deque(maxlen=max(_WINDOWS))
        """Least delay in each bin, and when it was."""
        self._bin: int | None = None

    def clear(self) -> None:
        """Forget all, after a jump."""
        self._least.clear()
        self._bin = None

    def add(self, arrival_s: float, delay_s: float) -> float | None:
        """Add a picture's delay; return the seconds by which it changes a second if it does so steadily, else None."""
        number = int(arrival_s // BIN_S)
        if number == self._bin:
            self._least[-1] = min(self._least[-1], (delay_s, arrival_s))
            return None
        slope = self._slope()
        if self._bin is not None:
            self._least.extend([(math.inf, 0.0)] * min(number - self._bin - 1, max(_WINDOWS)))
        self._bin = number
        self._least.append((delay_s, arrival_s))
        return slope

    def _slope(self) -> float | None:
        recent = list(self._least)
        for num_bins in _WINDOWS:
            if len(recent) < num_bins:
                return None
            window, size = recent[-num_bins:], num_bins // _NUM_GROUPS
            groups = [min(window[at : at + size]) for at in range(0, num_bins, size)]
            if max(groups)[0] == math.inf:
                continue
            delays_s, times_s = zip(*groups, strict=True)
            slope, intercept = statistics.linear_regression(times_s, delays_s)
            drift_s = abs(slope) * num_bins * BIN_S
            off_s = [delay_s - slope * time_s - intercept for time_s, delay_s in zip(times_s, delays_s, strict=True)]
            if drift_s >= _DRIFT_S and statistics.pstdev(off_s) <= _STRAIGHT * drift_s:
                return slope
        return None
