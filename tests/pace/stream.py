"""One session's life, timed: the window fills, then frames go through a full one, with turns and checks in between."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from models.checkpoint.loader import Checkpoint
from models.checkpoint.settings import SpeakingSettings, StreamSettings
from models.engine import Engine
from models.eviction import WindowSettings
from models.session.results import Sight
from models.session.session import Session
from models.session.steps import Job, Steps
from models.session.token_sampling import Choice, TokenSampler
from models.session.tokenizer import StreamTokenizer
from models.session.turns import Utterance
from streaming.scenes.source import Family, Scene, SceneSettings
from streaming.types import Frame
from tests.pace.meter import Meter

VIEW_PX = (448, 252)
"""Width and height: 16 by 9 merged cells."""
NUM_CELLS = 144
FPS = 2.0
WINDOW = WindowSettings(vision_low=6000, vision_high=7200, text_low=1024, text_high=1536)
NUM_SETTLING = 8
"""Frames of the scene itself at the end of the filling, in which pruning gets used to it."""
TURN_TOKENS = 24
TALK_EVERY = 40
"""Frames from one comment, answer and check to the next."""
SPOKEN = "A red circle enters on the left and a blue square leaves on the right. "
QUESTION = "How many circles are there?"
Picture = Literal["whole", "few"]
"""`whole`: every cell changes in every frame; `few`: a scene in which some things move."""
How = Literal["plain", "split", "near"]
"""How a frame is timed: as it is; with its parts; with the second pass of the decision, made near to speaking."""
_TURNS_OF_TIMING: tuple[How, ...] = ("split", "near", "plain", "plain", "plain")


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame, timed."""

    how: How
    ms: float
    """From the picture to the decision, the device waited for."""
    sight: Sight
    cache_bytes: int
    peak_bytes: int | None


@dataclass(slots=True)
class Record:
    """All that was timed in one session, milliseconds."""

    filling: list[Seen] = field(default_factory=list)
    frames: list[Seen] = field(default_factory=list)
    """Those that came once the window had been full."""
    eviction_ms: list[float] = field(default_factory=list)
    comment_first_ms: list[float] = field(default_factory=list)
    answer_first_ms: list[float] = field(default_factory=list)
    token_ms: list[float] = field(default_factory=list)
    check_ms: list[float] = field(default_factory=list)
    rebase: Seen | None = None
    """The frame in which the time is rebased: what is kept is prefilled anew."""
    num_rebuilt: int = 0
    """Tokens in the cache after that."""
    seconds: float = 0.0
    """All that came once the window had been full, turns and checks too."""
    num_tokens: int = 0
    """In the cache at the end of that."""
    num_evictions: int = 0
    """In that time."""


