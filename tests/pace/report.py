"""What was timed, summed up as plain JSON values and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from tests.pace.meter import spread
from tests.pace.stream import Picture, Record, Seen

MIB = 2**20
_ROWS = {
    "frame_ms": "frame",
    "difffp_ms": "  resize and DiffFP",
    "encode_ms": "  encode",
    "append_decide_ms": "  append and decide",
    "near_ms": "frame near to speaking",
    "skipped_ms": "frame that is not used",
    "eviction_ms": "eviction",
    "comment_first_ms": "comment, first token",
    "answer_first_ms": "answer, first token",
    "token_ms": "generated token",
    "check_ms": "yes/no check",
}


def summed_up(record: Record) -> dict[str, Any]:
    """One session's figures: milliseconds as median, 95th percentile and count; `None` where nothing was to measure.

    Frames are those that came once the window had been full, the one with the rebase aside. `fps` counts them alone, a
    fifth of them near to speaking; `fps_talking` the turns and checks between them, too. `peak_bytes` is the most in
    tensors, weights among them.
    """
    used = [seen for seen in record.frames if seen.sight.appended]
    split = [seen.sight.timings for seen in used if seen.how == "split"]
    quarter = max(1, len(used) // 4)
    first, last = _quarter(used[:quarter]), _quarter(used[-quarter:])
    rebase = [record.rebase] if record.rebase is not None else []
    peaks = [seen.peak_bytes for seen in (*record.filling, *record.frames, *rebase) if seen.peak_bytes is not None]
    return {
        "frames": len(record.frames),
        "used": len(used),
        "cells_kept": float(median(int(seen.sight.pruning.keep.sum()) for seen in used)),
        "tokens_a_frame": float(median(seen.sight.num_tokens for seen in used)),
        "frame_ms": spread([seen.ms for seen in used if seen.how == "plain"]),
        "difffp_ms": spread([timings["prune"] for timings in split]),
        "encode_ms": spread([timings["encode"] for timings in split]),
        "append_decide_ms": spread([timings["total"] - timings["prune"] - timings["encode"] for timings in split]),
        "near_ms": spread([seen.ms for seen in used if seen.how == "near"]),
        "skipped_ms": spread([seen.ms for seen in record.frames if not seen.sight.appended]),
        "eviction_ms": spread(record.eviction_ms),
        "comment_first_ms": spread(record.comment_first_ms),
        "answer_first_ms": spread(record.answer_first_ms),
        "token_ms": spread(record.token_ms),
        "check_ms": spread(record.check_ms),
        "rebase_ms": spread([seen.ms for seen in rebase]),
        "rebase_tokens": record.num_rebuilt,
        "fps": round(1e3 / mean(seen.ms for seen in record.frames), 2),
        "fps_talking": round(len(record.frames) / record.seconds, 2),
        "evictions": record.num_evictions,
        "cache_tokens": record.num_tokens,
        "first_quarter": first,
        "last_quarter": last,
        "peak_bytes": max(peaks, default=None),
    }


def table(values: dict[str, Any]) -> str:
    """The figures for people: one column of median and 95th percentile a kind of frame."""
    names: list[Picture] = ["whole", "few"]
    columns = [values[name] for name in names]
    head = [f"{column['cells_kept']:g} of {values['cells']} cells" for column in columns]
    lines = [
        f"{values['size']}: {values['num_parameters'] / 1e6:,.1f} million parameters, {values['dtype']}, "
        f"{values['device_name']}, torch {values['torch']}, transformers {values['transformers']}",
        f"{'ms: median / 95th percentile':30}{head[0]:>22}{head[1]:>22}",
    ]
    lines += [f"{label:30}{_cell(columns[0][key])}{_cell(columns[1][key])}" for key, label in _ROWS.items()]
    plain: dict[str, Callable[[dict[str, Any]], str]] = {
        "rebase": lambda one: f"{one['rebase_ms']['p50']:.0f}, {one['rebase_tokens']} tokens",
        "frames a second": lambda one: f"{one['fps']:.1f}",
        "the same, with turns": lambda one: f"{one['fps_talking']:.1f}",
        "evictions, tokens at the end": lambda one: f"{one['evictions']}, {one['cache_tokens']}",
        "frame, first and last quarter": lambda one: _both(one, "frame_ms", 1, ".1f"),
        "cache MiB, likewise": lambda one: _both(one, "cache_bytes", MIB, ".1f"),
    }
    if columns[0]["peak_bytes"] is not None:
        plain["peak GPU MiB, likewise"] = lambda one: _both(one, "peak_bytes", MIB, ".0f")
        plain["peak GPU MiB, in all"] = lambda one: f"{one['peak_bytes'] / MIB:.0f}"
    lines += [f"{label:30}{say(columns[0]):>22}{say(columns[1]):>22}" for label, say in plain.items()]
    return "\n".join([*lines, f"{values['seconds']:.0f} s in all"])


def _quarter(frames: Sequence[Seen]) -> dict[str, Any]:
    """Median time, cache and peak of a quarter of the frames that were used."""
    peaks = [seen.peak_bytes for seen in frames if seen.peak_bytes is not None]
    return {
        "frame_ms": round(median(seen.ms for seen in frames), 3),
        "cache_bytes": max(seen.cache_bytes for seen in frames),
        "peak_bytes": max(peaks, default=None),
    }


def _cell(found: dict[str, float] | None) -> str:
    return f"{'-':>22}" if found is None else f"{found['p50']:>13.2f} /{found['p95']:>7.2f}"


def _both(one: dict[str, Any], key: str, unit: float, form: str) -> str:
    return ", ".join(format(one[quarter][key] / unit, form) for quarter in ("first_quarter", "last_quarter"))
