"""Runs the app as `python app.py` does, and says on SIGUSR1 which threads and which model sessions live in it."""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parent.parent.parent


def report(path: Path) -> None:
    """Write what lives to `path`, at once and whole."""
    gc.collect()
    kinds = [type(each).__qualname__ for each in gc.get_objects() if type(each).__module__ == "models.session"]
    values = {"threads": sorted(thread.name for thread in threading.enumerate()), "sessions": kinds.count("Session")}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values), encoding="utf-8")
    part.replace(path)


def main() -> None:
    """Arguments: where to write, then those of the app."""
    path = Path(sys.argv[1])

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Not here, in the middle of whatever the main thread does.
        threading.Thread(target=report, args=(path,), name="report", daemon=True).start()

    signal.signal(signal.SIGUSR1, on_signal)
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    sys.argv = ["app.py", *sys.argv[2:]]
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")


if __name__ == "__main__":
    main()
