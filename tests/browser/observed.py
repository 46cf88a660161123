"""Runs the app as `python app.py` does; says on SIGUSR1 what lives in it, and raises an alert on SIGUSR2.

No rule raises alerts yet, so a test does, where a rule would: among the events of a stream, on the engine's thread.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent.parent


def report(path: Path) -> None:
    """Write what lives to `path`, at once and whole."""
    threads = sorted(thread.name for thread in threading.enumerate())
    values: dict[str, Any] = {"threads": threads, "modules": sorted(sys.modules)}
    if path.with_name("sessions").exists():  # asked for alone: every object is looked at
        gc.collect()
        kinds = [type(each).__qualname__ for each in gc.get_objects() if type(each).__module__ == "models.session"]
        values["sessions"] = kinds.count("Session")
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values), encoding="utf-8")
    part.replace(path)


def alert(path: Path) -> None:
    """An alert in every stream of the name that stands in `path`."""
    from assistant.channel import Channel
    from assistant.events import Alert

    wanted = json.loads(path.read_text(encoding="utf-8"))
    for channel in [each for each in gc.get_objects() if isinstance(each, Channel) and each.name == wanted["stream"]]:

        def say(stream: Any, channel: Channel = channel) -> Generator[Any, Any, None]:
            raised = Alert(source="", time_s=channel.snapshot().media_s, text=wanted["text"], reason="a rule")
            channel._emit(raised)
            yield from ()

        channel._order(say)


def main() -> None:
    """Arguments: where to write, then those of the app."""
    path = Path(sys.argv[1])

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Not here, in the middle of whatever the main thread does.
        threading.Thread(target=report, args=(path,), name="report", daemon=True).start()

    def on_alert(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=alert, args=(path.with_name("alert.json"),), name="alert", daemon=True).start()

    signal.signal(signal.SIGUSR1, on_signal)
    signal.signal(signal.SIGUSR2, on_alert)
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    sys.argv = ["app.py", *sys.argv[2:]]
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")


if __name__ == "__main__":
    main()