class Reciter(TokenSampler):
    """Chooses as ever, and says a fixed text all the same: random weights would end a turn anywhere."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__()
        self._ids = list(ids)

    def choose(self, logits: torch.Tensor, said: Sequence[int], *, barred: Collection[int] = ()) -> Choice:
        choice = super().choose(logits, said, barred=barred)
        return Choice(self._ids[len(said) % len(self._ids)], choice.logprob)


def render(num_frames: int, seed: int) -> list[np.ndarray]:
    """Pictures of a busy scene, uint8 RGB `[252, 448, 3]`, two a second of its time."""
    settings = SceneSettings(
        duration_s=max(2.0, num_frames / FPS),
        fps=FPS,
        view_sizes=(VIEW_PX,),
        families=frozenset({Family.SHAPES, Family.MOTION}),
        still_probability=0.0,
        max_things=4,
        pace=2.0,
        distractor_probability=0.0,
        artefact_probability=0.0,
    )
    scene = Scene(seed, settings)
    return [scene.frame(number / FPS) for number in range(num_frames)]


def num_filling(checkpoint: Checkpoint) -> int:
    """How many frames fill the window for sure: whole ones, and some of the scene itself."""
    codec = StreamTokenizer(checkpoint)
    least = NUM_CELLS + len(codec.frame_head(0.0)) + len(codec.frame_tail)
    return math.ceil(WINDOW.vision_high / least) + 1 + NUM_SETTLING


class Life:
    """Drives one session of an engine through its life."""

    def __init__(self, engine: Engine, meter: Meter, pictures: Sequence[np.ndarray], num_frames: int) -> None:
        """pictures: enough for filling, `num_frames` and two more."""
        self._engine, self._meter, self._pictures = engine, meter, pictures
        self._num_filling, self._num_frames = num_filling(engine.checkpoint), num_frames
        longest_s = (self._num_filling + num_frames) / FPS
        settings = StreamSettings(
            max_cells=NUM_CELLS,
            fps=FPS,
            # The time is rebased at the end, and not before.
            max_shown_time_s=longest_s,
            rebase_keep_s=min(60.0, longest_s / 2),
            window=WINDOW,
            speaking=SpeakingSettings(max_comment_tokens=TURN_TOKENS, max_answer_tokens=TURN_TOKENS),
        )
        spoken = StreamTokenizer(engine.checkpoint).encode(SPOKEN)
        self._session: Session = engine.open_session(settings, sampler=Reciter(spoken))
        self._record = Record()
        self._time_evictions()

    def warm_up(self) -> None:
        """A few frames and words that nobody times: libraries choose their kernels, memory is taken."""
        for number in range(4):
            self._see(number, "whole", "near")
        self._engine.run(self._session.comment(max_tokens=2))

    def live(self, picture: Picture) -> Record:
        """Fill the window with whole frames; then frames of one kind; then one that rebases the time."""
        record, meter = self._record, self._meter
        for number in range(self._num_filling):
            filling: Picture = "whole" if number < self._num_filling - NUM_SETTLING else picture
            record.filling.append(self._see(number, filling, "plain"))
        num_evictions = self._session.usage.num_evictions
        began_s = meter.mark()
        for count in range(self._num_frames):
            how = _TURNS_OF_TIMING[count % len(_TURNS_OF_TIMING)]
            record.frames.append(self._see(self._num_filling + count, picture, how))
            if count % TALK_EVERY == 0:
                self._talk()
        record.seconds = meter.mark() - began_s
        record.num_tokens = self._session.usage.num_tokens
        record.num_evictions = self._session.usage.num_evictions - num_evictions
        for number in range(self._num_filling + self._num_frames, len(self._pictures)):
            last = self._see(number, picture, "plain")
            if last.sight.rebased:
                record.rebase, record.num_rebuilt = last, self._session.usage.num_tokens
        return record

    def _see(self, number: int, picture: Picture, how: How) -> Seen:
        image = self._pictures[number]
        if picture == "whole":
            image = image // 2 + np.uint8(128 * (number % 2))  # as under a lamp that blinks
        frame = Frame(image=image, index=number, pts_s=number / FPS, captured_at_s=0.0, source="pace")
        meter = self._meter
        meter.begin_peak()
        began_s = meter.mark()
        meter.exact = how == "split"
        steps = self._session.see(frame, speak_above=-math.inf if how == "near" else None)
        sight = self._engine.run(steps)
        meter.exact = False
        ms = 1e3 * (meter.mark() - began_s)
        return Seen(how, ms, sight, self._session.usage.cache_bytes, meter.peak_bytes)

    def _talk(self) -> None:
        record, meter = self._record, self._meter
        for steps, first_ms in (
            (self._session.comment(), record.comment_first_ms),
            (self._session.answer(QUESTION), record.answer_first_ms),
        ):
            times_ms = list(self._passes(steps))
            first_ms.append(times_ms[0])
            record.token_ms += times_ms[1:-1]  # the last one closes the turn
        began_s = meter.mark()
        self._engine.run(self._session.check(QUESTION))
        record.check_ms.append(1e3 * (meter.mark() - began_s))

    def _passes(self, steps: Steps[Utterance]) -> Iterator[float]:
        """Drive a turn; gives the milliseconds of each forward pass with the choice that follows it."""
        job: Job[Utterance] = Job(steps)
        began_s = self._meter.mark()
        while not job.done:
            self._engine.step([job])
            now_s = self._meter.mark()
            yield 1e3 * (now_s - began_s)
            began_s = now_s
        job.outcome()

    def _time_evictions(self) -> None:
        """Evictions come inside a frame or a turn, behind a point at which the device was waited for anyway."""
        context, meter, found_ms = self._session.context, self._meter, self._record.eviction_ms
        evict = context.evict

        def timed() -> None:
            before, began_s = context.num_evictions, meter.mark()
            evict()
            if context.num_evictions > before:
                found_ms.append(1e3 * (meter.mark() - began_s))

        context.evict = timed  # type: ignore[method-assign]
