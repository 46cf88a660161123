"""Rows about frames: one camera with a full window, the frames that cost nothing, evictions, rebases, and long runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from assistant.speed.camera import TimedCamera
from assistant.speed.rows import Measured, RowSpec, Target
from assistant.viewers.recent_figures import resident_memory_bytes

if TYPE_CHECKING:
    from assistant.speed.workbench import Workbench
    from models.speed.reference import WindowAgain

FRAMES_A_ROUND = 12
EARLY, LATE = 1_000, 20_000
"""Frames of a session between which its time a frame and its memory are compared."""
MOVING, A_CYCLE = 8, 250
"""In a long run, of each cycle of frames so many move; the others show the same picture, as most cameras mostly do."""
NUM_CYCLES_TIMED = 4
STILL_FRAMES = 40
REBASES = 3
AHEAD = 64
"""Frames before a rebase that are compared with ordinary ones, as work for it may be spread over them."""


def frame(bench: Workbench) -> Measured:
    """A frame of a real camera with the window full, and the same window fed to transformers' model again."""
    return _against_the_window_again(bench, bench.clip)


def frame_noise(bench: Workbench) -> Measured:
    """The same where every cell of every frame changes."""
    return _against_the_window_again(bench, bench.noise)


def plain_path(bench: Workbench) -> Measured:
    """A frame, and the same frame where transformers' modules compute it, with hooks and masks."""
    from models.engine import Engine
    from models.network.reference import ReferenceNetwork

    checkpoint = bench.engine.checkpoint
    plain = Engine(checkpoint, now=time.perf_counter, network=ReferenceNetwork(checkpoint.model))
    try:
        cameras = [TimedCamera(engine, bench.clip) for engine in (bench.engine, plain)]
        for camera in cameras:
            camera.fill()
        found: tuple[list[float], list[float]] = ([], [])
        for _ in bench.rounds():
            for _ in range(FRAMES_A_ROUND):
                for camera, times_ms in zip(cameras, found, strict=True):
                    times_ms.append(camera.see_used().ms)
    finally:
        plain.close()
    return Measured(*found)


def skipped(bench: Workbench) -> Measured:
    """A frame with nothing kept, and a frame that is used."""
    camera = TimedCamera(bench.engine, bench.clip)
    camera.fill()
    values, baselines = [], []
    for _ in bench.rounds():
        baselines += [camera.see_used().ms for _ in range(FRAMES_A_ROUND)]
        last = camera.next_frame()
        for number in range(STILL_FRAMES):
            still = replace(camera.next_frame(), image=last.image, on_grid=last.on_grid)
            timed = camera.see(still)
            if number and not timed.sight.appended:
                values.append(timed.ms)
    return Measured(values, baselines)


def eviction(bench: Workbench) -> Measured:
    """What evictions add to a frame on average, and a whole frame."""
    camera = TimedCamera(bench.engine, bench.clip)
    camera.fill()
    context, spent_ms = camera.session.context, [0.0]
    evict = context.evict

    def timed_evict() -> None:
        began_s = time.perf_counter()
        evict()
        spent_ms[0] += 1e3 * (time.perf_counter() - began_s)

    context.evict = timed_evict  # type: ignore[method-assign]
    values, baselines = [], []
    for _ in bench.rounds():
        spent_ms[0], before, num_frames = 0.0, context.num_evictions, 0
        while context.num_evictions < before + 2:
            baselines.append(camera.see_used().ms)
            num_frames += 1
        values.append(spent_ms[0] / num_frames)
    return Measured(values, baselines, "each value is the mean of two evictions' frames")


def rebase(bench: Workbench) -> Measured:
    """The frame in which the time is rebased, and an ordinary one."""
    rebased, _, ordinary = _around_rebases(bench)
    return Measured(rebased, ordinary)


def rebase_ahead(bench: Workbench) -> Measured:
    """The slowest frame in twenty of those before a rebase, and an ordinary one."""
    _, before, ordinary = _around_rebases(bench)
    slow = [float(np.percentile(times_ms, 95)) for times_ms in before if times_ms]
    return Measured(slow, ordinary, f"of the {AHEAD} frames before a rebase, their 95th percentile")


def late(bench: Workbench) -> Measured:
    """A frame after 20,000, and one after 1,000."""
    times_ms, _ = _long_run(bench)
    return Measured(*times_ms, f"{MOVING} of {A_CYCLE} frames move; measured are frames that move")


def memory(bench: Workbench) -> Measured:
    """By how much the process grows between frame 1,000 and frame 20,000."""
    _, (early_mb, late_mb) = _long_run(bench)
    return Measured([late_mb - early_mb], [early_mb], "the baseline is the process at frame 1,000")


