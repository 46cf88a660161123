"""Stand-ins for an engine and for what a host serves, driven by hand on a clock of the test's own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from assistant.errors import AssistantError
from assistant.serving.contracts import ModelEngine
from assistant.serving.rate_control import RateChange
from assistant.serving.scheduler import Scheduler
from models.checkpoint.settings import SpeakingSettings, StreamSettings
from models.checkpoint.types import ModelInfo
from models.session.frame_encoder import PruningMode
from models.session.steps import Forward, Job, StepGenerator, Steps, TextPiece, as_steps
from streaming.clock import FakeClock
from tests.assistant.fakes import A_FORWARD, AN_OUTPUT, FakeModel

INFO = ModelInfo("fake", "cpu", "float32", "trained", False, 2.0, 1000, 100)
SESSION_BYTES = 10 << 20


@dataclass
class FakeModelEngine:
    """Each forward pass takes `forward_s` of the clock; errors in `failing` are what the next passes come to."""

    clock: FakeClock
    forward_s: float = 0.01
    models: list[FakeModel] = field(default_factory=list)
    """Given to sessions in order; a plain one where there is none left."""
    failing: deque[Exception] = field(default_factory=deque)
    opened: list[dict[str, Any]] = field(default_factory=list)
    on_step: Callable[[], None] = lambda: None
    is_closed: bool = False
    prepared_for: int | None = None
    bytes_a_session: int = SESSION_BYTES
    bytes_a_step: int = 0
    stream: StreamSettings = field(
        default_factory=lambda: StreamSettings(speaking=SpeakingSettings(decision="trained"))
    )
    info: ModelInfo = INFO
    memory_limit: int | None = None

    def ask_bytes(self, *given: Any) -> int:
        return self.bytes_a_session

    def ask_working_bytes(self, *given: Any) -> int:
        return self.bytes_a_step

    def working_bytes(self, settings: StreamSettings) -> int:
        return self.bytes_a_step

    def step(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        for job in jobs:
            self.on_step()
            self.clock.advance(self.forward_s)
            if not job.done and job.request is None:
                job.begin()
            if isinstance(job.request, Forward):
                if self.failing:
                    job.fail(self.failing.popleft())
                else:
                    job.resume(AN_OUTPUT)
            elif job.request is not None:
                job.resume(None)
        return [job for job in jobs if not job.done]

    def open_session(
        self, settings: StreamSettings | None, *, system: str | None, instruction: str | None, pruning: PruningMode
    ) -> FakeModel:
        self.opened.append({"system": system, "instruction": instruction, "pruning": pruning})
        return self.models.pop(0) if self.models else FakeModel()

    def session_bytes(self, settings: StreamSettings) -> int:
        return self.bytes_a_session

    def prepare(self, max_bytes: int | None) -> None:
        self.prepared_for = max_bytes

    def close(self) -> None:
        self.is_closed = True


@as_steps
def passes(number: int, result: Any = None) -> StepGenerator[Any]:
    """A job of so many forward passes."""
    for _ in range(number):
        yield A_FORWARD
    return result


@as_steps
def saying(*words: str) -> StepGenerator[str]:
    """A job that says words, a forward pass each."""
    for word in words:
        yield A_FORWARD
        yield TextPiece(word)
    return " ".join(words)


@dataclass
class FakeServedStream:
    """Has the jobs it was given, and notes what the host does with it."""

    name: str = "seat"
    is_live: bool = True
    is_answering: bool = False
    is_over: bool = False
    jobs: deque[Steps[Any]] = field(default_factory=deque)
    always: int = 0
    """With no jobs left it has ones of so many forward passes, without end."""
    settled: list[Job[Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    stalls: list[float | None] = field(default_factory=list)
    failure: BaseException | None = None
    has_left: bool = False
    counts: tuple[int, int] = (0, 0)
    refuses: AssistantError | None = None

    def settings(self, of_checkpoint: StreamSettings) -> StreamSettings:
        return of_checkpoint

    def open(self, engine: ModelEngine, settings: StreamSettings) -> None:
        if self.refuses is not None:
            raise self.refuses

    def next_job(self) -> Job[Any] | None:
        if self.jobs:
            return Job(self.jobs.popleft())
        return Job(passes(self.always)) if self.always else None

    def on_done(self, job: Job[Any]) -> None:
        self.settled.append(job)

    def set_rate(self, change: RateChange) -> None:
        self.rates.append(change.factor)

    def take_counts(self) -> tuple[int, int]:
        return self.counts

    def fail(self, error: BaseException) -> None:
        self.failure = error

    def detach(self) -> None:
        self.has_left = True

    def stalled(self, seconds: float | None) -> None:
        self.stalls.append(seconds)


def turn_until(host: Scheduler, reached: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Rounds of the host on this thread until something is so; captures run in threads of their own."""
    ends_s = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < ends_s, "it did not come to that"
        if not host.turn():
            time.sleep(0)
