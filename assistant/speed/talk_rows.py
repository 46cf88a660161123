"""Rows about words and about many sessions: tokens, checks, and eight cameras on one engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assistant.rules.asking import ConditionAnswers, ask
from assistant.rules.wording import condition_of
from assistant.speed.camera import TimedCamera, passes_ms
from assistant.speed.rows import Measured, RowSpec, Target
from models.session.steps import Job

if TYPE_CHECKING:
    from assistant.speed.workbench import Workbench
    from models.session.token_sampling import TokenSampler

LENGTH = 1_500
"""Tokens that a session holds when its tokens are timed."""
NUM_TOKENS = 24
NUM_CAMERAS = 8
FRAMES_A_ROUND = 12
NUM_CHECKS = 10
QUESTION = "Is there a red circle?"
RULES = (
    "the view is covered",
    "it is dark",
    "the view is blurred",
    "anything moves",
    "anything in view",
    "a red circle",
    "a green shape",
    "a star",
    "a blue square on the left",
    "a red shape on the right",
)
"""Ten rules of one camera, of every kind that the embedded checkpoint was taught."""


def token(bench: Workbench) -> Measured:
    """A token of a remark after 1,500 tokens, and one of transformers' `generate` at that length."""
    from models.speed.reference import generate_ms

    camera = TimedCamera(bench.engine, bench.clip, sampler=_reciter(bench))
    camera.fill_to(LENGTH)
    prompt = [number % 64 for number in range(camera.session.usage.num_tokens)]
    values: list[float] = []
    baselines: list[float] = []
    for _ in bench.rounds():
        steps = camera.session.comment(max_tokens=NUM_TOKENS)
        values += list(passes_ms(bench.engine, steps))[1:-1]
        bench.engine.run(camera.session.retract())
        baselines += generate_ms(bench.engine.checkpoint, prompt, NUM_TOKENS)
    return Measured(values, baselines, f"at {len(prompt)} tokens")


def tokens_8(bench: Workbench) -> Measured:
    """A token each of eight sessions in one step of the engine, and in eight steps."""
    cameras = _cameras(bench)
    values: list[float] = []
    baselines: list[float] = []
    for _ in bench.rounds():
        jobs: list[Job[Any]] = [Job(camera.session.comment(max_tokens=NUM_TOKENS)) for camera in cameras]
        bench.engine.step(jobs)
        for number in range(NUM_TOKENS - 2):
            began_s = time.perf_counter()
            if number % 2:
                bench.engine.step(jobs)
            else:
                for job in jobs:
                    bench.engine.step([job])
            (values if number % 2 else baselines).append(1e3 * (time.perf_counter() - began_s))
        while bench.engine.step(jobs):
            pass
        for camera in cameras:
            bench.engine.run(camera.session.retract())
    return Measured(values, baselines)


def cameras_8(bench: Workbench) -> Measured:
    """Frames a second of eight cameras on one engine, and of one camera."""
    cameras = _cameras(bench)
    values, baselines = [], []
    for _ in bench.rounds():
        values.append(_fps(bench, cameras))
        baselines.append(_fps(bench, cameras[:1]))
    return Measured(values, baselines)


def checks_10(bench: Workbench) -> Measured:
    """Ten yes/no checks on one moment of a session, and one check."""
    camera = TimedCamera(bench.engine, bench.clip)
    camera.fill()
    questions = [f"{QUESTION} {number}" for number in range(NUM_CHECKS)]
    values, baselines = [], []
    for _ in bench.rounds():
        camera.see_used()
        values.append(_checks_ms(bench, camera, questions))
        baselines += [_checks_ms(bench, camera, questions[:1]) for _ in range(3)]
    return Measured(values, baselines)


def rules_10(bench: Workbench) -> Measured:
    """An appended frame with ten rules judged after it, and one without."""
    camera = TimedCamera(bench.engine, bench.clip)
    camera.fill()
    conditions = [condition_of(words, is_small=bench.engine.info.embedded) for words in RULES]
    answers = ConditionAnswers()
    values, baselines = [], []
    for _ in bench.rounds():
        for _ in range(FRAMES_A_ROUND):
            baselines.append(camera.see_used().ms)
            seen_ms, began_s = camera.see_used().ms, time.perf_counter()
            answers = bench.engine.run(ask(camera.session, conditions, answers))
            values.append(seen_ms + 1e3 * (time.perf_counter() - began_s))
    return Measured(values, baselines)


def frame_ms_of(bench: Workbench, num_cameras: int) -> float:
    """Milliseconds a frame with so many cameras on one engine, for the plot."""
    return 1e3 / _fps(bench, _cameras(bench)[:num_cameras])


def _cameras(bench: Workbench) -> list[TimedCamera]:
    """Eight cameras on the clips at hand, no two of them at the same picture, with their windows full."""
    if "cameras" not in bench.kept:
        clips, sampler = list(bench.clips.values()), _reciter(bench)
        bench.kept["cameras"] = [
            TimedCamera(bench.engine, clips[number % len(clips)], start=7 * number, sampler=sampler)
            for number in range(NUM_CAMERAS)
        ]
        for camera in bench.kept["cameras"]:
            camera.fill()
    cameras: list[TimedCamera] = bench.kept["cameras"]
    return cameras


def _fps(bench: Workbench, cameras: Sequence[TimedCamera]) -> float:
    """Frames a second that the engine takes of these cameras, side by side."""
    began_s = time.perf_counter()
    for _ in range(FRAMES_A_ROUND):
        jobs: list[Job[Any]] = [Job(camera.session.see(camera.next_frame())) for camera in cameras]
        while bench.engine.step(jobs):
            pass
        for job in jobs:
            job.outcome()
    return FRAMES_A_ROUND * len(cameras) / (time.perf_counter() - began_s)


def _checks_ms(bench: Workbench, camera: TimedCamera, questions: Sequence[str]) -> float:
    began_s = time.perf_counter()
    bench.engine.run(camera.session.check_all(questions))
    return 1e3 * (time.perf_counter() - began_s)


def _reciter(bench: Workbench) -> TokenSampler:
    from models.session.tokenizer import StreamTokenizer
    from models.speed.talk import SPOKEN, Reciter

    return Reciter(StreamTokenizer(bench.engine.checkpoint).encode(SPOKEN))


TALK_ROWS = (
    RowSpec(
        "token",
        f"a generated token at {LENGTH:,} tokens",
        "for one of transformers' generate, same model and length",
        "ms",
        Target("ratio", 1 / 1.5),
        token,
    ),
    RowSpec(
        "cameras-8",
        "eight cameras on one engine, two cores",
        "for one camera",
        "frames/s",
        Target("ratio", 2.0, at_least=True),
        cameras_8,
    ),
    RowSpec(
        "tokens-8",
        "eight sessions, a token each, in one step",
        "for eight steps of one",
        "ms",
        Target("ratio", 1 / 2.5),
        tokens_8,
    ),
    RowSpec("rules-10", "a frame with ten rules", "for one without", "ms", Target("ratio", 2.0), rules_10),
    RowSpec("checks-10", "ten yes/no checks on a frame", "for one check", "ms", Target("ratio", 2.0), checks_10),
)
