"""Plots of the speed table as PNG files: a frame against cameras, against frames seen, and where its time goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from assistant.errors import ConfigError
from assistant.speed.talk_rows import frame_ms_of

if TYPE_CHECKING:
    from assistant.speed.rows import Row
    from assistant.speed.workbench import Workbench

CAMERAS = (1, 2, 4, 8)
NUM_POINTS = 40
"""Points of the curve over a long run, each the median of its stretch."""
PART_NAMES = {"prune": "DiffFP", "encode": "encode", "prefill": "language model", "other": "the rest"}


def draw_plots(bench: Workbench, rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw what the rows measured into a folder; returns the files. Raises `ConfigError` where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = [_against_cameras(bench, folder / "speed_cameras.png")] if "cameras" in bench.kept else []
        if "curve" in bench.kept:
            drawn.append(_against_frames(bench.kept["curve"], folder / "speed_frames.png"))
        in_parts = [row for row in rows if row.parts]
        if in_parts:
            drawn.append(_where_time_goes(in_parts, folder / "speed_parts.png"))
    except OSError as error:
        raise ConfigError(f"--plots {folder}: {error.strerror}; give a folder that can be written") from error
    return drawn


def _against_cameras(bench: Workbench, path: Path) -> Path:
    rounds = [[frame_ms_of(bench, number) for number in CAMERAS] for _ in bench.rounds()]
    times_ms = [median(times) for times in zip(*rounds, strict=True)]
    figure, axes = _panel("milliseconds a frame against cameras on one engine")
    axes.plot(CAMERAS, times_ms, "o-", label="measured")
    axes.axhline(times_ms[0], color="grey", lw=1, ls="--", label="one camera")
    axes.axhline(times_ms[0] / 2, color="tab:green", lw=1, ls="--", label="twice as fast")
    axes.set(xlabel="cameras", ylabel="ms a frame", ylim=(0, None), xticks=CAMERAS)
    axes.legend(fontsize=8)
    return _saved(figure, path)


def _against_frames(curve: Sequence[tuple[int, float]], path: Path) -> Path:
    size = max(1, len(curve) // NUM_POINTS)
    stretches = [curve[start : start + size] for start in range(0, len(curve) - size + 1, size)]
    figure, axes = _panel("milliseconds a frame against frames that the session has seen")
    axes.plot(
        [median(number for number, _ in stretch) for stretch in stretches],
        [median(ms for _, ms in stretch) for stretch in stretches],
        "o-",
        ms=3,
    )
    axes.set(xlabel="frames seen", ylabel="ms a moving frame, median", ylim=(0, None))
    return _saved(figure, path)


def _where_time_goes(rows: Sequence[Row], path: Path) -> Path:
    figure, axes = _panel("where the time of a frame goes, window full")
    left = [0.0] * len(rows)
    names = [row.spec.name for row in rows]
    for part, title in PART_NAMES.items():
        widths = [row.parts.get(part, 0.0) for row in rows]
        axes.barh(names, widths, left=left, label=title)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set(xlabel="ms")
    axes.invert_yaxis()
    figure.legend(fontsize=8, loc="outside lower center", ncols=len(PART_NAMES))
    return _saved(figure, path)


def _panel(title: str) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    return figure, axes


def _saved(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=90)
    return path
