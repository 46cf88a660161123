"""The optimisation loop: one model, one stage after the other, saved often, resumed to the step.

Runs in the training process alone. Batches come from `data.py`; what is trained in a stage is named by its `Stage`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.errors import SettingsError
from models.training.data import TrainingScene
from models.training.heads import Heads
from models.training.looks import LOOKS
from models.training.losses import Example, Features, Losses, batch_losses, mean_known
from models.training.packed import Row, packed_losses

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration
PARTS = ("vision", "projector", "language")
"""The parts of a model that a stage may train or leave frozen."""
MOST_PAIRS = 90_000_000
"""Rows laid together times the square of the longest: an eighth of a gigabyte for each tensor of pairs of tokens."""

_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""All but cuDNN's, which plans anew for each shape: batches hardly repeat one, and steps took over twice the time."""


@dataclass(frozen=True, slots=True)
class Stage:
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


class Trainer:
    """One stage's optimiser and bookkeeping in `folder`; `run` goes on from what was saved there.

    bf16: products in bfloat16, weights and sums in float32. packed: scenes of like length in one pass, as
    is done on GPUs unless told otherwise, in place of one after the other.
    """

    def __init__(
        self,
        model: VideoLlama3ForConditionalGeneration,
        folder: Path,
        stage: Stage,
        decision_ids: tuple[int, int],
        *,
        bf16: bool = False,
        packed: bool | None = None,
    ) -> None:
        self.model = model
        self._packed = model.device.type == "cuda" if packed is None else packed
        self._bf16 = bf16
        self.stage = stage
        self.folder = folder
        self.step = 0
        self._decision_ids = decision_ids
        self.heads = Heads.of(model, named=stage.names_weight > 0).to(model.device)
        freeze(model, stage.trains)
        self._optimiser = torch.optim.AdamW(_parameter_groups(model, self.heads, stage), betas=(0.9, 0.98))
        self._features = Features()
        self._recent: list[dict[str, float]] = []
        self._recent_s: list[float] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log.jsonl"
        self._state = folder / f"{stage.name}.state.pt"
        if self._state.is_file():
            self._load()
        elif (folder / "heads.pt").is_file():
            self.heads.load_known(torch.load(folder / "heads.pt", map_location=model.device, weights_only=True))

    def run(
        self,
        batches: Iterator[Sequence[Example]],
        *,
        save_every: int = 100,
        stop_at_s: float | None = None,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
    ) -> bool:
        """Train until the stage's last step, or `stop_at_s` (monotonic clock). True when the stage is complete.

        on_step: told the number of steps done and the last one's loss.
        """
        for batch in batches:
            if self.step >= self.stage.num_steps or (stop_at_s is not None and time.monotonic() > stop_at_s):
                break
            loss = self._one_step(batch)
            on_step(self.step, loss)
            if self.step % save_every == 0:
                self.save()
        self.save()
        return self.step >= self.stage.num_steps

    def _one_step(self, batch: Sequence[Example]) -> float:
        """One update; gives the loss before it."""
        began = time.monotonic()
        rate = self.stage.rate_at(self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        frozen = "vision" not in self.stage.trains
        train_vision = not frozen and self.step % self.stage.vision_every == 0
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for together in self._groups(batch):
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._bf16), sdpa_kernel(_ATTENTION):
                losses = self._losses(together, train_vision, self._features if frozen else None)
            share = len(together) / len(batch)
            (losses.total * share).backward()
            self._recent.append(losses.as_dict())
            total += losses.total.item() * share
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        self._optimiser.step()
        self.step += 1
        self._recent_s.append(time.monotonic() - began)
        if self.step % 10 == 0 or self.step == 1:
            self._write_log(rate)
        return total

    def _groups(self, batch: Sequence[Example]) -> Iterator[Sequence[Any]]:
        """What goes through the model together: one by one, or scenes of like length as far as memory allows."""
        if not self._packed:
            yield from ([item] for item in batch)
            return
        scenes = [item for item in batch if isinstance(item, TrainingScene)]
        yield from ([item] for item in batch if not isinstance(item, TrainingScene))
        image = int(self.model.config.image_token_id)
        rows = sorted((Row.of(scene, image, self._decision_ids, self.stage.looks) for scene in scenes), key=len)
        group: list[Row] = []
        for row in rows:
            if group and (len(group) + 1) * len(row) ** 2 > MOST_PAIRS:
                yield group
                group = []
            group.append(row)
        if group:
            yield group

    def _losses(self, group: Sequence[Any], train_vision: bool, features: Features | None) -> Losses:
        if isinstance(group[0], Row):
            return packed_losses(
                self.model, self.heads, group, self.stage, self._decision_ids, train_vision=train_vision
            )
        return batch_losses(
            self.model,
            self.heads,
            group,
            self.stage,
            self._decision_ids,
            train_vision=train_vision,
            features=features,
        )

    def _write_log(self, rate: float) -> None:
        """One line on what the steps since the last line gave, on average."""
        record: dict[str, object] = {"stage": self.stage.name, "step": self.step, "rate": round(rate, 7)}
        for key in self._recent[0]:
            value = mean_known([losses[key] for losses in self._recent])
            record[key] = None if math.isnan(value) else round(value, 5)
        record["step_s"] = round(float(np.mean(self._recent_s)), 3)
        self._recent, self._recent_s = [], []
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

    def save(self) -> None:
        """Write weights, heads and optimiser; each file is renamed into place."""
        self.model.save_pretrained(self.folder / "model")
        torch.save(self.heads.state_dict(), self.folder / "heads.pt")
        partial = self._state.with_suffix(".partial")
        torch.save(
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "heads": self.heads.state_dict(),
                "optimiser": self._optimiser.state_dict(),
            },
            partial,
        )
        partial.replace(self._state)

    def _load(self) -> None:
        state = torch.load(self._state, map_location=self.model.device, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self._optimiser.load_state_dict(state["optimiser"])


def part_of(name: str) -> str:
    """Which of `PARTS` a parameter of `VideoLlama3ForConditionalGeneration` belongs to, by its name.

    >>> part_of("model.projector.readout.0.weight"), part_of("lm_head.weight")
    ('projector', 'language')
    """
    if name.startswith("model.vision_model."):
        return "vision"
    return "projector" if name.startswith("model.projector.") else "language"


def freeze(model: nn.Module, trains: Sequence[str]) -> None:
    """Let the named parts learn and nothing else."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in trains)


def _parameter_groups(model: nn.Module, heads: nn.Module, stage: Stage) -> list[dict[str, object]]:
    """Matrices decay, vectors do not."""
    parameters = [p for p in [*model.parameters(), *heads.parameters()] if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": stage.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
