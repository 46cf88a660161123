"""The optimisation loop: one model, one stage after the other, saved often, resumed to the step.

Runs in the training process alone. Batches come from `data.py`; what is trained in a stage is named by its `Stage`.
"""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from models.errors import SettingsError
from models.training.data import STATE_SIZES, TrainingScene
from models.training.examples import IGNORED, StreamExample
from models.training.history import HISTORY_SIZES
from models.training.sight import CELL_SIZES, MASK_SIDE, UNSURE, Stills
from models.vision import VisionSettings, early_features, encode_frames, finished_features, merged_features
from streaming.difffp import CellGrid

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration

_CELL_WEIGHTS = (0.5, 0.5, 1.5, 4.0, 0.5, 0.5, 0.3, 0.5, 0.5, 1.0, 1.0)
"""Weights of the questions about a cell. Shape is learnt last by far: it is drowned by the others otherwise."""
_MASK_WEIGHT = 3.0
PARTS = ("vision", "projector", "language")
"""The parts of a model that a stage may train or leave frozen."""


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
    language_weight: float = 1.0
    """0 trains the encoder and the projector alone."""
    answers_weight: float = 2.0
    """Weight of the answers to questions on forks."""
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

    Halfway up the language model each visual token is asked for its history, too. They make the encoder and the
    language model learn what remarks alone teach slowly; thrown away after training.
    The masks of things, asked of the patches halfway up the tower, are what forms are then told by.
    """

    def __init__(self, hidden: int, vision_hidden: int) -> None:
        super().__init__()
        self.masks = nn.Sequential(nn.LayerNorm(vision_hidden), nn.Linear(vision_hidden, MASK_SIDE**2))
        num_others = len(STATE_SIZES) - 1
        self.cells = _Answers(hidden, CELL_SIZES, _CELL_WEIGHTS, (1.0, 1.0, 0.2, 0.2, *[1.0] * 7))
        self.histories = _Answers(hidden, HISTORY_SIZES, (1.5, 1.0, 1.0, 1.5), (0.3, 0.3, 0.5, 0.2))
        self.states = _Answers(hidden, STATE_SIZES, (1.0,) * (num_others + 1), (0.1, *[1.0] * num_others))


class _Answers(nn.Module):
    """Several questions asked of one vector."""

    def __init__(
        self, hidden: int, sizes: Sequence[int], weights: Sequence[float], weight_of_none: Sequence[float]
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        self._weights = tuple(weights)
        self._weight_of_none = tuple(weight_of_none)

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Weighted loss over the questions. vectors: `[..., hidden]`; labels: int `[..., num_questions]`."""
        vectors = self.norm(vectors).flatten(0, -2)
        labels = labels.flatten(0, -2).long()
        total = vectors.sum() * 0.0
        for index, head in enumerate(self.heads):
            asked = labels[:, index] != UNSURE
            if asked.any():
                logits = head(vectors[asked])
                weight = torch.ones_like(logits[0])
                weight[0] = self._weight_of_none[index]
                loss = nn.functional.cross_entropy(logits, labels[asked, index], weight=weight)
                total = total + self._weights[index] * loss
        return total / sum(self._weights)


@dataclass(frozen=True, slots=True)
class Losses:
    """What one batch gave, for the log; not a number where it held nothing of the kind."""

    total: torch.Tensor
    cells: float = math.nan
    history: float = math.nan
    state: float = math.nan
    text: float = math.nan
    answers: float = math.nan
    """Of questions on forks."""
    decision: float = math.nan
    decision_right: float = math.nan
    """Balanced share of decisions on the right side of zero."""
    text_right: float = math.nan
    answers_right: float = math.nan

    def as_dict(self) -> dict[str, float]:
        """Plain numbers by name; `loss` is the total."""
        plain = {item.name: float(getattr(self, item.name)) for item in fields(self) if item.name != "total"}
        return {"loss": self.total.item()} | plain


