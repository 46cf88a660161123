"""Chooses rows of the speed table and measures them one after another. One thread."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.errors import ConfigError
from assistant.speed.frame_rows import FRAME_ROWS
from assistant.speed.gpu_rows import SIZES, for_any_machine, rows_of
from assistant.speed.path_rows import PATH_ROWS
from assistant.speed.rows import Row, RowSpec, row_of
from assistant.speed.talk_rows import TALK_ROWS

if TYPE_CHECKING:
    from assistant.speed.workbench import Workbench

TINY = "tiny"
"""A size for trying the rows of a GPU on any machine."""


def all_rows(size: str | None = None) -> tuple[RowSpec, ...]:
    """Every row, in the order of the table. size: random weights that were asked for.

    Raises `ConfigError` for another size.
    """
    if size == TINY:
        return tuple(for_any_machine(spec) for spec in rows_of(TINY))
    if size is not None and size not in SIZES:
        raise ConfigError(f"--random-weights {size!r}: {', '.join(SIZES)} or {TINY}")
    of_sizes = [spec for known in ([size] if size else SIZES) for spec in rows_of(known)]
    return tuple(of_sizes) if size else (*FRAME_ROWS, *TALK_ROWS, *PATH_ROWS, *of_sizes)


def chosen_rows(names: str, size: str | None = None) -> tuple[RowSpec, ...]:
    """The rows with these names, separated by commas; `all` for every one. Raises `ConfigError` for an unknown name."""
    rows = all_rows(size)
    if names == "all":
        return rows
    wanted = [name.strip() for name in names.split(",")]
    known = [spec.name for spec in rows]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(f"--rows {unknown[0]!r}: the names are {', '.join(known)}, or all")
    return tuple(spec for spec in rows if spec.name in wanted)


def measure(
    bench: Workbench, specs: Sequence[RowSpec], on_row: Callable[[RowSpec], None] = lambda spec: None
) -> list[Row]:
    """Measure the rows; those for a GPU wait where there is none, or where no random weights were asked for."""
    rows = []
    can_run_on_gpu = bench.settings.size is not None and _has_cuda()
    for spec in specs:
        if spec.on_gpu and not can_run_on_gpu:
            rows.append(Row(spec))
            continue
        on_row(spec)
        rows.append(row_of(spec, spec.measure(bench)))
    return rows


def machine() -> str:
    """This machine, the libraries, the date and how busy it is, in one line."""
    from importlib.metadata import version

    load = "/".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{time.strftime('%Y-%m-%d')}, {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {version('torch')}, transformers {version('transformers')}; load {load}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _has_cuda() -> bool:
    from models.checkpoint.devices import devices_present

    return any(device.name.startswith("cuda") for device in devices_present())
