"""Estimates how much of each patch's change of brightness comes from the camera's exposure alone.

Belongs to the thread that prunes; uses numpy only. All values are grey levels.
"""

from __future__ import annotations

import numpy as np

from streaming.difffp.noise import median

STEADY_SHARE = 0.3
"""Least share of patches with unchanged texture; with fewer, the exposure is assumed not to have changed."""
AGREED_SHARE = 0.8
"""Least share of those patches that must change alike: exposure changes all of a picture, an object only a part."""
EXTREME_LEVELS = 2.0
"""A patch this close to the brightest or darkest one may be saturated and is left out."""
GAIN_SHARE = 0.1
"""Share by which more patches must agree on a gain than on an offset: a fitted line bends towards moving objects."""
SLOPE_SPREAD_LEVELS = 10.0
"""Least distance between the brighter and the darker third for telling a gain from an offset."""


class Exposure:
    """The brightness that each patch is expected to have gained since it was kept, by exposure alone.

    Each frame is compared with the kept pixels, so errors do not add up from frame to frame. The expected gain is at
    most `most_levels`: any larger difference counts as a change, whatever its cause.
    """

    def __init__(self, num_patches: int, agreed_levels: float, most_levels: float) -> None:
        """`agreed_levels`: largest difference between patches that count as changing alike.

        `most_levels`: largest change that is attributed to exposure.
        """
        self._agreed_levels = agreed_levels
        self._most_levels = most_levels
        self._expected = np.zeros(num_patches)

    @property
    def expected(self) -> np.ndarray:
        """By how much each patch is expected to be brighter than when it was kept, `[num_patches]`."""
        return self._expected

    def update(self, shift: np.ndarray, level: np.ndarray, stayed: np.ndarray) -> None:
        """Update the estimate from the next frame.

        shift: how much brighter each patch is than when it was kept; level: its mean now; stayed: whether its texture
        is unchanged since it was kept. All are `[num_patches]`.
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

    def reset_patches(self, patches: np.ndarray) -> None:
        """Restart the estimate of newly kept patches, marked in `[num_patches]` bool, from their present pixels."""
        self._expected[patches] = 0.0

    def _common_change(self, surprise: np.ndarray, level: np.ndarray, usable: np.ndarray) -> np.ndarray | None:
        """The common change of brightness, `[num_patches]`, as an offset or a gain; None if the patches disagree."""
        change = np.full(len(surprise), median(surprise[usable]))
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

    None if the values of `x` are too close together.
    """
    order = np.argsort(x, kind="stable")
    third = len(order) // 3
    if third == 0:
        return None
    low, high = order[:third], order[-third:]
    run = float(median(x[high]) - median(x[low]))
    if run < SLOPE_SPREAD_LEVELS:
        return None
    slope = float(median(y[high]) - median(y[low])) / run
    return slope, float(median(y - slope * x))
