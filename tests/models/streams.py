"""Streams for tests of sessions: small pictures with something moving, and small windows."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from models.checkpoint.loader import Checkpoint
from models.checkpoint.settings import SpeakingSettings, StreamSettings
from models.engine import Engine
from models.eviction import WindowSettings
from models.network.rotary import rotate
from models.prompt import IMAGE_TOKEN
from models.session.results import Sight
from models.session.session import Session
from models.session.steps import Forward, Output, Reply, StepGenerator, Steps, as_steps
from models.session.token_sampling import Choice, TokenSampler
from models.session.tokenizer import StreamTokenizer
from streaming.types import Frame

T = TypeVar("T")

SIDE_PX = 112
"""Side of the pictures: four by four merged cells of 28 px."""


def small_settings(**changes: object) -> StreamSettings:
    """Settings with sixteen cells, one frame per second, and windows that fill within twenty frames."""
    values: dict[str, object] = {
        "max_cells": 16,
        "fps": 1.0,
        "window": WindowSettings(vision_low=512, vision_high=640, text_low=160, text_high=240),
        "speaking": SpeakingSettings(max_comment_tokens=6, max_answer_tokens=8),
    }
    return StreamSettings(**(values | changes))  # type: ignore[arg-type]


def picture(step: int, size_px: tuple[int, int] = (SIDE_PX, SIDE_PX), seed: int = 0) -> np.ndarray:
    """A textured background with a bright square at a place that depends on `step`; RGB uint8."""
    height, width = size_px
    image = np.random.default_rng(seed).integers(60, 120, (height, width, 3), dtype=np.uint8)
    top, left = (step * 23) % (height - 28), (step * 17) % (width - 28)
    image[top : top + 28, left : left + 28] = 230
    return image


def frame(image: np.ndarray, index: int, pts_s: float) -> Frame:
    return Frame(image=image, index=index, pts_s=pts_s, captured_at_s=0.0, source="test")


def moving(num_frames: int, *, start_s: float = 0.0, every_s: float = 1.0) -> Iterator[Frame]:
    """Frames with a square at another place in every frame."""
    for index in range(num_frames):
        yield frame(picture(index), index, start_s + index * every_s)


def watch(engine: Engine, session: Session, num_frames: int, *, start_s: float = 0.0, first: int = 0) -> list[Sight]:
    """Show `num_frames` pictures to the session, one per second."""
    numbers = range(first, first + num_frames)
    return [engine.run(session.see(frame(picture(index), index, start_s + index))) for index in numbers]


@as_steps
def noting(steps: Steps[T], outputs: list[Output]) -> StepGenerator[T]:
    """The same steps, with the result of each forward pass appended to `outputs`."""
    output: Reply = None
    while True:
        try:
            request = steps.send(output)
        except StopIteration as stop:
            return stop.value
        output = yield request
        if isinstance(output, Output):
            outputs.append(output)


class Script(TokenSampler):
    """A sampler that says the given texts, turn after turn, and ends every other turn at once."""

    def __init__(self, checkpoint: Checkpoint, *turns: str) -> None:
        super().__init__()
        self._codec = StreamTokenizer(checkpoint)
        self._end = checkpoint.special.im_end
        self._turns = [self._codec.encode(turn) for turn in turns]
        self._now: list[int] = []

    def choose(self, logits: torch.Tensor, said: Sequence[int], *, barred: Collection[int] = ()) -> Choice:
        if not said:
            self._now = self._turns.pop(0) if self._turns else []
        return Choice(self._now[len(said)] if len(said) < len(self._now) else self._end, -1.0)


def read(session: Session, checkpoint: Checkpoint) -> str:
    """The text of the session's memory, one `<image>` per picture."""
    assert checkpoint.tokenizer is not None
    text = str(checkpoint.tokenizer.decode([token for span in session.context.ledger for token in span.ids]))
    return re.sub(f"({IMAGE_TOKEN})+", IMAGE_TOKEN, text)


def recomputed(session: Session, checkpoint: Checkpoint) -> torch.Tensor:
    """Logits `[vocab]` at the end of the session's memory, from one plain forward pass of transformers."""
    with torch.inference_mode():
        parts = [session.context.embeddings(span) for span in session.context.ledger]
        return checkpoint.model(inputs_embeds=torch.cat(parts)[None]).logits[0, -1]


def last(session: Session) -> torch.Tensor:
    """Logits `[vocab]` that the session itself computed at the end of its memory."""
    assert session.context.last_logits is not None
    return session.context.last_logits[0]


def check_whole(session: Session) -> None:
    """Check that cache and ledger agree, and that every key is rotated for its position."""
    context = session.context
    assert context.cache.length == len(context.ledger)
    if context.cache.length:
        cos, sin = context.cache.rotary.span(0, context.cache.length)
        for layer in context.cache.layers:
            torch.testing.assert_close(layer.keys, rotate(layer.unrotated_keys, cos, sin), atol=1e-5, rtol=0)


def single(engine: Engine) -> Callable[[Forward], Output]:
    """The engine's forward pass for one request; raises the request's error."""
    forward = engine._forward

    def run(request: Forward) -> Output:
        (reply,) = forward([request])
        if isinstance(reply, Exception):
            raise reply
        assert isinstance(reply, Output)
        return reply

    return run


def each(run: Callable[[Forward], Output]) -> Callable[[Sequence[Forward]], list[Output]]:
    """A forward pass for many requests that runs them one by one, to be set as an engine's `_forward`."""
    return lambda requests: [run(request) for request in requests]
