"""Watching without a browser: until it is told to stop, with the configuration read anew when it is told to.

`run` is for the main thread; `stop` and `reload` are for any, signal handlers too.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from assistant.errors import AssistantError
from assistant.serving.scheduler import ModelState
from streaming.errors import StreamingError

if TYPE_CHECKING:
    from assistant.cameras.cameras import Cameras, ReloadResult
    from assistant.serving.scheduler import Scheduler

LOOK_S = 1.0

logger = logging.getLogger(__name__)


class WatchDaemon:
    """Looks after the cameras while they are watched."""

    def __init__(self, host: Scheduler, cameras: Cameras, load: Callable[[], ReloadResult]) -> None:
        """`load` reads the configuration and has it watched; it raises what is wrong with it."""
        self._host = host
        self._cameras = cameras
        self._load = load
        self._news = threading.Event()
        self._stopping = False
        self._reloading = False
        self._notify = SystemdNotifier()

    def stop(self) -> None:
        """End soon."""
        self._stopping = True
        self._news.set()

    def reload(self) -> None:
        """Read the configuration anew soon."""
        self._reloading = True
        self._news.set()

    def run(self) -> None:
        """Watch until `stop`, or until every camera was a recording and is over."""
        self._notify.notify("READY=1")
        while not self._stopping and not self._is_over():
            if self._host.state is not ModelState.STALLED:
                self._notify.notify("WATCHDOG=1")
            # With a limit, so that signals come through on every system.
            self._news.wait(LOOK_S)
            self._news.clear()
            if self._reloading:
                self._reloading = False
                self._read_anew()
        self._notify.notify("STOPPING=1")

    def _is_over(self) -> bool:
        return self._host.state in (ModelState.FAILED, ModelState.STOPPED) or self._cameras.are_over

    def _read_anew(self) -> None:
        self._notify.notify("RELOADING=1")
        try:
            done = self._load()
        except (AssistantError, StreamingError) as error:
            logger.error("the configuration was not read anew, and all goes on as before: %s", error)
        else:
            logger.info(
                "the configuration was read anew",
                extra={"added": done.added, "removed": done.removed, "changed": done.changed},
            )
            if done.restart_needed:
                keys = ", ".join(done.restart_needed)
                logger.warning("not changed: %s; read at the start alone; restart the program to apply it", keys)
        self._notify.notify("READY=1")


class SystemdNotifier:
    """Tells systemd how we are, where it started us; nothing elsewhere (sd_notify(3))."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")

    def notify(self, state: str) -> None:
        """One message; nobody waits for it."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), address)


@contextmanager
def reloading(daemon: WatchDaemon) -> Iterator[None]:
    """While inside, SIGHUP has the configuration read anew; where there is no such signal, nothing does."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        yield
        return
    before = signal.signal(number, lambda _number, _frame: daemon.reload())
    try:
        yield
    finally:
        signal.signal(number, before)
