"""What the tests of the timeline share: streams made by hand, and a second process that writes until it is killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np

from assistant.events import Alert, Answer, Comment, StatusEvent, StatusKind
from assistant.evidence import EvidenceFrame, EvidenceKeeper
from streaming.clock import FakeClock
from streaming.thumbnails import encode_jpeg
from streaming.types import Frame

ROOT = Path(__file__).parent.parent.parent
NOON_S = 1_795_348_800.0
"""2026-11-22 12:00 UTC, when these stories play."""


def remark(number: int, text: str = "") -> Comment:
    return Comment(
        source="rtsp://***@cam/live", time_s=number / 2, text=text or f"Remark {number}: größer.", frame_index=number,
        reason="spoke", score=1.5, probability=0.75, threshold=0.5, latency_ms=40.0,
    )  # fmt: skip


def answer(question: str, text: str, time_s: float = 1.0) -> Answer:
    return Answer(source="cam", time_s=time_s, text=text, question=question, asked_at_s=time_s, reason="asked")


def alert(text: str, time_s: float = 1.0) -> Alert:
    return Alert(source="cam", time_s=time_s, text=text)


def gap(time_s: float, gap_s: float) -> StatusEvent:
    return StatusEvent(
        source="cam", time_s=time_s, text="it was away", reason="it was away", kind=StatusKind.GAP,
        details={"gap_s": gap_s},
    )  # fmt: skip


def picture(level: int = 90, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A picture that is grey on its left and `level` on its right."""
    image = np.full((*size, 3), 30, np.uint8)
    image[:, size[1] // 2 :] = level
    return image


def frame(index: int, fps: float = 2.0, level: int = 90) -> Frame:
    return Frame(picture(level), index, index / fps, index / fps, "cam")


def evidence(index: int, wall_s: float = NOON_S) -> EvidenceFrame:
    kept = np.array([True, True, False, False])
    return EvidenceFrame(
        index, index / 2, wall_s + index / 2, encode_jpeg(picture()), 2, 2, kept, np.array([False, True, False, False])
    )


def keeper_with(num_frames: int, clock: FakeClock) -> EvidenceKeeper:
    keeper = EvidenceKeeper()
    cells = np.ones(4, bool)
    for index in range(num_frames):
        keeper.add(frame(index), cells, ~cells, clock.wall_s() + index / 2, rows=2, cols=2)
    return keeper


def noon() -> FakeClock:
    return FakeClock(wall_s=NOON_S)


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    """What another program reads, with nothing of ours."""
    connection = sqlite3.connect(f"file:{folder / 'timeline.sqlite3'}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


class Child:
    """A process that runs `code` with the folder as its argument; its first line says that it is under way."""

    def __init__(self, code: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        assert self._process.stdout is not None
        self.first_line = self._process.stdout.readline().strip()

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> list[str]:
        """SIGKILL, and the lines it had printed until then."""
        self._process.send_signal(signal.SIGKILL)
        return self.wait()

    def wait(self) -> list[str]:
        assert self._process.stdout is not None
        lines = self._process.stdout.read().splitlines()
        self._process.stdout.close()
        self._process.wait(30)
        return lines
