"""The loop of the `watch` command: waits for the end, reloads the configuration on request, and notifies systemd.

`run` is for the main thread; `stop` and `reload` may be called from any thread and from signal handlers.
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
from assistant.serving.contracts import ModelState
from streaming.errors import StreamingError

if TYPE_CHECKING:
    from assistant.cameras.cameras import Cameras, ReloadResult
    from assistant.serving.scheduler import Scheduler

LOOK_S = 1.0

logger = logging.getLogger(__name__)


class WatchDaemon:
    """Runs until the cameras end or somebody stops it; reloads the configuration on request."""

    def __init__(self, scheduler: Scheduler, cameras: Cameras, load: Callable[[], ReloadResult]) -> None:
        """load: reads and applies the configuration; raises an `AssistantError` or `StreamingError` if that fails."""
        self._scheduler = scheduler
        self._cameras = cameras
        self._load = load
        self._news = threading.Event()
        self._stopping = False
        self._reloading = False
        self._notify = SystemdNotifier()

    def stop(self) -> None:
        """Make `run` return; returns at once."""
        self._stopping = True
        self._news.set()

    def reload(self) -> None:
        """Make `run` reload the configuration; returns at once."""
        self._reloading = True
        self._news.set()

    def run(self) -> None:
        """Block until `stop`, until every camera has ended or failed, or until the model fails."""
        self._notify.notify("READY=1")
        while not self._stopping and not self._is_over():
            if self._scheduler.state is not ModelState.STALLED:
                self._notify.notify("WATCHDOG=1")
            # With a time limit, so that signal handlers run on every system.
            self._news.wait(LOOK_S)
            self._news.clear()
            self._cameras.look_at_mutes()
            if self._reloading:
                self._reloading = False
                self._read_anew()
        self._notify.notify("STOPPING=1")

    def _is_over(self) -> bool:
        return self._scheduler.state in (ModelState.FAILED, ModelState.STOPPED) or self._cameras.have_all_ended

    def _read_anew(self) -> None:
        self._notify.notify("RELOADING=1")
        try:
            done = self._load()
        except (AssistantError, StreamingError) as error:
            logger.error("the configuration was not reloaded, the previous one stays in force: %s", error)
        else:
            logger.info(
                "the configuration was reloaded",
                extra={"added": done.added, "removed": done.removed, "changed": done.changed},
            )
            if done.restart_needed:
                keys = ", ".join(done.restart_needed)
                logger.warning("not changed: %s; read only at the start; restart the program to apply it", keys)
        self._notify.notify("READY=1")


class SystemdNotifier:
    """Sends the program's state to systemd (sd_notify(3)); does nothing if systemd did not start the program."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")

    def notify(self, state: str) -> None:
        """Send one message, as `READY=1`; errors are ignored."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), address)


@contextmanager
def reloading(daemon: WatchDaemon) -> Iterator[None]:
    """Within this context, SIGHUP reloads the configuration; systems without SIGHUP cannot reload."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        yield
        return
    before = signal.signal(number, lambda _number, _frame: daemon.reload())
    try:
        yield
    finally:
        signal.signal(number, before)
