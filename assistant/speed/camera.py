"""One camera's session with the model, fed with pictures and timed. The engine's thread owns it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from assistant.speed.workbench import endless
from models.session.steps import Job
from streaming.types import Frame

if TYPE_CHECKING:
    from models.checkpoint.settings import StreamSettings
    from models.engine import Engine
    from models.session.results import Sight
    from models.session.steps import Steps
    from models.session.token_sampling import TokenSampler
    from models.session.turns import Utterance

MOST_FILLING = 5000
"""Frames after which a window that is not full is a fault of ours."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One frame, timed from the picture to the decision."""

    ms: float
    sight: Sight
    picture: np.ndarray
    """The picture at the grid's size, as the session took it."""


class TimedCamera:
    """A session that sees one picture after another, `fps` of each second of its media time."""

    def __init__(
        self,
        engine: Engine,
        pictures: Sequence[np.ndarray],
        *,
        start: int = 0,
        settings: StreamSettings | None = None,
        sampler: TokenSampler | None = None,
    ) -> None:
        """start: the picture to begin with, so that cameras of one clip see different ones."""
        self._engine = engine
        self.session = engine.open_session(settings, sampler=sampler)
        self._fit = self.session.fitter
        self._fps = self.session.settings.fps
        self._pictures = endless(pictures, start)
        self.num_frames = 0

    def next_frame(self) -> Frame:
        """The next frame, scaled to the grid as the capture thread does it."""
        number, self.num_frames = self.num_frames, self.num_frames + 1
        picture = next(self._pictures)
        return self._fit(Frame(picture, number, number / self._fps, 0.0, "bench"))

    def see(self, frame: Frame | None = None) -> Timed:
        """Show the next frame to the session."""
        frame = frame or self.next_frame()
        began_s = time.perf_counter()
        sight = self._engine.run(self.session.see(frame))
        ms = 1e3 * (time.perf_counter() - began_s)
        assert frame.on_grid is not None
        return Timed(ms, sight, frame.on_grid)

    def see_used(self) -> Timed:
        """Show frames until one is appended; returns that one."""
        while not (timed := self.see()).sight.appended:
            pass
        return timed

    def fill(self) -> None:
        """Show frames until the window was full once."""
        while not self.session.usage.num_evictions:
            self.see()
            if self.num_frames > MOST_FILLING:
                raise RuntimeError(f"{MOST_FILLING} frames did not fill the window")

    def fill_to(self, num_tokens: int) -> None:
        """Show frames until the session holds so many tokens."""
        while self.session.usage.num_tokens < num_tokens and self.num_frames <= MOST_FILLING:
            self.see()


def passes_ms(engine: Engine, steps: Steps[Utterance]) -> Iterator[float]:
    """Run a turn; yields the milliseconds of each forward pass with the choice that follows it."""
    job: Job[Utterance] = Job(steps)
    while not job.done:
        began_s = time.perf_counter()
        engine.step([job])
        yield 1e3 * (time.perf_counter() - began_s)
    job.outcome()
