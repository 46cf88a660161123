"""Score remarks against the truth: one-to-one matching in time, content by slots, with confidence intervals.

Pure functions of lists, independent of models and scenes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Slots = Mapping[str, str | None]
FEW_CELLS = 4
"""With fewer kept cells a frame hardly shows where it is on the grid."""
ENOUGH_EVENTS = 50
"""With fewer events of a kind its recall is a rough figure."""


@dataclass(frozen=True, slots=True)
class ScoredRemark:
    """A remark that the assistant made."""

    time_s: float
    slots: Slots | None
    """The remark's content; `None` where it cannot be parsed."""
    num_kept: int | None = None
    """Number of kept cells of the remark's frame; `None` where unknown."""


@dataclass(frozen=True, slots=True)
class Owed:
    """An event that requires a remark."""

    time_s: float
    """Time of the first sampled frame in which a quarter of the change is visible."""
    slots: Slots
    kind: str


@dataclass(frozen=True, slots=True)
class SceneScore:
    """The counts of one scene."""

    num_owed: int
    num_said: int
    pairs: tuple[tuple[int, int], ...]
    """(index of the event, index of the remark), each index at most once."""
    delays_s: tuple[float, ...]
    slots_right: int
    slots_asked: int
    num_redundant: int
    """Unmatched remarks that repeat a matched remark of the last few seconds."""
    duration_s: float
    kinds_owed: tuple[str, ...]
    kinds_found: tuple[str, ...]
    kinds_named: tuple[str, ...] = ()
    """Kinds of the found events whose remark has all of its content right."""
    few_right: int = 0
    few_asked: int = 0
    """Number of remarks that state a side, right and in all, made from frames with fewer than `FEW_CELLS` kept
    cells."""

    @property
    def num_matched(self) -> int:
        """Number of events that got their remark."""
        return len(self.pairs)


def score_scene(
    owed: Sequence[Owed],
    said: Sequence[ScoredRemark],
    duration_s: float,
    *,
    tolerance_s: float = 1.0,
    echo_s: float = 5.0,
) -> SceneScore:
    """Match remarks to events in order, as many as possible within ±`tolerance_s`; among equal matchings content
    decides."""
    owed = sorted(owed, key=lambda event: event.time_s)
    said = sorted(said, key=lambda remark: remark.time_s)
    pairs = _match(owed, said, tolerance_s)
    content = [_slots_right(owed[event].slots, said[remark].slots) for event, remark in pairs]
    few = [(owed[event].slots, said[remark]) for event, remark in pairs if _shows_few(owed[event], said[remark])]
    used = {remark for _, remark in pairs}
    redundant = sum(
        any(
            0 <= said[index].time_s - said[other].time_s <= echo_s and said[index].slots == said[other].slots
            for other in used
        )
        for index in range(len(said))
        if index not in used
    )
    return SceneScore(
        num_owed=len(owed),
        num_said=len(said),
        pairs=tuple(pairs),
        delays_s=tuple(said[remark].time_s - owed[event].time_s for event, remark in pairs),
        slots_right=sum(right for right, _ in content),
        slots_asked=sum(asked for _, asked in content),
        num_redundant=redundant,
        duration_s=duration_s,
        kinds_owed=tuple(event.kind for event in owed),
        kinds_found=tuple(owed[event].kind for event, _ in pairs),
        kinds_named=tuple(
            owed[event].kind for (event, _), (right, asked) in zip(pairs, content, strict=True) if right == asked
        ),
        few_right=sum(remark.slots is not None and remark.slots.get("side") == slots["side"] for slots, remark in few),
        few_asked=len(few),
    )


