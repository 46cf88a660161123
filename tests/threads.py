"""Finds the threads that a test leaves behind. Called from the thread that runs the tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Set
from threading import Thread
from unittest import mock
from weakref import WeakKeyDictionary

_STARTERS: WeakKeyDictionary[Thread, Thread] = WeakKeyDictionary()
"""The thread that started each thread."""


def note_starters() -> None:
    """Note from now on which thread starts which; call it once, before any test."""
    start = Thread.start

    def noted(thread: Thread, /) -> None:
        _STARTERS[thread] = threading.current_thread()
        start(thread)

    mock.patch.object(Thread, "start", noted).start()


def running() -> frozenset[Thread]:
    """All threads that Python knows of."""
    return frozenset(threading.enumerate())


def left_behind(before: Set[Thread], within_s: float) -> list[str]:
    """Names of threads that are not in `before` and still run after `within_s`, sorted.

    A thread that one of `before` started, such as one that answers a request to a server of the whole module, belongs
    to whoever owns that server, and does not count; what the calling thread started does.
    """
    owners = before - {threading.current_thread()}
    # Who has no starter is a thread of a library's own, seen by Python when it calls back.
    new = [thread for thread in running() - before if thread in _STARTERS and not _is_owned(thread, owners)]
    ends_s = time.monotonic() + within_s
    for thread in new:
        thread.join(max(0.0, ends_s - time.monotonic()))
    return sorted(thread.name for thread in new if thread.is_alive())


def _is_owned(thread: Thread, owners: Set[Thread]) -> bool:
    """Whether `thread` was started, directly or by way of others, by one of `owners`."""
    starter = _STARTERS.get(thread)
    while starter is not None and starter not in owners:
        starter = _STARTERS.get(starter)
    return starter is not None
