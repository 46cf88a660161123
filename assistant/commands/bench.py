"""The `bench` command: how fast this machine runs the assistant, each figure against a baseline from the same run."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from assistant.commands.terminal import is_terminal
from assistant.speed.measuring import chosen_rows, machine, measure
from assistant.speed.plots import draw_plots
from assistant.speed.rows import RowSpec, table
from assistant.speed.workbench import BenchSettings, Workbench


def run_bench(names: str, settings: BenchSettings, plots: Path | None, *, as_json: bool) -> None:
    """Measure the rows with these names and print the table, or a JSON list. Raises `ConfigError`."""
    specs = chosen_rows(names, settings.size)
    bench = Workbench(settings)
    began_s = time.perf_counter()

    def tell(spec: RowSpec) -> None:
        if is_terminal():
            print(f"{time.perf_counter() - began_s:5.0f} s  {spec.name}: {spec.figure}", file=sys.stderr, flush=True)

    rows = measure(bench, specs, tell)
    drawn = draw_plots(bench, rows, plots) if plots is not None else []
    if as_json:
        print(json.dumps([row.as_dict() for row in rows], ensure_ascii=False))
        return
    print(table(rows))
    if any(row.value is None for row in rows):
        print("\nrows that wait need CUDA: bench --random-weights 2b, and again with 7b")
    for path in drawn:
        print(f"drawn: {path}")
    print(f"\n{machine()}; measured in {time.perf_counter() - began_s:.0f} s")
