"""Rows at the sizes of released checkpoints, with random weights: speed does not depend on what the weights say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.speed.camera import TimedCamera, passes_ms
from assistant.speed.rows import Measured, RowSpec, Target
from models.session.steps import Job

if TYPE_CHECKING:
    from assistant.speed.workbench import Workbench
    from models.checkpoint.settings import StreamSettings
    from models.engine import Engine
    from models.session.token_sampling import TokenSampler

SIZES = ("2b", "7b")
VIEW_PX = (252, 448)
"""Height and width: 9 by 16 merged cells."""
NUM_CELLS = 144
FPS = 2.0
VISION_LOW, VISION_HIGH = 6000, 7200
FRAMES_A_ROUND = 12
NUM_TOKENS = 48
NUM_TALKERS = 16
NUM_CAMERAS, CAMERA_FPS, WATCHED_S = 100, 1.0, 300.0
QUESTION = "How many circles are there?"


def rows_of(size: str) -> tuple[RowSpec, ...]:
    """The rows of one size."""

    def row(name: str, figure: str, baseline: str, unit: str, target: Target, measure: _Measure) -> RowSpec:
        return RowSpec(f"{size}-{name}", figure, baseline, unit, target, partial(measure, size), on_gpu=True)

    at_most = partial(Target, "value")
    token_ms = 6.0 if size == "7b" else 3.0
    return (
        row("token", "a generated token", "for transformers' generate, static cache", "ms", at_most(token_ms), _token),
        row("frame", "a frame of which all 144 cells are kept", "", "ms", at_most(6.0), _frame),
        row("answer", "an answer's first token", "", "ms", at_most(15.0), _answer),
        row("check", "a yes/no check", "", "ms", at_most(6.0), _check),
        row("stream", "one stream", "", "frames/s", at_most(134.0, at_least=True), _stream),
        row("cameras-100", "the longest delay of 100 cameras at 1 frame a second", "", "s", at_most(1.0), _cameras_100),
        row("talkers-16", "16 cameras that talk at once", "", "tokens/s", at_most(400.0, at_least=True), _talkers),
    )


_Measure = Callable[[str, "Workbench"], Measured]


def engine_of_size(size: str, bench: Workbench) -> Engine:
    """An engine on random weights of this size, made once; on CUDA, but for `tiny`."""
    from models.engine import Engine
    from models.speed.sizes import random_checkpoint

    if size not in bench.kept:
        bench.kept[size] = Engine(random_checkpoint(size, device=bench.settings.device), now=time.perf_counter)
    engine: Engine = bench.kept[size]
    return engine


def settings_of(fps: float = FPS) -> StreamSettings:
    """Sessions of 144 cells whose time is not rebased while they are measured."""
    from models.checkpoint.settings import SpeakingSettings, StreamSettings
    from models.eviction import WindowSettings

    return StreamSettings(
        max_cells=NUM_CELLS,
        fps=fps,
        max_shown_time_s=9_000.0,
        window=WindowSettings(VISION_LOW, VISION_HIGH, text_low=1024, text_high=1536),
        speaking=SpeakingSettings(max_comment_tokens=NUM_TOKENS, max_answer_tokens=NUM_TOKENS),
    )


def blinking(num_pictures: int = 8) -> list[np.ndarray]:
    """Pictures in which every cell changes from one to the next."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*VIEW_PX, 3), np.uint8) for _ in range(num_pictures)]


def _camera(size: str, bench: Workbench) -> TimedCamera:
    """One camera with its window full, for all rows of the size."""
    if f"{size} camera" not in bench.kept:
        bench.kept[f"{size} camera"] = _new_camera(size, bench)
    camera: TimedCamera = bench.kept[f"{size} camera"]
    return camera


def _new_camera(size: str, bench: Workbench) -> TimedCamera:
    engine, sampler = engine_of_size(size, bench), _reciter(size, bench)
    camera = TimedCamera(engine, blinking(), settings=settings_of(), sampler=sampler)
    camera.fill()
    return camera


def _reciter(size: str, bench: Workbench) -> TokenSampler:
    from models.session.tokenizer import StreamTokenizer
    from models.speed.talk import SPOKEN, Reciter

    return Reciter(StreamTokenizer(engine_of_size(size, bench).checkpoint).encode(SPOKEN))


