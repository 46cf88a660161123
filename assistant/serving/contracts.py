"""What the scheduler, the streams that it serves and the model know of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from assistant.errors import AssistantError
from assistant.events import Answer, StreamEvent
from assistant.serving.rate_control import RateChange
from assistant.stream.model_session import ModelSession
from assistant.stream.open_stream import SessionEngine

if TYPE_CHECKING:
    import numpy as np

    from assistant.evidence import EvidenceFrame
    from assistant.rules.rule import Rule
    from assistant.rules.rule_watch import ArmedRule, RuleFacts
    from assistant.serving.channel_types import ChannelSnapshot
    from assistant.serving.live_rehearsal import LiveRehearsal
    from assistant.stream.speaking import Decision
    from models.checkpoint.settings import StreamSettings
    from models.checkpoint.types import ModelInfo
    from models.session.media_turns import Attachment
    from models.session.steps import Job
    from streaming.types import Frame


class CapacityExceeded(AssistantError):
    """There is no room for another stream."""


class ModelUnavailable(AssistantError):
    """The model could not be loaded, or was stopped."""


class ModelState(StrEnum):
    """Whether the model can be used."""

    LOADING = "loading"
    READY = "ready"
    STALLED = "stalled"
    FAILED = "failed"
    STOPPED = "stopped"


class ModelEngine(SessionEngine[ModelSession], Protocol):
    """What the scheduler needs of an engine (`models.engine.Engine`)."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def stream(self) -> StreamSettings: ...

    def step(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]: ...

    @property
    def memory_limit(self) -> int | None: ...

    def session_bytes(self, settings: StreamSettings) -> int: ...

    def working_bytes(self, settings: StreamSettings) -> int: ...

    def prepare(self, max_bytes: int | None) -> None: ...

    def close(self) -> None: ...


class ServedStream(Protocol):
    """What the scheduler serves (`assistant.serving.served_channel.ServedChannel`).

    All but `name` and `stalled` is called on the engine's thread alone.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_live(self) -> bool: ...

    @property
    def is_answering(self) -> bool:
        """Whether its job under way answers a question, which is no overload."""

    @property
    def is_over(self) -> bool: ...

    def settings(self, of_checkpoint: StreamSettings) -> StreamSettings:
        """The settings that its session is to have."""

    def open(self, engine: ModelEngine, settings: StreamSettings) -> None:
        """Open its session."""

    def next_job(self) -> Job[Any] | None:
        """The next job; None where there is nothing to do now."""

    def on_done(self, job: Job[Any]) -> None:
        """Take note of a job that is done."""

    def set_rate(self, change: RateChange) -> None:
        """Lower or raise the rate of frames as for all streams."""

    def take_counts(self) -> tuple[int, int]:
        """Frames used and lost since the last call."""

    def fail(self, error: BaseException) -> None:
        """Note the error for which the model cannot watch it."""

    def detach(self) -> None:
        """End it: it is served no more."""

    def stalled(self, seconds: float | None) -> None:
        """Say that a step of the model has hung for so long; None: it came back."""


class OpenQuestion(Protocol):
    """A question under way (`assistant.stream.question_queue.OpenQuestion`)."""

    @property
    def future(self) -> Future[Answer]: ...

    def cancel(self) -> None: ...


class AnswersQuestions(Protocol):
    """What a person can ask: a stream (`assistant.serving.channel.Channel`), or the model about files alone."""

    def ask(
        self,
        text: str,
        attachments: Sequence[Attachment] = (),
        on_piece: Callable[[str], None] | None = None,
        *,
        aside: bool = False,
    ) -> OpenQuestion: ...


class WatchableStream(AnswersQuestions, Protocol):
    """What a viewer's session needs of a stream (`assistant.serving.channel.Channel`)."""

    def start(self) -> None: ...

    def stop(self, timeout_s: float = 10.0) -> bool: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def seek(self, media_s: float) -> None: ...

    def set_speed(self, speed: float | None) -> None: ...

    def set_talkative(self, talkative: float) -> None: ...

    def instruct(self, text: str | None) -> Future[None]: ...

    def forget(self) -> Future[None]: ...

    def set_rules(self, rules: Sequence[Rule]) -> Future[None]: ...

    def check_rules(self, rules: Sequence[Rule]) -> tuple[ArmedRule, ...]: ...

    def rehearse(self, rule: Rule) -> LiveRehearsal: ...

    def mute_rule(self, name: str, *, muted: bool) -> bool: ...

    def rules(self) -> tuple[RuleFacts, ...]: ...

    def subscribe(self, subscriber: Callable[[StreamEvent], None]) -> Callable[[], None]: ...

    def add_viewer(self, viewer: Callable[[Frame], None]) -> Callable[[], None]: ...

    def snapshot(self) -> ChannelSnapshot: ...

    def decisions(self, since: int = 0) -> tuple[int, list[Decision]]: ...

    def events(self, since: int = 0) -> tuple[int, list[StreamEvent]]: ...

    def evidence(self, event: StreamEvent) -> tuple[EvidenceFrame, ...]: ...

    def push(self, image: np.ndarray, pts_s: float | None = None) -> bool: ...
