"""Rows about the way to the model: starting, capturing, and large pictures."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assistant.evidence import with_thumbnail
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig
from assistant.serving.scheduler import Scheduler
from assistant.speed.rows import Measured, RowSpec, Target
from assistant.speed.workbench import read_frames
from streaming.plain_decoding import decode_alone
from streaming.recording import encode_clip
from streaming.types import Frame

if TYPE_CHECKING:
    from assistant.speed.workbench import Workbench

ROOT = Path(__file__).parents[2]
CLIP_PX, CLIP_FPS, CLIP_S = (1920, 1080), 30, 8
SAMPLED_FPS = 2.0
HD_PX, UHD_PX = (1280, 720), (3840, 2160)
NUM_LARGE = 16
FRAMES_A_ROUND = 8
FIRST_REMARK_S = 60.0
"""Longest wait for a remark, or for a frame to be seen."""
IMPORTS = "import torch, av, cv2"


def start(bench: Workbench) -> Measured:
    """From the command to its first remark, and from `python` to the end of importing three libraries."""
    values, baselines = [], []
    for _ in bench.rounds():
        values.append(_first_remark_s())
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True, cwd=ROOT)
        baselines.append(time.perf_counter() - began_s)
    return Measured(values, baselines)


def capture(bench: Workbench) -> Measured:
    """Reading 1080p at 30 frames a second for two of them, and decoding the same file alone."""
    fit = bench.engine.open_session().fitter
    values, baselines = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "camera.mp4"
        pictures = [_scaled(picture, CLIP_PX) for picture in bench.clip[: 2 * CLIP_S]]
        times = [(pictures[number * len(pictures) // (CLIP_S * CLIP_FPS)], number / CLIP_FPS) for number in _numbers()]
        encode_clip(path, times)

        def prepare(frame: Frame) -> Frame:
            return fit(with_thumbnail(frame))

        for _ in bench.rounds():
            began_s = time.perf_counter()
            num_frames = sum(1 for _ in read_frames(str(path), SAMPLED_FPS, prepare))
            values.append(1e3 * (time.perf_counter() - began_s))
            began_s = time.perf_counter()
            decode_alone(path)
            baselines.append(1e3 * (time.perf_counter() - began_s))
    return Measured(values, baselines, f"{CLIP_S} s of video, {num_frames} frames kept, scaled and encoded")


def large(bench: Workbench) -> Measured:
    """The engine's thread for a frame of a 4K camera, and for one of a 720p camera."""
    scheduler = Scheduler(bench.new_engine)
    scheduler.start()
    sizes = (UHD_PX, HD_PX)
    try:
        channels = [_PushedCamera(bench, scheduler, size) for size in sizes]
        found: tuple[list[float], list[float]] = ([], [])
        for _ in bench.rounds():
            for channel, times_ms in zip(channels, found, strict=True):
                times_ms += [channel.push_ms() for _ in range(FRAMES_A_ROUND)]
        for channel in channels:
            channel.close()
    finally:
        scheduler.stop()
    return Measured(*found, "time in steps of the engine's thread, thumbnails and decisions included")


class _PushedCamera:
    """A watched camera whose pictures are pushed one by one."""

    def __init__(self, bench: Workbench, scheduler: Scheduler, size_px: tuple[int, int]) -> None:
        self._scheduler = scheduler
        self._pictures = [_scaled(picture, size_px) for picture in bench.clip[:NUM_LARGE]]
        name = f"{size_px[1]}p"
        self._channel = Channel(ChannelConfig(name, f"push:{name}", instruct=None), scheduler)
        self._channel.start()
        self._num_pushed = 0
        self._wait_until_open()
        self.push_ms()

    def push_ms(self) -> float:
        """Push the next picture; returns the milliseconds that the engine's thread worked on it."""
        number, self._num_pushed = self._num_pushed, self._num_pushed + 1
        before_s = self._scheduler.busy_s
        self._channel.push(self._pictures[number % len(self._pictures)], number / SAMPLED_FPS)
        began_s = time.perf_counter()
        while self._channel.snapshot().counts.num_sampled <= number:
            if time.perf_counter() - began_s > FIRST_REMARK_S:
                raise RuntimeError(f"a pushed frame was not seen within {FIRST_REMARK_S:g} s")
            time.sleep(0.002)
        time.sleep(0.01)  # a remark is said before the next frame
        return 1e3 * (self._scheduler.busy_s - before_s)

    def close(self) -> None:
        """Stop watching."""
        self._channel.stop()

    def _wait_until_open(self) -> None:
        began_s = time.perf_counter()
        while not self._channel.push(self._pictures[0]) and time.perf_counter() - began_s < FIRST_REMARK_S:
            time.sleep(0.01)


def _first_remark_s() -> float:
    """Seconds from starting `replay synthetic:7` to its first remark on standard output."""
    command = [sys.executable, str(ROOT / "app.py"), "replay", "synthetic:7", "--end", "40", "--json"]
    began_s = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if '"comment"' in line:
                    return time.perf_counter() - began_s
        finally:
            process.terminate()
    raise RuntimeError("replay synthetic:7 ended without a remark")


def _numbers() -> range:
    return range(CLIP_S * CLIP_FPS)


def _scaled(picture: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize(size_px, Image.Resampling.BILINEAR))


PATH_ROWS = (
    RowSpec(
        "start",
        "from the command to the first remark, replay synthetic:7",
        f'for python -c "{IMPORTS}"',
        "s",
        Target("ratio", 2.0),
        start,
    ),
    RowSpec("4k", "a frame of a 4K camera, on the engine's thread", "at 720p", "ms", Target("ratio", 1.3), large),
    RowSpec(
        "capture",
        "reading 1080p30 sampled at 2 frames a second",
        "for decoding alone",
        "ms",
        Target("ratio", 1.2),
        capture,
    ),
)
