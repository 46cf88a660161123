"""What watches over the watching: it ends, reads anew and tells systemd, as it is told."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any, cast

from assistant.cameras.cameras import Cameras, ReloadResult
from assistant.cameras.daemon import SystemdNotifier, WatchDaemon, reloading
from assistant.errors import ConfigError
from assistant.serving.contracts import ModelState
from assistant.serving.scheduler import Scheduler


class Stage:
    """A host and cameras that are as the test says."""

    def __init__(
        self, *, state: ModelState = ModelState.READY, have_all_ended: bool = False, broken: bool = False
    ) -> None:
        self.state = state
        self.have_all_ended = have_all_ended
        self.broken = broken
        self.num_loaded = self.num_looks = 0
        self.daemon = WatchDaemon(cast(Scheduler, self), cast(Cameras, self), self.load)

    def look_at_mutes(self) -> None:
        self.num_looks += 1

    def load(self) -> ReloadResult:
        self.num_loaded += 1
        self.daemon.stop()
        if self.broken:
            raise ConfigError("cameras: a mistake; mend it")
        return ReloadResult((), (), (), (), ("model.name",))


def test_it_ends_when_told_when_all_is_over_and_when_the_model_is_gone() -> None:
    stage = Stage()
    stage.daemon.stop()
    stage.daemon.run()
    Stage(have_all_ended=True).daemon.run()
    Stage(state=ModelState.FAILED).daemon.run()


def test_sighup_reads_the_configuration_anew_and_a_mistake_in_it_ends_nothing(caplog: Any) -> None:
    for broken in (False, True):
        stage = Stage(broken=broken)
        before = signal.getsignal(signal.SIGHUP)
        with reloading(stage.daemon):
            os.kill(os.getpid(), signal.SIGHUP)
            stage.daemon.run()
        assert stage.num_loaded == 1 and stage.num_looks == 1 and signal.getsignal(signal.SIGHUP) is before
    assert "not changed: model.name; read only at the start; restart the program to apply it" in caplog.text
    assert "the previous one stays in force: cameras: a mistake" in caplog.text


def test_systemd_is_told_where_it_listens_and_nobody_elsewhere(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        SystemdNotifier(str(tmp_path / "notify")).notify("READY=1")
        assert listening.recv(100) == b"READY=1"
    SystemdNotifier("").notify("READY=1")
    SystemdNotifier(str(tmp_path / "gone")).notify("READY=1")