def summarise(scores: Sequence[SceneScore], *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Precision, recall and F1 with 95 % intervals (bootstrap over scenes), delays, content, redundancy, and counts by
    kind."""
    delays = np.array([delay for score in scores for delay in score.delays_s])
    summary: dict[str, Any] = dict(_rates(scores))
    rng = np.random.default_rng(seed)
    drawn = [[scores[i] for i in rng.integers(0, len(scores), len(scores))] for _ in range(resamples)] if scores else []
    for name in ("precision", "recall", "f1", "content"):
        values = [_rates(draw)[name] for draw in drawn]
        summary[f"{name}_interval"] = [float(np.percentile(values, q)) for q in (2.5, 97.5)] if values else [0.0, 0.0]
    summary["delay_median_s"] = float(np.median(delays)) if len(delays) else math.nan
    summary["delay_p95_s"] = float(np.percentile(delays, 95)) if len(delays) else math.nan
    summary["side_of_few_cells"] = rate([(score.few_right, score.few_asked) for score in scores])
    kinds = sorted({kind for score in scores for kind in score.kinds_owed})
    summary["by_kind"] = {
        kind: {
            "owed": sum(score.kinds_owed.count(kind) for score in scores),
            "found": sum(score.kinds_found.count(kind) for score in scores),
            "named": sum(score.kinds_named.count(kind) for score in scores),
            "interval": rate([(s.kinds_found.count(kind), s.kinds_owed.count(kind)) for s in scores])["interval"],
        }
        for kind in kinds
    }
    return summary


def rate(counts: Sequence[tuple[int, int]], *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """A share with its 95 % interval (bootstrap over scenes), from (right, asked) of each scene; null where none was
    asked.

    >>> rate([(3, 4), (1, 1)])["value"]
    0.8
    """
    return mean_rate([counts], resamples=resamples, seed=seed)


def mean_rate(classes: Sequence[Sequence[tuple[int, int]]], *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """The mean of several classes' shares, so that a constant answer gains nothing from unequal class sizes.

    classes: for each class, (right, asked) of each scene. Classes that were never asked do not count.
    """
    table = np.asarray(classes, dtype=np.float64).reshape(len(classes), -1, 2)
    right, asked = int(table[..., 0].sum()), int(table[..., 1].sum())
    values: dict[str, Any] = {"value": None, "interval": None, "right": right, "asked": asked}
    if not asked:
        return values
    num_scenes = table.shape[1]
    drawn = np.random.default_rng(seed).integers(0, num_scenes, (resamples, num_scenes))
    found = _mean_share(table[:, drawn].sum(axis=2))
    values["value"] = float(_mean_share(table.sum(axis=1)[:, None])[0])
    values["interval"] = [float(np.nanpercentile(found, q)) for q in (2.5, 97.5)]
    return values


def _mean_share(sums: np.ndarray) -> np.ndarray:
    """Mean share over classes, `[num_draws]`; NaN where nothing was asked. sums: `[num_classes, num_draws, 2]`, right
    and asked."""
    asked = sums[..., 1] > 0
    shares = np.where(asked, sums[..., 0] / np.maximum(sums[..., 1], 1), 0.0)
    num_classes = asked.sum(axis=0)
    return np.where(num_classes > 0, shares.sum(axis=0) / np.maximum(num_classes, 1), np.nan)


def rate_per_hour(count: int, hours: float) -> dict[str, Any]:
    """Events per hour with the exact 95 % interval of a Poisson count (Garwood 1936)."""
    if not hours:
        return {"value": None, "interval": None, "count": count, "hours": hours}
    low = _poisson_mean(lambda mean: _poisson_tail(count, mean) < 0.025) if count else 0.0
    high = _poisson_mean(lambda mean: 1 - _poisson_tail(count + 1, mean) > 0.025)
    return {"value": count / hours, "interval": [low / hours, high / hours], "count": count, "hours": hours}


def _poisson_tail(count: int, mean: float) -> float:
    """P(N ≥ count) for a Poisson count of the given mean."""
    log_terms = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(count)] if mean > 0 else [0.0]
    return 1.0 - min(1.0, sum(math.exp(term) for term in log_terms)) if count else 1.0


def _poisson_mean(is_below: Callable[[float], bool]) -> float:
    """The mean at which a condition that holds for small means stops holding."""
    low, high = 0.0, 1.0
    while is_below(high):
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return high


def _shows_few(owed: Owed, said: ScoredRemark) -> bool:
    """Whether a side was owed and the remark's frame had fewer than `FEW_CELLS` kept cells."""
    return owed.slots.get("side") is not None and said.num_kept is not None and said.num_kept < FEW_CELLS


def _rates(scores: Sequence[SceneScore]) -> dict[str, Any]:
    owed = sum(score.num_owed for score in scores)
    said = sum(score.num_said for score in scores)
    matched = sum(score.num_matched for score in scores)
    asked = sum(score.slots_asked for score in scores)
    hours = sum(score.duration_s for score in scores) / 3600
    precision = matched / said if said else float(owed == 0)
    recall = matched / owed if owed else 1.0
    return {
        "scenes": len(scores),
        "hours": hours,
        "owed": owed,
        "said": said,
        "matched": matched,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "content": sum(score.slots_right for score in scores) / asked if asked else 0.0,
        "redundancy": sum(score.num_redundant for score in scores) / owed if owed else 0.0,
        "false_alarms_per_hour": (said - matched) / hours if hours else 0.0,
    }


def _match(owed: Sequence[Owed], said: Sequence[ScoredRemark], tolerance_s: float) -> list[tuple[int, int]]:
    """The order-preserving matching with most pairs, then most right slots, then least delay, by dynamic
    programming."""
    best: list[list[tuple[int, int, float]]] = [[(0, 0, 0.0)] * (len(said) + 1) for _ in range(len(owed) + 1)]
    for i in range(len(owed) - 1, -1, -1):
        for j in range(len(said) - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1])
            gain = _gain(owed[i], said[j], tolerance_s)
            if gain is not None:
                pairs, right, minus_delay = best[i + 1][j + 1]
                best[i][j] = max(best[i][j], (pairs + 1, right + gain[0], minus_delay - gain[1]))
    pairs_found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(owed) and j < len(said):
        if best[i][j] == best[i + 1][j]:
            i += 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            pairs_found.append((i, j))
            i, j = i + 1, j + 1
    return pairs_found


def _gain(owed: Owed, said: ScoredRemark, tolerance_s: float) -> tuple[int, float] | None:
    delay = abs(said.time_s - owed.time_s)
    if delay > tolerance_s + 1e-6:
        return None
    return _slots_right(owed.slots, said.slots)[0], round(delay, 6)


def _slots_right(owed: Slots, said: Slots | None) -> tuple[int, int]:
    """(slots that agree, slots asked). A slot that the event leaves open is not asked."""
    asked = [name for name, value in owed.items() if value is not None]
    return (0 if said is None else sum(said.get(name) == owed[name] for name in asked)), len(asked)
