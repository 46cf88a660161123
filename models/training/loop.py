"""The optimisation loop: one model, one stage after the other, saved often, resumed to the step.

Runs in the training process alone. Batches come from `data.py`; what is trained in a stage is named by its `Stage`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from models.training.data import COLOURS, SHAPES, STATE_SIZES, UNSURE, TrainingScene
from models.training.examples import IGNORED
from models.vision import VisionSettings, encode_frames
from streaming.difffp import CellGrid

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration

MAX_SIDE_CELLS = 16


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
    language_weight: float = 1.0
    """0 trains the encoder and the projector alone."""
    decision_weight: float = 1.0
    vision_every: int = 1
    """The vision tower learns in each so-manieth step; in the others it is only looked through, at a third the cost."""

    def rate_at(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, cosine decay."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        share = (step - self.warmup_steps) / max(self.num_steps - self.warmup_steps, 1)
        return self.learning_rate * (
            self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * min(share, 1))) / 2
        )


class Heads(nn.Module):
    """Read a cell's place and content from its visual token, and the scene's state from a frame's last token.

    They make the encoder and the language model learn what remarks alone teach slowly; thrown away after training.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.cells = _Answers(hidden, (MAX_SIDE_CELLS, MAX_SIDE_CELLS, len(COLOURS), len(SHAPES)), (1.0, 1.0, 0.1, 0.1))
        self.states = _Answers(hidden, STATE_SIZES, (0.1, *[1.0] * (len(STATE_SIZES) - 1)))


