"""Forks a process for each line `URL FOLDER ROUND`, which records one alert and delivers it, until it is killed.

What takes long, the imports, is done once, so that kills fall into what is to be tried. It has no thread of its own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import assistant.delivery.webhook  # noqa: F401 - loaded before the forks
from assistant.config.targets import WebhookTarget
from assistant.delivery.delivery import Delivery
from assistant.events import Alert
from assistant.timeline.store import Timeline
from streaming.clock import SystemClock


def deliver(url: str, folder: Path, number: int) -> None:
    """Record one alert and deliver what waits; number 0 records none, and ends once nothing waits any more."""
    target = WebhookTarget(kind="webhook", url=url, attach="nothing", phases=("started",))
    timeline = Timeline(folder)
    delivery = Delivery(timeline, {"hook": target}, seed=number)
    delivery.start()
    if number:
        say("recording")
        timeline.append(Alert(source="door", time_s=float(number), text=f"Alert {number}"))
        say("recorded")
    while number or delivery.outbox.counts().get("hook", {}).get("waiting"):
        SystemClock().wait(_NEVER, 0.02)
    delivery.stop()
    timeline.close()


def say(text: str) -> None:
    """Tell the parent, in one write."""
    os.write(1, f"{text}\n".encode())


def main() -> None:
    """Fork for each line of standard input, and tell each child's number."""
    say("ready")
    for line in sys.stdin:
        url, folder, number = line.split()
        child = os.fork()
        if not child:
            try:
                deliver(url, Path(folder), int(number))
            finally:
                os._exit(0)
        say(f"child {child}")
        os.waitpid(child, 0)
        say("over")


if __name__ == "__main__":
    import threading

    _NEVER = threading.Event()
    main()
