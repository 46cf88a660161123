"""Builds a watched stream: the model's session, the rule when to speak, and the questions, all from one set of options.

Called on the engine's thread, or before it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from assistant.stream.model_session import FrameRules, ModelSession
from assistant.stream.speaking import Decision, policy_for
from assistant.stream.stream_session import StreamSession

if TYPE_CHECKING:
    from assistant.events import StreamEvent
    from assistant.stream.question_queue import Question
    from assistant.timeline.recall import Recalled
    from models.checkpoint.settings import StreamSettings
    from models.session.frame_encoder import PruningMode
    from models.session.results import Sight
    from streaming.clock import Clock
    from streaming.masks import MaskRegion
    from streaming.types import Frame


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a person wants one stream to be watched."""

    talkative: float = 0.0
    """Log-odds added in favour of speaking."""
    instruction: str | None = None
    """The standing instruction."""
    questions: tuple[Question, ...] = ()
    """Asked at their media times."""
    zones: tuple[MaskRegion, ...] = ()
    """Where something must change for a remark; everywhere where there are none."""
    pace: float = 0.0
    """Seconds of media a second while nothing is read: 1 for live sources, 0 where media time waits."""
    system: str | None = None
    """The system turn; None for the checkpoint's own."""
    pruning: PruningMode = "live"


AnySession = TypeVar("AnySession", bound=ModelSession, covariant=True)


class SessionEngine(Protocol[AnySession]):
    """What opens the model's side of a stream (`models.engine.Engine`)."""

    def open_session(
        self, settings: StreamSettings | None, *, system: str | None, instruction: str | None, pruning: PruningMode
    ) -> AnySession: ...


def open_model_session(
    engine: SessionEngine[AnySession], settings: StreamSettings | None, options: StreamOptions
) -> AnySession:
    """The model's side of a stream, nothing prefilled yet. Raises the `ModelError` that refuses an instruction."""
    session = engine.open_session(
        settings, system=options.system, instruction=options.instruction, pruning=options.pruning
    )
    session.check_instruction(options.instruction)
    return session


def open_stream(
    session: ModelSession,
    settings: StreamSettings,
    options: StreamOptions,
    clock: Clock,
    emit: Callable[[StreamEvent], None],
    *,
    on_sight: Callable[[Frame, Sight, Decision], None] = lambda frame, sight, decision: None,
    recall: Callable[[str, float, float], Recalled | None] = lambda question, media_s, remembered_s: None,
    rules: FrameRules | None = None,
) -> StreamSession:
    """A stream that sees, decides and speaks through `session`; its events go to `emit`.

    on_sight, recall and rules: as `StreamSession` takes them.
    """
    return StreamSession(
        session,
        policy_for(settings.speaking, fps=settings.fps, talkativeness=options.talkative),
        clock,
        emit,
        pace=options.pace,
        instruction=options.instruction,
        questions=options.questions,
        on_sight=on_sight,
        zones=options.zones,
        recall=recall,
        rules=rules,
    )
