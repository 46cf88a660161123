"""What a stream needs of the model's side. Its steps run on the engine's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from models.session.steps import Steps

if TYPE_CHECKING:
    import numpy as np

    from models.eviction import Eviction
    from models.session.media_turns import Attachment
    from models.session.results import Check, Sight
    from models.session.turns import Utterance
    from streaming.types import Frame


class FrameRules(Protocol):
    """What judges each frame after the model saw it (`assistant.rules.rule_watch.RuleWatch`)."""

    def on_sight(self, model: Any, frame: Frame, sight: Sight) -> Steps[None]: ...

    def on_break(self, why: str) -> None: ...


class ModelSession(Protocol):
    """What a stream needs of the model's side (`models.session.session.Session`)."""

    def check_size(self, width_px: int, height_px: int) -> None: ...

    def check_instruction(self, text: str | None) -> None: ...

    def see(self, frame: Frame, *, speak_above: float | None = None) -> Steps[Sight]: ...

    def comment(self) -> Steps[Utterance]: ...

    def answer(
        self, question: str, attachments: Sequence[Attachment] = (), *, aside: bool = False
    ) -> Steps[Utterance]: ...

    def encode(self, attachments: Sequence[Attachment]) -> Steps[Sequence[Attachment]]: ...

    def check(self, question: str) -> Steps[Check]: ...

    def instruct(self, text: str | None) -> Steps[None]: ...

    def forget(self) -> Steps[None]: ...

    def expect(self, fps: float) -> Steps[None]: ...

    def note_gap(self, seconds: float) -> Steps[None]: ...

    def cut(self) -> Steps[Utterance | None]: ...

    def retract(self) -> Steps[None]: ...

    def take_evictions(self) -> tuple[Eviction, ...]: ...

    def hot_cells(self) -> np.ndarray: ...

    @property
    def remembered_s(self) -> float: ...

    @property
    def fitter(self) -> Callable[[Frame], Frame]: ...
