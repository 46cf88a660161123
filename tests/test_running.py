"""Tests of how the tests run: no thread is left behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.threads import left_behind, running


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
