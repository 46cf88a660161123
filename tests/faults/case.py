"""What a fault is here: something that is done to the running program, a rule, and what was measured."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.lab import Broken, Lab

Measured = dict[str, float | int | str | bool]
Try = Callable[[Lab], Measured]

_SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One named case."""

    name: str
    rule: str
    """What must hold."""
    run: Try
    """Does it, and raises `Broken` where the rule does not hold."""
    is_quick: bool
    """Whether the usual tests run it, too."""
    needs_rtsp: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one case went."""

    name: str
    held: bool
    seconds: float
    rule: str
    measured: Measured = field(default_factory=dict)
    failure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class Faults:
    """The cases, in the order in which they were named."""

    def __init__(self) -> None:
        self.all: dict[str, Fault] = {}

    def add(self, rule: str, *, name: str = "", quick: bool = False, rtsp: bool = True) -> Callable[[Try], Try]:
        """Name a function as a case; its own name is the case's where none is given."""

        def enter(run: Try) -> Try:
            title = name or run.__name__
            if title in self.all:
                raise ValueError(f"fault {title!r}: named twice; give it another name")
            self.all[title] = Fault(title, " ".join(rule.split()), run, quick, rtsp)
            return run

        return enter


FAULTS = Faults()
"""Filled where the modules of cases are imported."""


def try_fault(fault: Fault) -> Outcome:
    """Run a case in a folder of its own; also holds it to leaving no thread and no open file behind."""
    threads, num_files = set(threading.enumerate()), _num_open_files()
    started_s = time.monotonic()
    measured: Measured = {}
    failure = ""
    try:
        with tempfile.TemporaryDirectory(prefix="fault-") as folder, Lab(Path(folder)) as lab:
            measured = fault.run(lab)
    except Broken as broken:
        failure = str(broken)
    except Exception:
        failure = traceback.format_exc(limit=-4)
    seconds = time.monotonic() - started_s
    failure = failure or _left_behind(threads, num_files)
    return Outcome(fault.name, not failure, round(seconds, 2), fault.rule, measured, failure)


def _left_behind(threads: set[threading.Thread], num_files: int) -> str:
    for thread in set(threading.enumerate()) - threads:
        thread.join(_SETTLE_S)
    left = sorted(thread.name for thread in set(threading.enumerate()) - threads)
    if left:
        return f"threads were left behind: {left}"
    more = _num_open_files() - num_files
    # The first case of a process opens files of libraries for good.
    return f"{more} more files are open than before" if more > 20 else ""


def _num_open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.exists() else 0
