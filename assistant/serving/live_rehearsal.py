"""A rehearsal on a running stream, while it goes on and afterwards. Any thread may look at it and end it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from assistant.rules.rehearsal import Rehearsal


@dataclass(slots=True, eq=False)
class LiveRehearsal:
    """A rule that is being rehearsed; `future` ends with it, or with what went wrong."""

    rehearsal: Rehearsal
    source: str
    """The stream whose pictures are watched."""
    num_frames: int
    is_taught: bool
    """Whether the model's card says that it was taught to judge the rule's words."""
    num_done: int = 0
    is_cancelled: bool = False
    future: Future[None] = field(default_factory=Future)

    def cancel(self) -> None:
        """End it before its next frame."""
        self.is_cancelled = True
