"""Tests of how the tests run: whole folders two files at a time, and no thread is left behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.conftest import NUM_PROCESSES, pytest_cmdline_main
from tests.threads import left_behind, running


@pytest.mark.parametrize(
    ("args", "inside", "processes"),
    [
        (["tests", "assistant"], {}, NUM_PROCESSES),
        (["tests/browser"], {}, NUM_PROCESSES),
        (["tests"], {"workerinput": {}}, None),
        (["tests/test_app.py"], {}, None),
        (["tests/ui", "tests/test_app.py::test_help"], {}, None),
    ],
)
def test_whole_folders_run_in_two_processes_which_start_none(
    args: list[str], inside: dict[str, object], processes: int | None
) -> None:
    option = SimpleNamespace(
        numprocesses=None, dist="no", usepdb=False, collectonly=False, capture="fd", loadscopereorder=True
    )
    invocation = SimpleNamespace(dir=Path(__file__).parent.parent)
    config = SimpleNamespace(option=option, args=args, invocation_params=invocation, **inside)
    pytest_cmdline_main(cast(pytest.Config, config))
    assert option.numprocesses == processes
    assert option.loadscopereorder == (processes is None), "the browser tests stay together"


def test_a_thread_that_was_left_behind_is_named() -> None:
    before, over = running(), threading.Event()
    thread = threading.Thread(target=over.wait, name="forgotten")
    thread.start()
    assert left_behind(before, within_s=0.0) == ["forgotten"]
    over.set()
    assert left_behind(before, within_s=60.0) == []


def test_threads_that_an_earlier_one_started_belong_to_its_owner() -> None:
    over = threading.Event()
    with ThreadPoolExecutor(1) as server:
        server.submit(lambda: None).result()
        before = running()
        answering = server.submit(_started, over).result()
        assert answering.is_alive() and left_behind(before, within_s=0.0) == []
        over.set()
        answering.join()


def _started(over: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=over.wait, name="answers")
    thread.start()
    return thread
