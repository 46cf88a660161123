"""Estimates the noise floor of a source and of each patch: how much two frames of a still scene differ.

Belongs to the thread that prunes; uses numpy only. All values are grey levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HALF_LIFE_S = 60.0
"""Half-life of the floor: encoders send an intra-coded frame every 2 to 10 s, and the floor must remember several."""
SOURCE_QUANTILE = 0.75
"""The source's floor is this quantile of its patches' floors: moving objects cover less than a quarter of them."""
QUIET_CONTRAST, QUIET_SHIFT, QUIET_COLOUR = 5.0, 3.0, 4.0
"""A still patch seldom changes by more than this between frames, up to a noise of 8 levels and H.264 intra frames."""
QUIET_SHARE = 0.3
"""A frame with a smaller share of quiet patches is a cut, a covered lens or a crowd, and is not learnt from."""
SPREAD = 1.25
"""Factor by which noise may differ over the picture: it grows with the light, and coding errors with the texture."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How one frame's patches differ from those of another frame, `[num_patches]` float32 each.

    Split by spatial scale: noise and coding errors are fine-grained and average out of the means, exposure and soft
    shadows show in the means only, and moving objects show in all four.
    """

    shift: np.ndarray
    """The patch's mean over its pixels and channels, signed."""
    colour: np.ndarray
    """The largest difference between one channel's mean and the mean of all three."""
    contrast: np.ndarray
    """The largest difference between a quarter patch's mean and the patch's mean."""
    detail: np.ndarray
    """The rms inside the quarter patches."""


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """How the threshold of one statistic depends on its noise floor."""

    gain: float
    margin: float
    """The threshold is `gain * floor + margin`; the floor is an upper envelope already."""
    own: float
    """Largest floor that a patch may reach by itself on a quieter source, so that no patch becomes insensitive."""
    most: float
    """Largest threshold, however noisy the source is."""


CONTRAST = ThresholdRule(gain=1.2, margin=0.6, own=4.5, most=8.0)
DETAIL = ThresholdRule(gain=1.15, margin=1.2, own=6.0, most=40.0)
"""Tuned on Gaussian noise of up to 8 levels, raw and encoded by libx264 (crf 28), on plain and 1/f backgrounds.

There an intra-coded frame changes a still patch's detail by 4 to 9, and its contrast by 1 to 2 and seldom by 4. The
edge of an object 24 levels off its background changes both by 7 or more once it has moved by 4 px.
"""


class NoiseFloor:
    """The noise floor of contrast and detail: a slowly decaying upper envelope of the difference between two frames."""

    def __init__(self, num_patches: int, contrast_levels: float, detail_levels: float) -> None:
        """`contrast_levels` and `detail_levels` are the thresholds on a noiseless source."""
        senses = (CONTRAST, DETAIL)
        self._gain = np.array([[sense.gain] for sense in senses], dtype=np.float32)
        self._margin = np.array([[sense.margin] for sense in senses], dtype=np.float32)
        self._own = np.array([[sense.own] for sense in senses], dtype=np.float32)
        self._least = np.array([[contrast_levels], [detail_levels]], dtype=np.float32)
        self._most = np.maximum(np.array([[sense.most] for sense in senses], dtype=np.float32), self._least)
        self._envelope = np.zeros((len(senses), num_patches), dtype=np.float32)
        self._source = np.zeros((len(senses), 1), dtype=np.float32)

    @property
    def levels(self) -> float:
        """The standard deviation of one frame's noise."""
        return float(self._source[1, 0]) / 2**0.5

    def learn(self, since_frame: Difference, elapsed_s: float) -> None:
        """Update the floor from how the patches differ from the frame `elapsed_s` earlier.

        Frames with large changes, and patches in which something plainly moves, are ignored. Noise and intra-coded
        frames affect a whole frame, so a patch's floor rises no further than its frame's quiet patches support.
        """
        quiet = (since_frame.contrast <= QUIET_CONTRAST) & (since_frame.colour <= QUIET_COLOUR)
        if quiet.mean() < QUIET_SHARE:
            return
        quiet &= np.abs(since_frame.shift - median(since_frame.shift[quiet])) <= QUIET_SHIFT
        if quiet.mean() < QUIET_SHARE:
            return
        self._envelope *= 0.5 ** (min(max(elapsed_s, 0.0), HALF_LIFE_S) / HALF_LIFE_S)
        found = np.stack([since_frame.contrast, since_frame.detail])
        supported = SPREAD * _quantile(found[:, quiet], 0.9) + 1.0
        np.maximum(self._envelope, np.minimum(found, supported), out=self._envelope, where=quiet)
        self._source = _quantile(self._envelope, SOURCE_QUANTILE)

    def passed(self, since_kept: Difference) -> np.ndarray:
        """Which patches differ from their last kept pixels by more than noise, `[num_patches]` bool."""
        own = np.minimum(self._envelope, np.maximum(self._own, SPREAD * self._source))
        floor = np.maximum(own, self._source)
        threshold = np.clip(self._gain * floor + self._margin, self._least, self._most)
        differs: np.ndarray = (since_kept.contrast > threshold[0]) | (since_kept.detail > threshold[1])
        return differs


def _quantile(values: np.ndarray, share: float) -> np.ndarray:
    """The quantile `share` of each row, `[rows, 1]`; ten times as fast as numpy's own on so few values."""
    rank = int(share * (values.shape[1] - 1))
    return np.partition(values, rank, axis=1)[:, rank : rank + 1]


def median(values: np.ndarray) -> np.floating:
    """The median of one or more numbers, none of them NaN; several times as fast as numpy's own on so few values."""
    half, is_even = len(values) // 2, len(values) % 2 == 0
    ordered = np.partition(values, (half - 1, half) if is_even else half)
    middle: np.floating = (ordered[half - 1] + ordered[half]) / 2 if is_even else ordered[half]
    return middle