class _Answers(nn.Module):
    """Several questions asked of one vector."""

    def __init__(self, hidden: int, sizes: Sequence[int], weight_of_none: Sequence[float]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        self._weight_of_none = tuple(weight_of_none)

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss over the questions. vectors: `[..., hidden]`; labels: int `[..., num_questions]`."""
        vectors = self.norm(vectors).flatten(0, -2)
        labels = labels.flatten(0, -2).long()
        losses = []
        for index, (head, weight_of_none) in enumerate(zip(self.heads, self._weight_of_none, strict=True)):
            asked = labels[:, index] != UNSURE
            if asked.any():
                logits = head(vectors[asked])
                weight = torch.ones_like(logits[0])
                weight[0] = weight_of_none
                losses.append(nn.functional.cross_entropy(logits, labels[asked, index], weight=weight))
        return torch.stack(losses).mean()


@dataclass(frozen=True, slots=True)
class Losses:
    """What one batch gave, for the log."""

    total: torch.Tensor
    cells: float
    state: float
    text: float
    decision: float
    decision_right: float
    """Balanced share of decisions on the right side of zero."""
    text_right: float


def batch_losses(
    model: VideoLlama3ForConditionalGeneration,
    heads: Heads,
    batch: Sequence[TrainingScene],
    stage: Stage,
    decision_ids: tuple[int, int],
    *,
    train_vision: bool = True,
) -> Losses:
    """Forward one batch. decision_ids: (im_start, stream_start)."""
    visual, cells_loss = _encode(model, heads, batch, train_vision)
    total = stage.cells_weight * cells_loss
    if not stage.language_weight:
        return Losses(total, cells_loss.item(), 0.0, 0.0, 0.0, 0.0, 0.0)
    embeddings, labels, weights = _embed(model, batch, visual)
    hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    asked = labels != IGNORED
    logits = model.lm_head(hidden[asked])
    target, weight = labels[asked], weights[asked]
    is_decision = (target == decision_ids[0]) | (target == decision_ids[1])
    loss = nn.functional.cross_entropy(logits, target, reduction="none") * weight
    decision = loss[is_decision].sum() / len(batch)
    text = loss[~is_decision].sum() / len(batch)
    state = heads.states(*_frame_ends(batch, hidden))
    total = total + stage.language_weight * text + stage.decision_weight * decision + stage.state_weight * state
    with torch.no_grad():
        chosen = logits.argmax(dim=-1) == target
        score = logits[:, decision_ids[0]] > logits[:, decision_ids[1]]
        right = score == (target == decision_ids[0])
        speak, silent = is_decision & (target == decision_ids[0]), is_decision & (target == decision_ids[1])
        balanced = [right[which].float().mean().item() for which in (speak, silent) if which.any()]
    return Losses(
        total,
        cells_loss.item(),
        state.item(),
        text.item(),
        decision.item(),
        float(np.mean(balanced)) if balanced else 0.0,
        chosen[~is_decision].float().mean().item() if (~is_decision).any() else 0.0,
    )


def _encode(
    model: VideoLlama3ForConditionalGeneration, heads: Heads, batch: Sequence[TrainingScene], train_vision: bool
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Visual tokens of each scene, `[num_frames * num_cells, hidden]`, and the encoder's own loss."""
    vision = VisionSettings()
    grids: dict[CellGrid, list[int]] = {}
    for index, scene in enumerate(batch):
        grids.setdefault(scene.stream.grid, []).append(index)
    visual: list[torch.Tensor] = [torch.empty(0)] * len(batch)
    losses = []
    for grid, members in grids.items():
        frames = torch.from_numpy(np.concatenate([batch[index].stream.frames for index in members]))
        tokens = encode_frames(model.model, vision.cut(frames, grid), grid, frozen=not train_vision)
        labels = torch.from_numpy(np.concatenate([batch[index].cell_labels for index in members]))
        losses.append(heads.cells(tokens, labels) * len(frames))
        sizes = [len(batch[index].stream.frames) for index in members]
        for index, part in zip(members, tokens.split(sizes), strict=True):
            visual[index] = part.flatten(0, 1)
    num_frames = sum(len(scene.stream.frames) for scene in batch)
    return visual, torch.stack(losses).sum() / num_frames


def _embed(
    model: VideoLlama3ForConditionalGeneration, batch: Sequence[TrainingScene], visual: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Padded on the right, so that the causal mask alone keeps the padding out."""
    image_id = model.config.image_token_id
    length = max(len(scene.stream.ids) for scene in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    labels = torch.full((len(batch), length), IGNORED, dtype=torch.long)
    weights = torch.zeros(len(batch), length)
    for row, scene in enumerate(batch):
        size = len(scene.stream.ids)
        ids[row, :size] = torch.from_numpy(scene.stream.ids)
        labels[row, :size] = torch.from_numpy(scene.stream.labels)
        weights[row, :size] = torch.from_numpy(scene.stream.weights)
    embeddings = model.model.language_model.embed_tokens(ids)
    picked = torch.cat(
        [tokens[torch.from_numpy(scene.stream.picks).long()] for tokens, scene in zip(visual, batch, strict=True)]
    )
    mask = (ids == image_id).unsqueeze(-1)
    return embeddings.masked_scatter(mask, picked), labels, weights


def _frame_ends(batch: Sequence[TrainingScene], hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The language model's vectors at the frames' last tokens, and the truth about each of those frames."""
    vectors = [hidden[row, torch.from_numpy(scene.stream.frame_ends).long()] for row, scene in enumerate(batch)]
    return torch.cat(vectors), torch.from_numpy(np.concatenate([scene.state_labels for scene in batch]))


class Trainer:
    """One stage's optimiser and bookkeeping in `folder`; `run` goes on from what was saved there."""

    def __init__(
        self, model: VideoLlama3ForConditionalGeneration, folder: Path, stage: Stage, decision_ids: tuple[int, int]
    ) -> None:
        self.model = model
        self.stage = stage
        self.folder = folder
        self.step = 0
        self._decision_ids = decision_ids
        self.heads = Heads(int(model.lm_head.in_features))
        self._optimiser = torch.optim.AdamW(_parameter_groups(model, self.heads, stage), betas=(0.9, 0.98))
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log.jsonl"
        self._state = folder / f"{stage.name}.state.pt"
        if self._state.is_file():
            self._load()
        elif (folder / "heads.pt").is_file():
            self.heads.load_state_dict(torch.load(folder / "heads.pt", weights_only=True))

    def run(
        self, batches: Iterator[Sequence[TrainingScene]], *, save_every: int = 100, stop_at_s: float | None = None
    ) -> bool:
        """Train until the stage's last step, or `stop_at_s` (monotonic clock). True when the stage is complete."""
        for batch in batches:
            if self.step >= self.stage.num_steps or (stop_at_s is not None and time.monotonic() > stop_at_s):
                break
            self._one_step(batch)
            if self.step % save_every == 0:
                self.save()
        self.save()
        return self.step >= self.stage.num_steps

    def _one_step(self, batch: Sequence[TrainingScene]) -> None:
        began = time.monotonic()
        rate = self.stage.rate_at(self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        train_vision = self.step % self.stage.vision_every == 0
        losses = batch_losses(self.model, self.heads, batch, self.stage, self._decision_ids, train_vision=train_vision)
        self._optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        self._optimiser.step()
        self.step += 1
        if self.step % 10 == 0 or self.step == 1:
            record = {
                "stage": self.stage.name,
                "step": self.step,
                "rate": rate,
                "loss": losses.total.item(),
                "cells": losses.cells,
                "state": losses.state,
                "text": losses.text,
                "decision": losses.decision,
                "decision_right": losses.decision_right,
                "text_right": losses.text_right,
                "step_s": time.monotonic() - began,
            }
            with self._log.open("a", encoding="utf-8") as log:
                log.write(
                    json.dumps({key: round(v, 5) if isinstance(v, float) else v for key, v in record.items()}) + "\n"
                )

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
        state = torch.load(self._state, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self._optimiser.load_state_dict(state["optimiser"])


def _parameter_groups(model: nn.Module, heads: nn.Module, stage: Stage) -> list[dict[str, object]]:
    """Matrices decay, vectors do not."""
    parameters = [p for p in [*model.parameters(), *heads.parameters()] if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": stage.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
