"""Measure whether a checkpoint was trained to decide when to speak: the probability of its decision tokens after a
frame.

The published sources disagree on which token carries the decision, so both known formats are measured. Runs on the
engine's thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.prompt import STREAM_END, STREAM_START
from models.session.tokenizer import StreamTokenizer

if TYPE_CHECKING:
    from models.engine import Engine

TRAINED_MASS = 0.5
"""Least probability of the two decision tokens in a trained checkpoint. Trained weights give them 0.9 and more, other
weights 0.002."""


@dataclass(frozen=True, slots=True)
class DecisionMass:
    """Probability of `<|im_start|>` and `<|stream_start|>` together after a frame, mean over frames, 0 to 1."""

    live: float
    """In the format of live sessions and of the processor that ships with the weights: after `<|stream_end|>`, with
    times and without a newline."""
    training_code: float
    """In the format of the public training code: without times, with a newline after `<|stream_end|>`. The larger of
    the probabilities before and after that newline."""

    def problem(self) -> str | None:
        """The reason why live sessions cannot use the decision; `None` where they can."""
        if self.live >= TRAINED_MASS:
            return None
        rule = f"at least {TRAINED_MASS:g} shows a trained decision"
        if self.training_code >= TRAINED_MASS:
            return (
                f"the decision has {self.live:.4f} of the probability after a frame as live sessions word it ({rule}), "
                f"and {self.training_code:.4f} in the wording of the training code, which live sessions do not use"
            )
        most = max(self.live, self.training_code)
        return f"the decision has {most:.4f} of the probability after a frame; {rule}"


def decision_mass(engine: Engine, pictures: Iterable[tuple[float, np.ndarray]]) -> DecisionMass:
    """Feed (media time, uint8 RGB picture) pairs to two fresh sessions, one per format, and measure the mass after
    each."""
    codec = StreamTokenizer(engine.checkpoint)
    live, training_code = engine.open_session(), engine.open_session()
    plain_head = codec.encode(f"{STREAM_START}stream\n")
    plain_tail = codec.encode(f"\n{STREAM_END}\n")
    after_end = len(codec.encode("\n"))
    masses: list[tuple[float, float]] = []
    for time_s, picture in pictures:
        _, logits = engine.run(live.feed_picture(picture, codec.frame_head(time_s), codec.frame_tail))
        _, plain = engine.run(training_code.feed_picture(picture, plain_head, plain_tail))
        places = (plain[-1], plain[-1 - after_end])
        masses.append((_mass(engine, logits[-1]), max(_mass(engine, row) for row in places)))
    if not masses:
        return DecisionMass(0.0, 0.0)
    found = np.mean(masses, axis=0)
    return DecisionMass(live=float(found[0]), training_code=float(found[1]))


def _mass(engine: Engine, row: torch.Tensor) -> float:
    special = engine.checkpoint.special
    return float(row.float().softmax(-1)[[special.im_start, special.stream_start]].sum())
