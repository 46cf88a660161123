"""The optimisation loop: trains one model through one stage, saves often, and resumes at the exact step.

Runs in the training process only. Batches come from `data.py`; a `TrainingStage` says what is trained, and for how
long.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.training.aux_heads import AuxHeads
from models.training.data import TrainingScene
from models.training.losses import Example, Features, Losses, batch_losses, mean_known
from models.training.packed import PackedRow, packed_losses
from models.training.stage import TrainingStage

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration
MOST_PAIRS = 90_000_000
"""Most rows of a packed pass times the square of the longest row: 1/8 GB for each tensor of token pairs."""

_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""All backends but cuDNN's, which plans anew for each shape: batches rarely repeat a shape, and steps took over twice
as long."""


class Trainer:
    """One stage's optimiser and bookkeeping in `folder`; `run` continues from what was saved there.

    bf16: products in bfloat16, weights and sums in float32. packed: scenes of similar length in one pass instead of one
    after the other; the default on GPUs.
    """

    def __init__(
        self,
        model: VideoLlama3ForConditionalGeneration,
        folder: Path,
        stage: TrainingStage,
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
        self.heads = AuxHeads.of(model, named=stage.names_weight > 0).to(model.device)
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
        """Train until the stage's last step or `stop_at_s` (monotonic clock); returns whether the stage is complete.

        on_step: called with the number of steps done and the last step's loss.
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
        """Do one update; returns the loss before it."""
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
        """The groups of examples that go through the model together: single ones, or scenes of similar length as far as
        memory allows."""
        if not self._packed:
            yield from ([item] for item in batch)
            return
        scenes = [item for item in batch if isinstance(item, TrainingScene)]
        yield from ([item] for item in batch if not isinstance(item, TrainingScene))
        image = int(self.model.config.image_token_id)
        rows = sorted(
            (PackedRow.of(scene, image, self._decision_ids, self.stage.attention_weights) for scene in scenes), key=len
        )
        group: list[PackedRow] = []
        for row in rows:
            if group and (len(group) + 1) * len(row) ** 2 > MOST_PAIRS:
                yield group
                group = []
            group.append(row)
        if group:
            yield group

    def _losses(self, group: Sequence[Any], train_vision: bool, features: Features | None) -> Losses:
        if isinstance(group[0], PackedRow):
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
        """Write one line with averages over the steps since the last line."""
        record: dict[str, object] = {"stage": self.stage.name, "step": self.step, "rate": round(rate, 7)}
        for key in self._recent[0]:
            value = mean_known([losses[key] for losses in self._recent])
            record[key] = None if math.isnan(value) else round(value, 5)
        record["step_s"] = round(float(np.mean(self._recent_s)), 3)
        self._recent, self._recent_s = [], []
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

    def save(self) -> None:
        """Write weights, heads and optimiser; each file is written completely before it is renamed to its final
        name."""
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
    """The member of `PARTS` that a parameter of `VideoLlama3ForConditionalGeneration` belongs to, by its name.

    >>> part_of("model.projector.readout.0.weight"), part_of("lm_head.weight")
    ('projector', 'language')
    """
    if name.startswith("model.vision_model."):
        return "vision"
    return "projector" if name.startswith("model.projector.") else "language"


def freeze(model: nn.Module, trains: Sequence[str]) -> None:
    """Make the named parts trainable and all others frozen."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in trains)


def _parameter_groups(model: nn.Module, heads: nn.Module, stage: TrainingStage) -> list[dict[str, object]]:
    """Parameter groups of the optimiser: weight decay for matrices, none for vectors."""
    parameters = [p for p in [*model.parameters(), *heads.parameters()] if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": stage.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
