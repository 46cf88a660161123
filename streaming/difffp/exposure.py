"""The exposure of a view: how bright each patch would be now if nothing but the camera's exposure had changed.

Owned by the thread that prunes; numpy alone. All values are grey levels.
"""

from __future__ import annotations

import numpy as np

STEADY_SHARE = 0.3
"""Of all patches must have kept their texture, or the exposure is taken to stand: there is too little to read it by."""
AGREED_SHARE = 0.8
"""Of those patches must move together: exposure moves all of a picture, a mover or a shadow a part of it."""
EXTREME_LEVELS = 2.0
"""This near to the brightest or darkest patch, a patch may be saturated and unable to follow."""
GAIN_SHARE = 0.1
"""So many more patches must agree on a gain than on an offset: a line bends towards whatever moves."""
SLOPE_SPREAD_LEVELS = 10.0
"""The brighter and the darker third must lie so far apart before a gain is told from an offset."""


class Exposure:
    """The brightness that each patch is expected to have gained since it was kept, by exposure alone.

    What is expected is anchored to the kept pixels in every frame, so errors do not add up from frame to frame, and
    lies within `most_levels` of them: whatever is further off is a change, whatever the cause.
    """

    def __init__(self, num_patches: int, agreed_levels: float, most_levels: float) -> None:
        """`agreed_levels`: how far patches that move together may lie apart."""
        self._agreed_levels = agreed_levels
        self._most_levels = most_levels
        self._expected = np.zeros(num_patches)

    @property
    def expected(self) -> np.ndarray:
        """By how much each patch should be brighter than when it was kept, `[num_patches]`."""
        return self._expected

    def follow(self, shift: np.ndarray, level: np.ndarray, stayed: np.ndarray) -> None:
        """Takes in the next frame.

        shift: how much brighter each patch is than when it was kept; level: its mean now; stayed: whether its texture
        is the one it was kept with. All are `[num_patches]`.
        """
        surprise = shift - self._expected
        expected_level = level - surprise
        extreme = (level < level.min() + EXTREME_LEVELS) | (level > level.max() - EXTREME_LEVELS)
        steady = stayed & (np.abs(shift) <= self._most_levels)
        usable = steady & ~extreme if (steady & ~extreme).sum() >= STEADY_SHARE * len(shift) else steady
        if usable.sum() < STEADY_SHARE * len(shift):
            return
        change = self._common_change(surprise, expected_level, usable)
        if change is not None:
            self._expected = np.clip(self._expected + change, -self._most_levels, self._most_levels)

    def kept(self, patches: np.ndarray) -> None:
        """The patches marked in `[num_patches]` bool are compared with what they show now from here on."""
        self._expected[patches] = 0.0

    def _common_change(self, surprise: np.ndarray, level: np.ndarray, usable: np.ndarray) -> np.ndarray | None:
        """What all patches' brightness did, `[num_patches]`, as an offset or as a gain; None where they disagree."""
        change = np.full(len(surprise), np.median(surprise[usable]))
        agreed = self._agreed(surprise - change, usable)
        line = _resistant_line(level[usable], surprise[usable])
        if line is not None:
            slope, intercept = line
            gained = slope * level + intercept
            agreed_on_gain = self._agreed(surprise - gained, usable)
            if agreed_on_gain >= agreed + GAIN_SHARE:
                change, agreed = gained, agreed_on_gain
        return change if agreed >= AGREED_SHARE else None

    def _agreed(self, rest: np.ndarray, usable: np.ndarray) -> float:
        return float((np.abs(rest[usable]) <= self._agreed_levels).mean())


def _resistant_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Slope and intercept through the medians of the outer thirds (Tukey, Exploratory Data Analysis, 1977).

    None where x is spread too little.
    """
    order = np.argsort(x, kind="stable")
    third = len(order) // 3
    if third == 0:
        return None
    low, high = order[:third], order[-third:]
    run = float(np.median(x[high]) - np.median(x[low]))
    if run < SLOPE_SPREAD_LEVELS:
        return None
    slope = float(np.median(y[high]) - np.median(y[low])) / run
    return slope, float(np.median(y - slope * x))