def _token(size: str, bench: Workbench) -> Measured:
    from models.speed.reference import generate_ms

    camera = _camera(size, bench)
    engine, values, baselines = engine_of_size(size, bench), [], []
    for _ in bench.rounds():
        values += list(passes_ms(engine, camera.session.comment(max_tokens=NUM_TOKENS)))[2:-1]
        prompt = [number % 64 for number in range(camera.session.usage.num_tokens)]
        baselines += generate_ms(engine.checkpoint, prompt, NUM_TOKENS, static=True)[1:]
    return Measured(values, baselines, f"at {len(prompt)} tokens")


def _frame(size: str, bench: Workbench) -> Measured:
    camera = _camera(size, bench)
    return Measured([camera.see().ms for _ in bench.rounds() for _ in range(FRAMES_A_ROUND)])


def _answer(size: str, bench: Workbench) -> Measured:
    camera, engine, values = _camera(size, bench), engine_of_size(size, bench), []
    for _ in bench.rounds():
        for _ in range(4):
            values.append(list(passes_ms(engine, camera.session.answer(QUESTION, max_tokens=2)))[0])
            camera.see()
    return Measured(values)


def _check(size: str, bench: Workbench) -> Measured:
    camera, engine, values = _camera(size, bench), engine_of_size(size, bench), []
    for _ in bench.rounds():
        for _ in range(FRAMES_A_ROUND):
            began_s = time.perf_counter()
            engine.run(camera.session.check(QUESTION))
            values.append(1e3 * (time.perf_counter() - began_s))
    return Measured(values)


def _stream(size: str, bench: Workbench) -> Measured:
    camera, values = _camera(size, bench), []
    for _ in bench.rounds():
        began_s = time.perf_counter()
        for _ in range(FRAMES_A_ROUND):
            camera.see()
        values.append(FRAMES_A_ROUND / (time.perf_counter() - began_s))
    return Measured(values)


def _talkers(size: str, bench: Workbench) -> Measured:
    engine, values = engine_of_size(size, bench), []
    cameras = [_new_camera(size, bench) for _ in range(NUM_TALKERS)]
    for _ in bench.rounds():
        jobs: list[Job[Any]] = [Job(camera.session.comment(max_tokens=NUM_TOKENS)) for camera in cameras]
        engine.step(jobs)
        began_s = time.perf_counter()
        for _ in range(NUM_TOKENS - 2):
            engine.step(jobs)
        values.append(NUM_TALKERS * (NUM_TOKENS - 2) / (time.perf_counter() - began_s))
        while engine.step(jobs):
            pass
    return Measured(values)


def _cameras_100(size: str, bench: Workbench) -> Measured:
    """Every camera gives a frame each second, at its own moment of the second; none is left out, however late."""
    engine, pictures = engine_of_size(size, bench), blinking()
    cameras = [
        TimedCamera(engine, pictures, start=number, settings=settings_of(CAMERA_FPS)) for number in range(NUM_CAMERAS)
    ]
    for camera in cameras:
        camera.see()
    watched_s = min(WATCHED_S, 15 * bench.settings.seconds)
    delays_s = _delays_s(engine, cameras, watched_s)
    remark = f"{len(delays_s)} frames in {watched_s:g} s, all of them seen; median delay {np.median(delays_s):.3f} s"
    return Measured([max(delays_s)], (), remark)


def _delays_s(engine: Engine, cameras: Sequence[TimedCamera], watched_s: float) -> list[float]:
    """Seconds from the moment that a frame is due to its decision, of each frame that falls due in `watched_s`."""
    began_s, delays_s = time.perf_counter(), []
    due_s = [number / len(cameras) / CAMERA_FPS for number in range(len(cameras))]
    jobs: dict[int, Job[Any]] = {}
    while jobs or min(due_s) < watched_s:
        now_s = time.perf_counter() - began_s
        for number, camera in enumerate(cameras):
            if number not in jobs and due_s[number] <= min(now_s, watched_s):
                jobs[number] = Job(camera.session.see(camera.next_frame()))
        if not jobs:
            time.sleep(0.001)
            continue
        engine.step(list(jobs.values()))
        now_s = time.perf_counter() - began_s
        for number in [number for number, job in jobs.items() if job.done]:
            jobs.pop(number).outcome()
            delays_s.append(now_s - due_s[number])
            due_s[number] += 1 / CAMERA_FPS
    return delays_s


def for_any_machine(spec: RowSpec) -> RowSpec:
    """The same row, measured without CUDA, as on tiny weights."""
    return replace(spec, on_gpu=False)
