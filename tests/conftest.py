"""What all tests share: no example has a deadline, no test leaves a thread behind, and skips that CI could have avoided
are failures there."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings
from tqdm import tqdm

from tests.assistant.brokers import BROKER_PACKAGES, MOSQUITTO
from tests.threads import left_behind, note_starters, running

settings.register_profile("no test asserts a time", deadline=None)
settings.load_profile("no test asserts a time")

note_starters()
tqdm.monitor_interval = 0  # its thread would live as long as the process
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # so would that of huggingface_hub, which Gradio's client starts
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported, which would start a thread a core in each of the processes.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

NUM_PROCESSES = 2
MAX_END_S = 5.0
"""How long the threads of a test may take to end after it."""
EXCUSED = ("needs_clips", "needs_gpu")
"""Markers of tests that need what no package manager can install."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Where whole folders are run, run two files at a time; `-n 0` runs one after the other.

    In their order, which keeps the browser tests together: the first of them in each process waits for app and browser.
    """
    if hasattr(config, "workerinput"):
        return  # one of the two, which start nobody
    option = config.option
    whole = all((config.invocation_params.dir / argument).is_dir() for argument in config.args)
    looked_into = option.usepdb or option.collectonly or option.capture == "no"
    if whole and not looked_into and getattr(option, "numprocesses", 0) is None:
        option.numprocesses, option.dist, option.loadscopereorder = NUM_PROCESSES, "loadfile", False


@pytest.fixture(autouse=True)
def _no_leaked_thread() -> Iterator[None]:
    """Fail a test that leaves a thread running; those of its module's or the session's fixtures were there before."""
    before = running()
    yield
    leaked = left_behind(before, MAX_END_S)
    assert not leaked, f"threads left behind: {leaked}"


@pytest.fixture(autouse=True)
def _scheduling_as_before() -> Iterator[None]:
    """Fail a test after which the process has another priority: some libraries take real-time priority as root."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0)
    yield
    after = os.sched_getscheduler(0)
    if after != before:
        os.sched_setscheduler(0, before, os.sched_param(0))
    assert after == before, "the process's scheduling was changed; start what changes it in a process of its own"


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Undo what a test sets for the whole process's logs, whose handlers would write to a stream that is closed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler in handlers] or handlers
    root.setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = "" if shutil.which(MOSQUITTO) else f"needs_broker: no {MOSQUITTO}; apt-get install {BROKER_PACKAGES}"
    for item in items:
        if missing and item.get_closest_marker("needs_broker"):
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With REQUIRE_ALL=1 a skipped test fails, unless its marker excuses it."""
    report = yield
    is_expected_failure = hasattr(report, "wasxfail")
    excused = any(item.get_closest_marker(name) for name in EXCUSED)
    if os.environ.get("REQUIRE_ALL") == "1" and report.skipped and not is_expected_failure and not excused:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped, and REQUIRE_ALL=1 allows that only for {', '.join(EXCUSED)}: {reason}"
    return report
