"""Rows of the speed table: what is measured, its baseline from the same run, and what it should reach. Any thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from assistant.speed.workbench import Workbench

WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Target:
    """What a row should reach: a limit of its value, or of the ratio of its value to its baseline."""

    of: Literal["ratio", "value"]
    limit: float
    at_least: bool = False
    """Whether more is better."""

    def is_reached(self, value: float, ratio: float | None) -> bool:
        """Whether a measured row reaches the target."""
        found = value if self.of == "value" else ratio
        if found is None or math.isnan(found):
            return False
        return found >= self.limit if self.at_least else found <= self.limit

    def as_text(self, unit: str) -> str:
        """The target in words.

        >>> Target("ratio", 1 / 110).as_text("ms"), Target("value", 3.0).as_text("ms")
        ('ratio at most 1/110', 'at most 3 ms')
        """
        bound = "at least" if self.at_least else "at most"
        return f"{bound} {self.limit:g} {unit}" if self.of == "value" else f"ratio {bound} {shown_ratio(self.limit)}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one row's measurement gave: values in the row's unit, those of the baseline, and remarks."""

    values: Sequence[float]
    baselines: Sequence[float] = ()
    remark: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    """Milliseconds of the parts of a value, for the plot of where the time goes."""


@dataclass(frozen=True, slots=True)
class RowSpec:
    """One row: its name on the command line, its figure and baseline in words, and how to measure it."""

    name: str
    figure: str
    baseline: str
    unit: str
    target: Target
    measure: Callable[[Workbench], Measured]
    on_gpu: bool = False
    """Whether it is measured with random weights of a released size, on CUDA."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table, measured or waiting for a machine that has what it needs."""

    spec: RowSpec
    value: float | None = None
    baseline: float | None = None
    spread: tuple[float, float] = (math.nan, math.nan)
    """Half the distance between the quartiles, of the values and of the baselines, as shares of their medians."""
    remark: str = ""
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The value over its baseline; `None` where one of them was not measured."""
        return self.value / self.baseline if self.value is not None and self.baseline else None

    @property
    def passed(self) -> bool | None:
        """Whether the target is reached; `None` while the row waits."""
        return None if self.value is None else self.spec.target.is_reached(self.value, self.ratio)

    def as_dict(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return {
            "name": self.spec.name,
            "value": _rounded(self.value),
            "baseline": _rounded(self.baseline),
            "ratio": _rounded(self.ratio),
            "target": self.spec.target.as_text(self.spec.unit),
            "passed": self.passed,
        }


def row_of(spec: RowSpec, measured: Measured) -> Row:
    """Medians and spread of what was measured."""
    values, baselines = _numbers(measured.values), _numbers(measured.baselines)
    return Row(
        spec,
        median(values) if values else None,
        median(baselines) if baselines else None,
        (spread_of(values), spread_of(baselines)),
        measured.remark,
        measured.parts,
    )


def spread_of(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a share of the median; NaN for fewer than two values.

    >>> spread_of([1.0, 2.0, 3.0])
    0.25
    """
    if len(values) < 2 or not median(values):
        return math.nan
    low, high = np.percentile(values, [25, 75])
    return float(high - low) / 2 / abs(median(values))


def shown_ratio(ratio: float) -> str:
    """A ratio as people read it.

    >>> shown_ratio(1 / 110), shown_ratio(0.4), shown_ratio(1.2)
    ('1/110', '1/2.5', '1.2')
    """
    if not 0 < ratio < 1:
        return f"{ratio:.3g}"
    inverse = Fraction(1 / ratio).limit_denominator(10)
    return f"1/{float(inverse):.3g}"


def table(rows: Sequence[Row]) -> str:
    """The rows as a table for the terminal."""
    lines = [("row", "measured", "baseline", "ratio", "target", "")]
    for row in rows:
        unit, is_open = row.spec.unit, row.value is None
        lines.append(
            (
                f"{row.spec.name}: {row.spec.figure}",
                WAITING if is_open else _shown(row.value, row.spread[0], unit),
                f"{_shown(row.baseline, row.spread[1], unit)} {row.spec.baseline}".strip(),
                "" if row.ratio is None else shown_ratio(row.ratio),
                row.spec.target.as_text(unit),
                {None: "", True: "reached", False: "not reached"}[row.passed],
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    remarks = [f"{row.spec.name}: {row.remark}" for row in rows if row.remark]
    return "\n".join([*shown, *([""] if remarks else []), *remarks])


def _shown(value: float | None, spread: float, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.3g} {unit}" + ("" if math.isnan(spread) else f" ±{100 * spread:.0f} %")


def _numbers(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values if not math.isnan(value)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