def batch_losses(
    model: VideoLlama3ForConditionalGeneration,
    heads: Heads,
    batch: Sequence[TrainingScene | Stills],
    stage: Stage,
    decision_ids: tuple[int, int],
    *,
    train_vision: bool = True,
    features: Features | None = None,
) -> Losses:
    """Forward a batch, one example after the other; the mean of their losses.

    Scenes differ in length, and what padding would cost is more than a batch gains on a processor.
    decision_ids: (im_start, stream_start). features: what a frozen tower made before.
    """
    each = []
    for example in batch:
        if isinstance(example, Stills):
            cells = _still_loss(model, heads, example)
            each.append(Losses(stage.cells_weight * cells, cells=cells.item()))
        else:
            each.append(_scene_losses(model, heads, example, stage, decision_ids, train_vision, features))
    figures = [losses.as_dict() for losses in each]
    means = {key: _mean([figure[key] for figure in figures]) for key in figures[0] if key != "loss"}
    return Losses(torch.stack([losses.total for losses in each]).mean(), **means)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _scene_losses(
    model: VideoLlama3ForConditionalGeneration,
    heads: Heads,
    scene: TrainingScene,
    stage: Stage,
    decision_ids: tuple[int, int],
    train_vision: bool,
    features: Features | None,
) -> Losses:
    visual, cells = _encode(model, heads, scene, train_vision, features)
    total = stage.cells_weight * cells
    if not stage.language_weight:
        return Losses(total, cells=cells.item())
    read = _read_stream(model, scene, visual, with_asides=len(scene.stream.asides.after) > 0)
    stream = scene.stream
    loss, right, target = _word_losses(model, read.stream, stream.labels, stream.weights)
    is_decision = (target == decision_ids[0]) | (target == decision_ids[1])
    decision, text = loss[is_decision].sum(), loss[~is_decision].sum()
    early, late = read.early, read.late
    image_at = torch.from_numpy(np.flatnonzero(stream.ids == model.config.image_token_id)[: len(stream.picks)])
    history = heads.histories(early[image_at.to(early.device)], _tensor(scene.token_labels, model))
    ends = _tensor(stream.frame_ends, model).long()
    state = heads.states(late[ends], _tensor(scene.state_labels, model))
    total = total + stage.language_weight * text + stage.decision_weight * decision
    total = total + stage.state_weight * state + stage.history_weight * history
    answers, answers_right = math.nan, math.nan
    if read.asides is not None:
        answer_loss, answered, _ = _word_losses(model, read.asides, stream.asides.labels, stream.asides.weights)
        total = total + stage.answers_weight * answer_loss.sum()
        answers, answers_right = answer_loss.sum().item(), answered.float().mean().item()
    speak, silent = is_decision & (target == decision_ids[0]), is_decision & (target == decision_ids[1])
    balanced = [right[which].float().mean().item() for which in (speak, silent) if which.any()]
    return Losses(
        total,
        cells=cells.item(),
        history=history.item(),
        state=state.item(),
        text=text.item(),
        answers=answers,
        decision=decision.item(),
        decision_right=_mean(balanced),
        text_right=right[~is_decision].float().mean().item() if (~is_decision).any() else math.nan,
        answers_right=answers_right,
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """The language model's vectors for one scene, `[length, hidden]` each."""

    stream: torch.Tensor
    early: torch.Tensor
    """After half of the layers: what was where is to be known here, so that the others can build on it."""
    late: torch.Tensor
    """After two thirds of the layers: what has just happened is to be known here."""
    asides: torch.Tensor | None


def _read_stream(
    model: VideoLlama3ForConditionalGeneration, scene: TrainingScene, visual: torch.Tensor, *, with_asides: bool
) -> _Read:
    """Read the stream, and then all questions put on forks of it in one pass over its keys."""
    from transformers import DynamicCache

    language, stream, asides = model.model.language_model, scene.stream, scene.stream.asides
    num_layers = len(language.layers)
    cache = DynamicCache() if with_asides else None
    made = language(
        inputs_embeds=_embed(model, stream.ids, visual),
        past_key_values=cache,
        use_cache=with_asides,
        output_hidden_states=True,
    )
    early, late = (made.hidden_states[depth][0] for depth in (max(num_layers // 2, 1), max(2 * num_layers // 3, 1)))
    answered = None
    if with_asides:
        starts = np.flatnonzero(np.diff(asides.numbers, prepend=-1))
        own = np.arange(len(asides.ids)) - starts[asides.numbers]
        positions = _tensor(asides.after[asides.numbers] + 1 + own, model).long()
        answered = language(
            inputs_embeds=_embed(model, asides.ids, visual[:0]),
            past_key_values=cache,
            position_ids=positions[None],
            attention_mask={"full_attention": _tensor(_aside_mask(scene.stream), model)[None, None]},
            use_cache=True,
        ).last_hidden_state[0]
    return _Read(made.last_hidden_state[0], early, late, answered)


def _aside_mask(stream: StreamExample) -> np.ndarray:
    """Which positions each token of the questions on forks sees: bool `[num_aside, num_stream + num_aside]`."""
    asides = stream.asides
    seen = np.arange(len(stream.ids))[None] <= asides.after[asides.numbers][:, None]
    order = np.arange(len(asides.ids))
    own = (asides.numbers[:, None] == asides.numbers[None]) & (order[None] <= order[:, None])
    return np.concatenate([seen, own], axis=1)


def _word_losses(
    model: VideoLlama3ForConditionalGeneration, hidden: torch.Tensor, labels: np.ndarray, weights: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weighted loss of each labelled position, whether its likeliest token is right, and its label."""
    at = np.flatnonzero(labels != IGNORED)
    logits = model.lm_head(hidden[torch.from_numpy(at).to(hidden.device)])
    target = _tensor(labels[at], model).long()
    loss = nn.functional.cross_entropy(logits.float(), target, reduction="none") * _tensor(weights[at], model)
    return loss, logits.detach().argmax(dim=-1) == target, target


class Features:
    """What a frozen vision tower makes of the frames of scenes, made once a scene and kept in half precision."""

    def __init__(self, most_scenes: int = 8000) -> None:
        self._made: OrderedDict[tuple[int, int], torch.Tensor] = OrderedDict()
        self._most_scenes = most_scenes

    def of(
        self, model: VideoLlama3ForConditionalGeneration, key: tuple[int, int], frames: np.ndarray, grid: CellGrid
    ) -> torch.Tensor:
        """`[num_frames, num_cells, width]` for the pictures with this key: a scene's number and which of its sets."""
        made = self._made.get(key)
        if made is None or key[0] < 0:
            patches = VisionSettings().cut(_tensor(frames, model), grid)
            with torch.no_grad():
                made = merged_features(model.model, patches, grid).to(torch.float16)
            self._made[key] = made
            if len(self._made) > self._most_scenes:
                self._made.popitem(last=False)
        return made.float()


def _still_loss(model: VideoLlama3ForConditionalGeneration, heads: Heads, stills: Stills) -> torch.Tensor:
    """The encoder's own loss over a group of still lifes: what is on each cell, and early on where things are."""
    patches = VisionSettings().cut(_tensor(stills.frames, model), stills.grid)
    num_early = max(len(model.model.vision_model.encoder.layers) // 2, 1)
    early = early_features(model.model, patches, stills.grid, num_early)
    tokens = model.model.projector(finished_features(model.model, early, stills.grid, num_early))
    masks = _tensor(stills.masks, model)
    known = masks != UNSURE
    mask_loss = nn.functional.binary_cross_entropy_with_logits(heads.masks(early)[known], masks[known].float())
    cells_loss: torch.Tensor = heads.cells(tokens, _tensor(stills.cell_labels, model))
    return cells_loss + _MASK_WEIGHT * mask_loss if known.any() else cells_loss


def _encode(
    model: VideoLlama3ForConditionalGeneration,
    heads: Heads,
    scene: TrainingScene,
    train_vision: bool,
    features: Features | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The visual tokens that the scene picks, `[num_visual, hidden]`, and the encoder's own loss."""
    stream = scene.stream
    sets = [(stream.frames, stream.grid, stream.picks)]
    sets += [(pictures.frames, pictures.grid, pictures.picks) for pictures in stream.attached]
    picked, cells = [], None
    for place, (frames, grid, picks) in enumerate(sets):
        if features is not None and not train_vision:
            tokens = model.model.projector(features.of(model, (scene.number, place), frames, grid))
        else:
            patches = VisionSettings().cut(_tensor(frames, model), grid)
            tokens = encode_frames(model.model, patches, grid, frozen=not train_vision)
        if place == 0:
            cells = heads.cells(tokens, _tensor(scene.cell_labels, model))
        picked.append(tokens.flatten(0, 1)[_tensor(picks, model).long()])
    assert cells is not None
    return torch.cat(picked), cells


def _embed(model: VideoLlama3ForConditionalGeneration, ids: np.ndarray, visual: torch.Tensor) -> torch.Tensor:
    """`[1, length, hidden]`, the visual tokens where their ids stand."""
    tokens = _tensor(ids, model).long()[None]
    embeddings = model.model.language_model.embed_tokens(tokens)
    mask = (tokens == model.config.image_token_id).unsqueeze(-1)
    return embeddings.masked_scatter(mask, visual.to(embeddings.dtype))


def _vision_width(model: VideoLlama3ForConditionalGeneration) -> int:
    return int(model.model.vision_model.post_layernorm.weight.shape[0])


def _tensor(values: np.ndarray, model: VideoLlama3ForConditionalGeneration) -> torch.Tensor:
    """An array where the model is."""
    return torch.from_numpy(values).to(model.device)


class Trainer:
    """One stage's optimiser and bookkeeping in `folder`; `run` goes on from what was saved there.

    bf16: products in bfloat16, weights and sums in float32.
    """

    def __init__(
        self,
        model: VideoLlama3ForConditionalGeneration,
        folder: Path,
        stage: Stage,
        decision_ids: tuple[int, int],
        *,
        bf16: bool = False,
    ) -> None:
        self.model = model
        self._bf16 = bf16
        self.stage = stage
        self.folder = folder
        self.step = 0
        self._decision_ids = decision_ids
        self.heads = Heads(int(model.lm_head.in_features), _vision_width(model)).to(model.device)
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
            self.heads.load_state_dict(torch.load(folder / "heads.pt", map_location=model.device, weights_only=True))

    def run(
        self,
        batches: Iterator[Sequence[TrainingScene | Stills]],
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

    def _one_step(self, batch: Sequence[TrainingScene | Stills]) -> float:
        """One update; gives the loss before it."""
        began = time.monotonic()
        rate = self.stage.rate_at(self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        frozen = "vision" not in self.stage.trains
        train_vision = not frozen and self.step % self.stage.vision_every == 0
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for item in batch:
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._bf16):
                losses = batch_losses(
                    self.model,
                    self.heads,
                    [item],
                    self.stage,
                    self._decision_ids,
                    train_vision=train_vision,
                    features=self._features if frozen else None,
                )
            (losses.total / len(batch)).backward()
            self._recent.append(losses.as_dict())
            total += losses.total.item() / len(batch)
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        self._optimiser.step()
        self.step += 1
        self._recent_s.append(time.monotonic() - began)
        if self.step % 10 == 0 or self.step == 1:
            self._write_log(rate)
        return total

    def _write_log(self, rate: float) -> None:
        """One line on what the steps since the last line gave, on average."""
        record: dict[str, object] = {"stage": self.stage.name, "step": self.step, "rate": round(rate, 7)}
        for key in self._recent[0]:
            value = _mean([losses[key] for losses in self._recent])
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