def _against_the_window_again(bench: Workbench, pictures: Sequence[np.ndarray]) -> Measured:
    camera = TimedCamera(bench.engine, pictures)
    shown = {}
    while not camera.session.usage.num_evictions:
        timed = camera.see()
        shown[camera.num_frames - 1] = timed.picture
    values, baselines, parts, again = [], [], [], None
    for _ in bench.rounds():
        for _ in range(FRAMES_A_ROUND):
            timed = camera.see_used()
            shown[camera.num_frames - 1] = timed.picture
            values.append(timed.ms)
            parts.append(timed.sight.timings)
        again = _window_again(bench, camera, shown)
        baselines.append(again.time_ms())
    assert again is not None
    remark = f"{again.num_frames} frames and {again.num_tokens} tokens in the window"
    return Measured(values, baselines, remark, _parts(parts))


def _window_again(bench: Workbench, camera: TimedCamera, shown: dict[int, np.ndarray]) -> WindowAgain:
    from models.speed.reference import WindowAgain

    return WindowAgain(bench.engine.checkpoint, camera.session, shown)


def _parts(timings: Sequence[dict[str, float]]) -> dict[str, float]:
    """Median milliseconds of each part of a frame."""
    names = ("prune", "encode", "prefill")
    found = {name: median(parts[name] for parts in timings) for name in names}
    return found | {"other": median(parts["total"] - sum(parts[name] for name in names) for parts in timings)}


def _around_rebases(bench: Workbench) -> tuple[list[float], list[list[float]], list[float]]:
    """Milliseconds of frames with a rebase, of those before each, and of ordinary ones."""
    if "rebases" not in bench.kept:
        camera = TimedCamera(bench.engine, bench.clip)
        camera.fill()
        rebased: list[float] = []
        before: list[list[float]] = []
        ordinary: list[float] = []
        since: list[float] = []
        while len(rebased) <= REBASES:
            timed = camera.see_used()
            if timed.sight.rebased:
                ordinary += since[:-AHEAD]
                before.append(since[-AHEAD:])
                rebased.append(timed.ms)
                since = []
            else:
                since.append(timed.ms)
        bench.kept["rebases"] = (rebased[1:], before[1:], ordinary)
    found: tuple[list[float], list[list[float]], list[float]] = bench.kept["rebases"]
    return found


def _long_run(bench: Workbench) -> tuple[tuple[list[float], list[float]], tuple[float, float]]:
    """Milliseconds of moving frames late and early in one session, and the process's memory then, MB: early, late."""
    if "long" not in bench.kept:
        camera = TimedCamera(bench.engine, bench.clip)
        times_ms: dict[int, list[float]] = {EARLY: [], LATE: []}
        memory_mb: dict[int, float] = {}
        curve: list[tuple[int, float]] = []
        last = camera.next_frame()
        while camera.num_frames < LATE + NUM_CYCLES_TIMED * A_CYCLE:
            for _ in range(MOVING):
                timed = camera.see()
                curve.append((camera.num_frames, timed.ms))
                for since in times_ms:
                    if since <= camera.num_frames < since + NUM_CYCLES_TIMED * A_CYCLE and timed.sight.appended:
                        times_ms[since].append(timed.ms)
            for since in times_ms:
                if camera.num_frames >= since:
                    memory_mb.setdefault(since, resident_memory_bytes() / 2**20)
            last = camera.next_frame()
            for _ in repeat(None, A_CYCLE - MOVING - 1):
                camera.see(replace(camera.next_frame(), image=last.image, on_grid=last.on_grid, is_repeated=True))
        bench.kept["long"] = ((times_ms[LATE], times_ms[EARLY]), (memory_mb[EARLY], memory_mb[LATE]))
        bench.kept["curve"] = curve
    found: tuple[tuple[list[float], list[float]], tuple[float, float]] = bench.kept["long"]
    return found


FRAME_ROWS = (
    RowSpec(
        "frame",
        "a frame of a real clip, window full, one thread",
        "for transformers' model fed the same window again",
        "ms",
        Target("ratio", 1 / 110),
        frame,
    ),
    RowSpec(
        "frame-noise",
        "the same where every cell of every frame changes",
        "for transformers' model fed the same window again",
        "ms",
        Target("ratio", 1 / 110),
        frame_noise,
    ),
    RowSpec(
        "plain-path",
        "a frame of a real clip, window full, one thread",
        "where transformers' modules compute it",
        "ms",
        Target("ratio", 1 / 1.5),
        plain_path,
    ),
    RowSpec("skipped", "a frame with nothing kept", "for a frame that is used", "ms", Target("ratio", 1 / 20), skipped),
    RowSpec(
        "eviction", "evictions, for each frame", "for a frame that is used", "ms", Target("ratio", 1 / 20), eviction
    ),
    RowSpec(
        "rebase", "the frame in which the time is rebased", "for an ordinary frame", "ms", Target("ratio", 3.0), rebase
    ),
    RowSpec(
        "rebase-ahead",
        "the slowest in twenty of the frames before that",
        "for an ordinary frame",
        "ms",
        Target("ratio", 3.0),
        rebase_ahead,
    ),
    RowSpec("late", "a frame after 20,000 frames", "for one after 1,000", "ms", Target("ratio", 1.05), late),
    RowSpec("memory", "growth from frame 1,000 to 20,000", "at frame 1,000", "MB", Target("value", 20.0), memory),
)
