"""A stage of training: how long, how fast, which parts learn, and what each loss weighs. Plain data; any thread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import SettingsError
from models.training.attention_supervision import LOOKS

if TYPE_CHECKING:
    pass

PARTS = ("vision", "projector", "language")
"""The parts of a model that a stage may train or leave frozen."""


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """One stretch of training with one learning rate schedule."""

    name: str
    num_steps: int
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    final_share: float = 0.05
    """Learning rate at the end, as a share of the highest."""
    weight_decay: float = 0.05
    cells_weight: float = 0.3
    """Weight of the encoder's own objective: where is this cell, what is on it."""
    state_weight: float = 0.3
    """Weight of the language model's own objective: what is where, what moves, what has just happened."""
    history_weight: float = 0.3
    """Weight of what is asked of each visual token: what was there before, what the thing there does."""
    names_weight: float = 0.0
    """Weight of the encoder's objective on real things: what is on a cell called, and a picture's main thing."""
    language_weight: float = 1.0
    """0 trains the encoder and the projector alone."""
    answers_weight: float = 2.0
    """Weight of the answers to questions on forks."""
    pointing_weight: float = 0.0
    """Weight of where those answers look: one head is held to look at what they rest on."""
    matching_weight: float = 0.0
    """Weight of where colours, shapes and times in questions look: one head is held to look at where the same is."""
    carrying_weight: float = 0.0
    """Weight of where the ends of remarks look: one head is held to fetch the time shown before, piece by piece."""
    dating_weight: float = 0.0
    """Weight of where remarks' words look: one head is held to look at the time shown before."""
    telling_weight: float = 0.0
    """Weight of what an answer would take from the ends of remarks: the digits that they have fetched."""
    recalling_weight: float = 0.0
    """Weight of where visual tokens look: one head is held to look at what was on the same cell before."""
    decision_weight: float = 1.0
    vision_every: int = 1
    """The vision tower learns in each so-manieth step; in the others it is only looked through, at a third the cost."""
    trains: tuple[str, ...] = PARTS
    """Which of `PARTS` learn; the parameters of the others stay equal to the bit."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trains", tuple(self.trains))
        if not self.trains or not set(self.trains) <= set(PARTS):
            raise SettingsError(
                f"stage {self.name}, trains {list(self.trains)}: parts are {', '.join(PARTS)}; name at least one"
            )

    @property
    def looks(self) -> dict[str, float]:
        """Weights of the kinds of looks that are held at all, by name."""
        weights = {name: getattr(self, f"{name}_weight") for name in LOOKS}
        return {name: weight for name, weight in weights.items() if weight}

    def rate_at(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, cosine decay."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        share = (step - self.warmup_steps) / max(self.num_steps - self.warmup_steps, 1)
        return self.learning_rate * (
            self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * min(share, 1))) / 2
        )
