"""Platt scaling of the decision score, and the reliability curve of the result. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Platt:
    """Coefficients of Platt scaling: scale · s + shift is the log-odds of speaking under balanced classes."""

    scale: float
    shift: float


def fit_platt(
    scores: Sequence[float] | np.ndarray, owed: Sequence[bool] | np.ndarray, *, ridge: float = 1e-3, steps: int = 100
) -> Platt:
    """Logistic regression of `owed` on `scores` with both classes weighted equally (Platt 1999), by Newton's method.

    Raises ValueError unless both classes occur.
    """
    x = np.asarray(scores, dtype=np.float64)
    y = np.asarray(owed, dtype=np.float64)
    if not 0 < y.sum() < len(y):
        raise ValueError(
            f"{int(y.sum())} of {len(y)} decisions were owed; both classes are needed: calibrate on more scenes"
        )
    weight = np.where(y > 0, 0.5 / y.sum(), 0.5 / (len(y) - y.sum()))
    features = np.stack([x, np.ones_like(x)], axis=1)
    theta = np.array([1.0, 0.0])
    prior = np.array([1.0, 0.0])
    for _ in range(steps):
        p = _sigmoid(features @ theta)
        gradient = features.T @ (weight * (p - y)) + ridge * (theta - prior)
        hessian = (features * (weight * p * (1 - p))[:, None]).T @ features + ridge * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta = theta - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            break
    return Platt(scale=float(max(theta[0], 1e-3)), shift=float(theta[1]))


@dataclass(frozen=True, slots=True)
class Reliability:
    """One bin of the reliability curve, with both classes weighted equally."""

    predicted: float
    observed: float
    count: int


def reliability(
    scores: Sequence[float] | np.ndarray, owed: Sequence[bool] | np.ndarray, platt: Platt, *, bins: int = 10
) -> list[Reliability]:
    """Predicted against observed probability that a remark is owed, in equal bins of the predicted probability."""
    y = np.asarray(owed, dtype=np.float64)
    p = _sigmoid(platt.scale * np.asarray(scores, dtype=np.float64) + platt.shift)
    weight = np.where(y > 0, 0.5 / max(y.sum(), 1), 0.5 / max(len(y) - y.sum(), 1))
    which = np.minimum((p * bins).astype(int), bins - 1)
    return [
        Reliability(
            predicted=float(np.average(p[which == b], weights=weight[which == b])),
            observed=float(np.average(y[which == b], weights=weight[which == b])),
            count=int((which == b).sum()),
        )
        for b in range(bins)
        if (which == b).any()
    ]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))
