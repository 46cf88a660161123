"""Draw the log of a training run: losses and accuracies over steps, stage by stage. Any thread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.training.attention_supervision import ATTENTION_KINDS

_PANELS = (
    ("loss", ("loss", "text", "answers", "decision", "state", "history", "cells", *ATTENTION_KINDS)),
    ("share right", ("decision_right", "text_right", "answers_right")),
)
_COLOURS = 10
"""Number of colours; further lines reuse them, dashed."""
_AVERAGED = 5
"""Number of log lines averaged in one point of a curve."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a `log.jsonl`, the last one of each step, because a killed run repeats some steps.

    An unfinished last line is left out.
    """
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        lines[line["stage"], line["step"]] = line
    return list(lines.values())


def draw_curves(log: Path, picture: Path) -> None:
    """Draw the log's curves as a PNG; draws nothing where the log has no line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_log(log)
    if not lines:
        return
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    starts, total = _starts(lines)
    for panel, (title, keys) in zip(figure.subplots(len(_PANELS), 1, sharex=True), _PANELS, strict=True):
        for number, key in enumerate(keys):
            points = [(starts[line["stage"]] + line["step"], line[key]) for line in lines if line.get(key) is not None]
            if points:
                style = "-" if number < _COLOURS else "--"
                panel.plot(*_averaged(points), style, color=f"C{number % _COLOURS}", label=key, linewidth=1)
        for stage, start in starts.items():
            panel.axvline(start, color="grey", linewidth=0.5)
            panel.annotate(stage, (start, 1.0), xycoords=("data", "axes fraction"), fontsize=7, va="top")
        panel.set_ylabel(title)
        if title == "loss":  # from several nats down to a thousandth of one
            panel.set_yscale("log", nonpositive="clip")
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    panel.set_xlabel("step")
    panel.set_xlim(0, total)
    figure.savefig(picture, dpi=110)


def _starts(lines: list[dict[str, Any]]) -> tuple[dict[str, int], int]:
    """The step, counted over all stages, at which each stage begins, and the total number of steps."""
    lasts: dict[str, int] = {}
    for line in lines:
        lasts[line["stage"]] = max(lasts.get(line["stage"], 0), line["step"])
    starts, total = {}, 0
    for stage, last in lasts.items():
        starts[stage], total = total, total + last
    return starts, total


def _averaged(points: list[tuple[int, float]]) -> tuple[list[float], list[float]]:
    groups = [points[start : start + _AVERAGED] for start in range(0, len(points), _AVERAGED)]
    return (
        [sum(step for step, _ in group) / len(group) for group in groups],
        [sum(value for _, value in group) / len(group) for group in groups],
    )
