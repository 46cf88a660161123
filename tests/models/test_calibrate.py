"""Calibration recovers the scale and shift of a score that was miscalibrated on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from models.groundtruth.calibrate import Platt, fit_platt, reliability


def _planted(scale: float, shift: float, n: int = 40000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    log_odds = rng.normal(0, 2.5, n)
    owed = rng.random(n) < 1 / (1 + np.exp(-log_odds))
    return (log_odds - shift) / scale, owed


def test_finds_the_planted_scale_and_shift() -> None:
    scores, owed = _planted(0.5, -1.0)
    platt = fit_platt(scores, owed)
    assert platt.scale == pytest.approx(0.5, abs=0.03) and platt.shift == pytest.approx(-1.0, abs=0.08)


def test_classes_weigh_the_same_however_rare_one_is() -> None:
    scores, owed = _planted(1.0, 0.0)
    rng = np.random.default_rng(4)
    kept = ~owed | (rng.random(len(owed)) < 0.05)
    platt = fit_platt(scores[kept], owed[kept])
    assert platt.shift == pytest.approx(0.0, abs=0.2)


def test_the_reliability_curve_of_a_calibrated_score_is_the_diagonal() -> None:
    scores, owed = _planted(1.0, 0.0)
    for entry in reliability(scores, owed, Platt(1.0, 0.0)):
        assert entry.observed == pytest.approx(entry.predicted, abs=0.05)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        fit_platt([1.0, 2.0], [True, True])
