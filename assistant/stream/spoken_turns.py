"""Passes a turn on piece by piece while the model says it, and can stop it. The engine's thread owns it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from assistant.events import Answer
from assistant.stream.speaking import Reason
from models.session.steps import Reply, StepGenerator, Steps, TextPiece, as_steps

if TYPE_CHECKING:
    from assistant.stream.model_session import ModelSession
    from assistant.stream.stats import StreamStats
    from models.session.media_turns import Attachment
    from models.session.turns import Utterance
    from streaming.clock import Clock
    from streaming.types import Frame

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """A turn that is over."""

    utterance: Utterance | None
    """None where it was stopped before its first token, or said aside."""
    cut: bool
    first_at_s: float | None
    """Our clock at its first words."""
    heard: str
    """Its words as they came."""
    took_ms: float
    """From its start to its end."""

    @property
    def text(self) -> str:
        """Its words."""
        return (self.utterance.text if self.utterance is not None else self.heard).strip()

    def latency_ms(self, frame: Frame | None) -> float | None:
        """From the frame's capture to the first words; None where nothing was said, or nothing seen."""
        if self.first_at_s is None or frame is None:
            return None
        return 1000 * max(0.0, self.first_at_s - frame.captured_at_s)

    def as_answer(self, question: str, *, frame: Frame | None = None, asked_at_s: float = 0.0) -> Answer:
        """The event of an answer. frame: the newest that was seen; None for a question about files alone."""
        return Answer(
            source=frame.source if frame is not None else "",
            time_s=frame.pts_s if frame is not None else 0.0,
            text=self.text,
            reason=Reason.CUT_SHORT.value if self.cut else "asked",
            latency_ms=self.latency_ms(frame),
            frame_index=frame.index if frame is not None else None,
            question=question,
            asked_at_s=asked_at_s,
        )


class TurnStream:
    """Passes the pieces of a turn on, and notes when the first words come."""

    def __init__(self, clock: Clock, on_piece: Callable[[str], None] | None = None) -> None:
        self._clock = clock
        self._on_piece = on_piece or (lambda piece: None)
        self._pieces: list[str] = []
        self._started_s = clock.now_s()
        self.first_at_s: float | None = None

    def said(self, utterance: Utterance | None, *, cut: bool) -> SpokenTurn:
        """The turn, now that it is over."""
        took_ms = 1000 * (self._clock.now_s() - self._started_s)
        return SpokenTurn(utterance, cut, self.first_at_s, "".join(self._pieces), took_ms)

    @as_steps
    def left_off(self, steps: Steps[T], stop: Callable[[], bool]) -> StepGenerator[T | None]:
        """Run `steps` to their end. Returns None where `stop` ended them between two forward passes."""
        output: Reply = None
        try:
            while True:
                request = steps.send(output)
                if isinstance(request, TextPiece):
                    self.first_at_s = self.first_at_s if self.first_at_s is not None else self._clock.now_s()
                    self._pieces.append(request.text)
                    self._on_piece(request.text)
                elif stop():
                    return None
                output = yield request
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()


class TurnSpeaker:
    """Lets a session of the model say turns and encode attachments. `stop` is for any thread."""

    def __init__(self, model: ModelSession, clock: Clock, stats: StreamStats) -> None:
        self.model = model
        """The session; a fresh one may take its place."""
        self._clock = clock
        self._stats = stats
        self._stopping = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is to be said."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Stop the turn being said as soon as possible, and say no other."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of the model's session. May be called twice."""
        vars(self).pop("model", None)

    @as_steps
    def say(
        self,
        steps: Steps[Utterance],
        stop: Callable[[], bool] = lambda: False,
        on_piece: Callable[[str], None] | None = None,
    ) -> StepGenerator[SpokenTurn]:
        """Say a turn; one that `stop` or `self.stop` ends between two forward passes is closed properly."""
        listener = TurnStream(self._clock, on_piece)
        utterance = yield from listener.left_off(steps, self._or_stopping(stop))
        cut = utterance is None
        if cut:
            utterance = yield from self.model.cut()
        said = listener.said(utterance, cut=cut)
        self._stats.said_ms = said.took_ms
        return said

    @as_steps
    def encode(
        self, attachments: Sequence[Attachment], stop: Callable[[], bool]
    ) -> StepGenerator[Sequence[Attachment] | None]:
        """Encode a question's attachments, in turns with the frames of the stream; None where `stop` ended that."""
        listener = TurnStream(self._clock)
        return (yield from listener.left_off(self.model.encode(attachments), self._or_stopping(stop)))

    def _or_stopping(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: self._stopping.is_set() or stop()
