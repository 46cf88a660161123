"""A stage of training: its length, its learning rate, the parts it trains, and the weight of each loss. Plain data; any
thread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import SettingsError
from models.training.attention_supervision import ATTENTION_KINDS

if TYPE_CHECKING:
    pass

PARTS = ("vision", "projector", "language")
"""The parts of a model that a stage may train or freeze."""


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """A section of training with one learning rate schedule."""

    name: str
    num_steps: int
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    final_share: float = 0.05
    """Learning rate at the end, as a share of the highest."""
    weight_decay: float = 0.05
    cells_weight: float = 0.3
    """Weight of the encoder's auxiliary loss: which cell this is, and what is on it."""
    state_weight: float = 0.3
    """Weight of the language model's auxiliary loss: what is where, what moves, what has just happened."""
    history_weight: float = 0.3
    """Weight of the history loss of each visual token: what was there before, and what the thing there is doing."""
    names_weight: float = 0.0
    """Weight of the encoder's loss on real things: the name on a cell, and the name of a picture's main thing."""
    language_weight: float = 1.0
    """Weight of the loss of words; 0 trains the encoder and the projector only."""
    answers_weight: float = 2.0
    """Weight of the answers to questions on forks."""
    pointing_weight: float = 0.0
    """Weight of the attention loss of those answers: one head is supervised to attend to their evidence."""
    matching_weight: float = 0.0
    """Weight of the attention loss of colours, shapes and times in questions: one head is supervised to attend to the
    same word or thing."""
    carrying_weight: float = 0.0
    """Weight of the attention loss of remarks' last tokens: one head is supervised to fetch the time shown before,
    token by token."""
    dating_weight: float = 0.0
    """Weight of the attention loss of remarks' words: one head is supervised to attend to the time shown before."""
    telling_weight: float = 0.0
    """Weight of the loss of the digits that remarks' last tokens have fetched, as an answer would read them."""
    recalling_weight: float = 0.0
    """Weight of the attention loss of visual tokens: one head is supervised to attend to the same cell's previous
    token."""
    decision_weight: float = 1.0
    vision_every: int = 1
    """Train the vision tower every n-th step; other steps only run it forward, at a third of the cost."""
    trains: tuple[str, ...] = PARTS
    """The members of `PARTS` to train; the parameters of the others stay bit-identical."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trains", tuple(self.trains))
        if not self.trains or not set(self.trains) <= set(PARTS):
            raise SettingsError(
                f"stage {self.name}, trains {list(self.trains)}: parts are {', '.join(PARTS)}; name at least one"
            )

    @property
    def attention_weights(self) -> dict[str, float]:
        """Weights of the attention losses that are in use, by name."""
        weights = {name: getattr(self, f"{name}_weight") for name in ATTENTION_KINDS}
        return {name: weight for name, weight in weights.items() if weight}

    def rate_at(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then cosine decay."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        share = (step - self.warmup_steps) / max(self.num_steps - self.warmup_steps, 1)
        return self.learning_rate * (
            self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * min(share, 1))) / 2
        )
