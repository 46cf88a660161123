"""Runs the app as `python app.py` does; says on SIGUSR1 what lives in it, and does on SIGUSR2 what a test asks of it.

No rule raises alerts yet, so a test does, where a rule would: among the events of a stream, on the engine's thread.
And the carried model answers sooner than anybody presses a button, so a test makes it as slow as a large one.
"""

from __future__ import annotations

import functools
import gc
import inspect
import json
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable
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
        kinds = [
            type(each).__qualname__ for each in gc.get_objects() if type(each).__module__ == "models.session.session"
        ]
        values["sessions"] = kinds.count("Session")
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values), encoding="utf-8")
    part.replace(path)


def alert(name: str, text: str) -> None:
    """Raise an alert in every stream of this name."""
    from assistant.events import Alert
    from assistant.serving.channel import Channel
    from assistant.stream.stream_session import StreamSession
    from models.session.steps import StepGenerator, as_steps

    for channel in [each for each in gc.get_objects() if isinstance(each, Channel) and each.name == name]:

        @as_steps
        def say(stream: StreamSession, channel: Channel = channel) -> StepGenerator[None]:
            raised = Alert(source="", time_s=channel.snapshot().media_s, text=text, reason="a rule")
            channel.served.emit(raised)
            yield from ()

        channel.served.submit(say)


_speed_changed = threading.Event()


def slow_down(pass_s: float) -> None:
    """From now on each forward pass takes so much longer, until the next call; 0 ends that."""
    global _speed_changed
    from models.engine import Engine

    own = inspect.unwrap(Engine.step)
    _speed_changed.set()
    changed = _speed_changed = threading.Event()

    @functools.wraps(own)
    def step(self: Engine, jobs: Any) -> Any:
        changed.wait(pass_s)
        return own(self, jobs)

    Engine.step = step if pass_s else own  # type: ignore[method-assign]


def note_first_tokens(path: str) -> None:
    """From now on append a line of JSON to a file for each answer: the time of day of its first token, its question."""
    from models.session.turns import OpenTurn
    from models.spans import SpanKind

    own = OpenTurn.say

    def say(self: OpenTurn, token: int, codec: Any) -> str:
        if self.kind is SpanKind.ANSWER and not self.said and self.question is not None:
            noted = {"at_s": time.time(), "question": codec.decode(self.question.ids)}
            with Path(path).open("a", encoding="utf-8") as file:
                print(json.dumps(noted), file=file)
        return own(self, token, codec)

    OpenTurn.say = say  # type: ignore[method-assign]


def obey(path: Path) -> None:
    """Run the command in file `path`, then delete the file."""
    wanted = json.loads(path.read_text(encoding="utf-8"))
    known: dict[str, Callable[..., None]] = {
        "alert": alert,
        "slow_down": slow_down,
        "note_first_tokens": note_first_tokens,
    }
    known[wanted.pop("do")](**wanted)
    path.unlink()


def main() -> None:
    """Arguments: where to write, then those of the app."""
    path = Path(sys.argv[1])

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Not here, in the middle of whatever the main thread does.
        threading.Thread(target=report, args=(path,), name="report", daemon=True).start()

    def on_order(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=obey, args=(path.with_name("order.json"),), name="order", daemon=True).start()

    signal.signal(signal.SIGUSR1, on_signal)
    signal.signal(signal.SIGUSR2, on_order)
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    sys.argv = ["app.py", *sys.argv[2:]]
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")


if __name__ == "__main__":
    main()
