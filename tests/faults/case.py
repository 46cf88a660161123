"""The fault cases: each does something to the running program, checks a rule, and returns measurements."""

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
    """One fault case."""

    name: str
    rule: str
    """What must hold during and after the fault."""
    run: Try
    """Causes the fault; raises `Broken` if the rule does not hold."""
    is_quick: bool
    """Whether it is also part of the test suite."""
    needs_rtsp: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one fault case."""

    name: str
    held: bool
    seconds: float
    rule: str
    measured: Measured = field(default_factory=dict)
    failure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The result as values for JSON."""
        return asdict(self)


class Faults:
    """Registry of the fault cases, in order of registration."""

    def __init__(self) -> None:
        self.all: dict[str, Fault] = {}

    def add(self, rule: str, *, name: str = "", quick: bool = False, rtsp: bool = True) -> Callable[[Try], Try]:
        """Decorator that registers a function as a fault case; `name` defaults to the function's name."""

        def enter(run: Try) -> Try:
            title = name or run.__name__
            if title in self.all:
                raise ValueError(f"fault {title!r}: named twice; give it another name")
            self.all[title] = Fault(title, " ".join(rule.split()), run, quick, rtsp)
            return run

        return enter


FAULTS = Faults()
"""All fault cases; the modules of cases register them when imported."""


def try_fault(fault: Fault) -> Outcome:
    """Run a case in its own folder; also check that it leaves no thread and no open file behind."""
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
    # The first case of a process opens files of libraries, which stay open.
    return f"{more} more files are open than before" if more > 20 else ""


def _num_open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.exists() else 0
