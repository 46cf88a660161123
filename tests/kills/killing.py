"""Kills a process that delivers alerts at random instants, and counts what a receiver that honours keys was given."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.assistant.receivers import Post, Reply, WebReceiver

ROOT = Path(__file__).parent.parent.parent
ANSWER_S = 0.03
"""Most seconds that the receiver takes to answer."""
SPREAD = 1.5
"""Latest kill after the hit, in multiples of the time that a delivery takes: kills fall before, into and after it."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What became of the alerts of a number of kills."""

    kills: int
    before_the_hit: int
    """Kills that came before the alert was stored: nothing had happened yet."""
    before_delivery: int
    """Kills after the hit, while the receiver had not got the alert yet."""
    before_the_note: int
    """Kills after the receiver had taken the alert, and before the outbox noted it."""
    hits: int
    """Alerts in the timeline."""
    delivered: int
    """Keys that the receiver took."""
    repeated: int
    """Requests with a key that the receiver had taken before, and did not take again."""
    lost: tuple[str, ...]
    """Texts of alerts in the timeline that were not delivered exactly once."""

    @property
    def held(self) -> bool:
        """Whether each alert was delivered, and taken once."""
        return not self.lost and self.delivered == self.hits

    def as_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {"held": self.held, **asdict(self)}


class Zygote:
    """The process that forks those that are killed."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.kills.zygote"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, bufsize=1
        )
        assert self.line() == "ready", "the process to fork from did not start"

    def line(self) -> str:
        """The next line that it or its child says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def fork(self, url: str, folder: Path, number: int) -> int:
        """Start a child and return its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{url} {folder} {number}\n")
        while not (line := self.line()).startswith("child "):
            assert line, "the process to fork from ended"
        return int(line.split()[1])

    def wait_for(self, *texts: str) -> None:
        """Read lines until one of these."""
        while (line := self.line()) not in texts:
            assert line, "the process to fork from ended"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def kill_often(kills: int, folder: Path, seed: int) -> Killed:
    """Kill a delivering process `kills` times, after one more alert each, and let its restart deliver what is left."""
    draw = random.Random(seed)

    def slowly(post: Post) -> Reply:
        return Reply(waits_s=draw.uniform(0.0, ANSWER_S))

    before_the_hit = before_delivery = before_the_note = 0
    with WebReceiver(slowly) as receiver, Zygote() as zygote:
        latest_s = SPREAD * _seconds_to_deliver(zygote, receiver, folder)
        for number in range(2, kills + 2):
            child = zygote.fork(receiver.url, folder, number)
            zygote.wait_for("recording")
            if number % 2:  # while the receiver answers, or just after
                receiver.wait_for_posts(len(receiver.posts) + 1)
                time.sleep(draw.uniform(0.0, ANSWER_S))
            else:
                time.sleep(draw.uniform(0.0, latest_s))
            os.kill(child, signal.SIGKILL)
            zygote.wait_for("over")
            before_the_hit += f"Alert {number}" not in _stored(folder)
            states = [(key, state) for key, text, state in _sent(folder) if text == f"Alert {number}"]
            waiting = [key for key, state in states if state == "waiting"]
            before_delivery += any(not receiver.accepted[key] for key in waiting)
            before_the_note += any(bool(receiver.accepted[key]) for key in waiting)
            zygote.fork(receiver.url, folder, 0)
            zygote.wait_for("over")
        stored = _stored(folder)
        keys = {key: text for key, text, _ in _sent(folder)}
        lost = [text for key, text in keys.items() if receiver.accepted[key] != 1]
        lost += sorted(set(stored) - set(keys.values()))
        return Killed(
            kills=kills,
            before_the_hit=before_the_hit,
            before_delivery=before_delivery,
            before_the_note=before_the_note,
            hits=len(stored),
            delivered=sum(receiver.accepted.values()),
            repeated=receiver.num_repeated,
            lost=tuple(lost),
        )


def _stored(folder: Path) -> list[str]:
    return [str(row[0]) for row in _rows(folder, "SELECT text FROM events WHERE type = 'alert'")]


def _sent(folder: Path) -> list[tuple[str, str, str]]:
    """Key, text and state of each alert in the outbox."""
    sql = "SELECT key, events.text, state FROM outbox JOIN events ON events.uid = outbox.occurrence"
    return [(str(key), str(text), str(state)) for key, text, state in _rows(folder, sql)]


def _seconds_to_deliver(zygote: Zygote, receiver: WebReceiver, folder: Path) -> float:
    """Seconds that a process which nobody kills takes from the hit to the delivery, here and now."""
    child = zygote.fork(receiver.url, folder, 1)
    zygote.wait_for("recording")
    began_s = time.monotonic()
    receiver.wait_for_keys(1)
    took_s = time.monotonic() - began_s
    os.kill(child, signal.SIGKILL)
    zygote.wait_for("over")
    return took_s


def _rows(folder: Path, sql: str) -> list[Any]:
    database = folder / "timeline.sqlite3"
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()
