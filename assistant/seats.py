"""What a host and those that it serves know of each other, and of the model."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from assistant.errors import AssistantError
from assistant.governor import RateChange

if TYPE_CHECKING:
    from assistant.session import ModelSession
    from models.settings import StreamSettings
    from models.steps import Job
    from models.types import ModelInfo
    from models.view import PruningMode


class NoRoom(AssistantError):
    """One channel more than fits."""


class HostGone(AssistantError):
    """The model could not be loaded, or was let go of."""


class HostState(StrEnum):
    """What becomes of the model."""

    LOADING = "loading"
    READY = "ready"
    STALLED = "stalled"
    FAILED = "failed"
    STOPPED = "stopped"


class ModelEngine(Protocol):
    """What the host needs of an engine (`models.engine.Engine`)."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def stream(self) -> StreamSettings: ...

    def step(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]: ...

    def open_session(
        self, settings: StreamSettings | None, *, system: str | None, instruction: str | None, pruning: PruningMode
    ) -> ModelSession: ...

    @property
    def memory_limit(self) -> int | None: ...

    def session_bytes(self, settings: StreamSettings) -> int: ...

    def close(self) -> None: ...


class Seat(Protocol):
    """What the host serves: a channel. All but `name` and `stalled` is called on the engine's thread alone."""

    @property
    def name(self) -> str: ...

    @property
    def is_live(self) -> bool: ...

    @property
    def is_answering(self) -> bool:
        """Whether what it does now is to answer a question: that is no overload."""

    @property
    def is_over(self) -> bool: ...

    def settings(self, of_checkpoint: StreamSettings) -> StreamSettings:
        """What its session is to be like."""

    def open(self, engine: ModelEngine, settings: StreamSettings) -> None:
        """Make its session."""

    def next_job(self) -> Job[Any] | None:
        """What to do next, where there is anything."""

    def settle(self, job: Job[Any]) -> None:
        """A job is done."""

    def set_rate(self, change: RateChange) -> None:
        """All streams are given another rate."""

    def take_counts(self) -> tuple[int, int]:
        """Frames used and lost since the last call."""

    def fail(self, error: BaseException) -> None:
        """There is no model for it."""

    def leave(self) -> None:
        """It is served no more."""

    def stalled(self, seconds: float | None) -> None:
        """A step hangs for so long; None where it came back."""
