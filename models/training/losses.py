"""Training losses: words, cells, histories, scene states, and attention of supervised heads.

Runs in the training process only.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from models.training.attention_supervision import (
    ATTENTION_KINDS,
    AttentionTargets,
    answering_depth,
    carrying,
    dating,
    matching,
    pointing,
    recalling,
    telling,
)
from models.training.aux_heads import AuxHeads
from models.training.cell_targets import UNSURE, Stills
from models.training.data import TrainingScene
from models.training.examples import IGNORED, StreamExample
from models.training.named_pictures import NamedPictures
from models.vision import VisionSettings
from models.vision_tower import early_features, encode_frames, finished_features, merged_features
from streaming.difffp.live import CellGrid

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration

    from models.training.stage import TrainingStage

Example = TrainingScene | Stills | NamedPictures
"""An element of a batch."""
_MASK_WEIGHT = 3.0
_OF_STILLS = 0.3
"""Weight of the names loss on pictures of shapes, relative to pictures of real things."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses and accuracies of one batch, for the log; NaN where the batch held nothing of the kind."""

    total: torch.Tensor
    cells: float = math.nan
    names: float = math.nan
    """Loss of the names of real things."""
    names_right: float = math.nan
    """Share of pictures whose main thing's group is right."""
    history: float = math.nan
    state: float = math.nan
    text: float = math.nan
    answers: float = math.nan
    """Loss of questions on forks."""
    decision: float = math.nan
    decision_right: float = math.nan
    """Balanced share of decisions on the right side of zero."""
    text_right: float = math.nan
    answers_right: float = math.nan
    pointing: float = math.nan
    """Attention loss of answers; the fields of the other `ATTENTION_KINDS` likewise."""
    matching: float = math.nan
    carrying: float = math.nan
    dating: float = math.nan
    telling: float = math.nan
    recalling: float = math.nan

    def as_dict(self) -> dict[str, float]:
        """Plain numbers by name; `loss` is the total."""
        plain = {item.name: float(getattr(self, item.name)) for item in fields(self) if item.name != "total"}
        return {"loss": self.total.item()} | plain


def batch_losses(
    model: VideoLlama3ForConditionalGeneration,
    heads: AuxHeads,
    batch: Sequence[Example],
    stage: TrainingStage,
    decision_ids: tuple[int, int],
    *,
    train_vision: bool = True,
    features: Features | None = None,
) -> Losses:
    """Run a batch forward, one example after the other; returns the mean of their losses.

    Examples are not padded: scenes differ in length, and on a CPU padding costs more than batching gains. decision_ids:
    (im_start, stream_start). features: cached outputs of a frozen vision tower.
    """
    each = []
    for example in batch:
        if isinstance(example, Stills):
            each.append(_still_losses(model, heads, example, stage))
        elif isinstance(example, NamedPictures):
            each.append(_named_losses(model, heads, example, stage))
        else:
            each.append(_scene_losses(model, heads, example, stage, decision_ids, train_vision, features))
    figures = [losses.as_dict() for losses in each]
    means = {key: mean_known([figure[key] for figure in figures]) for key in figures[0] if key != "loss"}
    return Losses(torch.stack([losses.total for losses in each]).mean(), **means)


def mean_known(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN; NaN where all are."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _scene_losses(
    model: VideoLlama3ForConditionalGeneration,
    heads: AuxHeads,
    scene: TrainingScene,
    stage: TrainingStage,
    decision_ids: tuple[int, int],
    train_vision: bool,
    features: Features | None,
) -> Losses:
    if len(scene.stream.frames) == 0:
        return _told_losses(model, scene, stage)
    visual, cells = _encode(model, heads, scene, train_vision, features)
    total = stage.cells_weight * cells
    if not stage.language_weight:
        return Losses(total, cells=cells.item())
    read = _read_stream(model, scene, visual, stage.attention_weights)
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
    asides, answers, answers_right = _asides_losses(model, read, scene, stage)
    total = total + asides + read.weighted_attention(stage)
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
        decision_right=mean_known(balanced),
        text_right=right[~is_decision].float().mean().item() if (~is_decision).any() else math.nan,
        answers_right=answers_right,
        **read.attention_for_log(),
    )


def _told_losses(model: VideoLlama3ForConditionalGeneration, scene: TrainingScene, stage: TrainingStage) -> Losses:
    """Losses of a scene without pictures: its questions on forks, and attention."""
    visual = torch.zeros(0, int(model.lm_head.in_features), device=model.device)
    read = _read_stream(model, scene, visual, stage.attention_weights)
    total, answers, right = _asides_losses(model, read, scene, stage)
    total = total + read.weighted_attention(stage)
    return Losses(total, answers=answers, answers_right=right, **read.attention_for_log())


def _asides_losses(
    model: VideoLlama3ForConditionalGeneration, read: _Read, scene: TrainingScene, stage: TrainingStage
) -> tuple[torch.Tensor, float, float]:
    """Losses of a scene's questions on forks: the weighted loss, the plain loss per question, the share of right
    tokens."""
    asides = scene.stream.asides
    if read.asides is None:
        return read.stream.sum() * 0.0, math.nan, math.nan
    loss, answered, _ = _word_losses(model, read.asides, asides.labels, asides.weights)
    total = stage.answers_weight * loss.sum()
    return total, loss.sum().item() / len(asides.after), answered.float().mean().item()


@dataclass(frozen=True, slots=True)
class _Read:
    """The language model's hidden states for one scene, `[length, hidden]` each."""

    stream: torch.Tensor
    early: torch.Tensor
    """After half of the layers, where histories are read, so that the later layers can build on them."""
    late: torch.Tensor
    """After two thirds of the layers, where the scene's state is read."""
    asides: torch.Tensor | None
    attention_losses: Mapping[str, torch.Tensor | None]
    """Attention losses by `ATTENTION_KINDS`; `None` where no token has a target."""

    def weighted_attention(self, stage: TrainingStage) -> torch.Tensor:
        """Sum of the attention losses, with the stage's weights."""
        total = self.stream.sum() * 0.0
        for name, loss in self.attention_losses.items():
            if loss is not None:
                total = total + stage.attention_weights[name] * loss
        return total

    def attention_for_log(self) -> dict[str, float]:
        """Each attention loss as a number; without those that were not measured or have no target."""
        return {name: loss.item() for name, loss in self.attention_losses.items() if loss is not None}


def asked_depths(num_layers: int) -> tuple[int, int]:
    """The numbers of layers after which visual tokens are asked for histories, and frames' last tokens for the scene's
    state."""
    return max(num_layers // 2, 1), max(answering_depth(num_layers), 1)


def _read_stream(
    model: VideoLlama3ForConditionalGeneration,
    scene: TrainingScene,
    visual: torch.Tensor,
    measured: Collection[str] = ATTENTION_KINDS,
) -> _Read:
    """Run the stream, and then all questions on forks of it in one pass over the stream's keys.

    measured: the `ATTENTION_KINDS` to compute; each needs memory for the square of the stream's length.
    """
    from transformers import DynamicCache

    language, stream, asides = model.model.language_model, scene.stream, scene.stream.asides
    cache = DynamicCache()
    made = language(
        inputs_embeds=_embed(model, stream.ids, visual),
        past_key_values=cache,
        use_cache=True,
        output_hidden_states=True,
    )
    early, late = (made.hidden_states[depth][0] for depth in asked_depths(len(language.layers)))
    positions = torch.arange(len(stream.ids), device=model.device)
    back = AttentionTargets(model, made.hidden_states, cache, len(stream.ids), positions)
    of_words = {"carrying": carrying, "dating": dating, "telling": telling}
    attention_losses = {name: loss(back, stream) for name, loss in of_words.items() if name in measured}
    if "recalling" in measured:
        attention_losses["recalling"] = recalling(back, stream, model.config.image_token_id)
    answered = None
    if len(asides.after):
        positions = _tensor(asides.positions, model)
        seen = _aside_mask(scene.stream)
        told = language(
            inputs_embeds=_embed(model, asides.ids, visual[:0]),
            past_key_values=cache,
            position_ids=positions[None],
            attention_mask={"full_attention": _tensor(seen, model)[None, None]},
            use_cache=True,
            output_hidden_states=True,
        )
        answered = told.last_hidden_state[0]
        back = AttentionTargets(model, told.hidden_states, cache, seen.shape[1], positions)
        if "pointing" in measured:
            attention_losses["pointing"] = pointing(back, asides, seen)
        if "matching" in measured:
            attention_losses["matching"] = matching(back, asides, seen)
    return _Read(made.last_hidden_state[0], early, late, answered, attention_losses)


def _aside_mask(stream: StreamExample) -> np.ndarray:
    """The positions that each token of the questions on forks may attend to: bool `[num_aside, num_stream +
    num_aside]`."""
    asides = stream.asides
    seen = np.arange(len(stream.ids))[None] <= asides.after[asides.numbers][:, None]
    order = np.arange(len(asides.ids))
    own = (asides.numbers[:, None] == asides.numbers[None]) & (order[None] <= order[:, None])
    return np.concatenate([seen, own], axis=1)


def _word_losses(
    model: VideoLlama3ForConditionalGeneration, hidden: torch.Tensor, labels: np.ndarray, weights: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weighted loss of each labelled position, whether its most likely token is right, and its label."""
    at = np.flatnonzero(labels != IGNORED)
    logits = model.lm_head(hidden[torch.from_numpy(at).to(hidden.device)])
    target = _tensor(labels[at], model).long()
    loss = nn.functional.cross_entropy(logits.float(), target, reduction="none") * _tensor(weights[at], model)
    return loss, logits.detach().argmax(dim=-1) == target, target


class Features:
    """Cache of a frozen vision tower's outputs: computed once per scene and kept in half precision."""

    def __init__(self, most_scenes: int = 8000) -> None:
        self._made: OrderedDict[tuple[int, int], torch.Tensor] = OrderedDict()
        self._most_scenes = most_scenes

    def of(
        self, model: VideoLlama3ForConditionalGeneration, key: tuple[int, int], frames: np.ndarray, grid: CellGrid
    ) -> torch.Tensor:
        """`[num_frames, num_cells, width]` for the pictures with this key: the scene's number, and the number of its
        set of pictures."""
        made = self._made.get(key)
        if made is None or key[0] < 0:
            patches = VisionSettings().cut(_tensor(frames, model), grid)
            with torch.no_grad():
                made = merged_features(model.model, patches, grid).to(torch.float16)
            self._made[key] = made
            if len(self._made) > self._most_scenes:
                self._made.popitem(last=False)
        return made.float()


def _named_losses(
    model: VideoLlama3ForConditionalGeneration, heads: AuxHeads, pictures: NamedPictures, stage: TrainingStage
) -> Losses:
    """The encoder's loss over pictures with real things: the name on each cell, and the name of the main thing."""
    assert heads.names is not None and heads.mains is not None, "a stage with named pictures has a names_weight"
    patches = VisionSettings().cut(_tensor(pictures.frames, model), pictures.grid)
    tokens = encode_frames(model.model, patches, pictures.grid)
    mains = _tensor(pictures.mains, model)
    pooled = pooled_over(tokens, _tensor(pictures.main_cells, model))
    names = heads.names(tokens, _tensor(pictures.cell_names, model)) + heads.mains(pooled, mains)
    known = mains[:, 0] != UNSURE
    right = (heads.mains.odds(pooled.detach())[0].argmax(dim=-1) == mains[:, 0])[known]
    return Losses(
        stage.names_weight * names,
        names=names.item(),
        names_right=right.float().mean().item() if len(right) else math.nan,
    )


def pooled_over(tokens: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Mean visual token of chosen cells, `[num_frames, h]`. tokens: `[num_frames, num_cells, h]`; cells: bool
    `[num_frames, num_cells]`."""
    shares = cells.to(tokens.dtype) / cells.sum(dim=1, keepdim=True).clamp_min(1)
    return (tokens * shares.unsqueeze(-1)).sum(dim=1)


def _still_losses(
    model: VideoLlama3ForConditionalGeneration, heads: AuxHeads, stills: Stills, stage: TrainingStage
) -> Losses:
    """The encoder's losses over a group of still lifes: the content of each cell and, early in the tower, the masks of
    things.

    Where names are asked, the right answer for still lifes is that nothing has a name.
    """
    patches = VisionSettings().cut(_tensor(stills.frames, model), stills.grid)
    num_early = max(len(model.model.vision_model.encoder.layers) // 2, 1)
    early = early_features(model.model, patches, stills.grid, num_early)
    tokens = model.model.projector(finished_features(model.model, early, stills.grid, num_early))
    masks = _tensor(stills.masks, model)
    known = masks != UNSURE
    mask_loss = nn.functional.binary_cross_entropy_with_logits(heads.masks(early)[known], masks[known].float())
    cells_loss: torch.Tensor = heads.cells(tokens, _tensor(stills.cell_labels, model))
    cells = cells_loss + _MASK_WEIGHT * mask_loss if known.any() else cells_loss
    total = stage.cells_weight * cells
    if stage.names_weight and heads.names is not None:
        nothing = torch.where(_tensor(stills.cell_labels, model)[..., 2:4] == UNSURE, UNSURE, 0)
        total = total + stage.names_weight * _OF_STILLS * heads.names(tokens, nothing)
    return Losses(total, cells=cells.item())


def _encode(
    model: VideoLlama3ForConditionalGeneration,
    heads: AuxHeads,
    scene: TrainingScene,
    train_vision: bool,
    features: Features | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scene's visual tokens, `[num_visual, hidden]`, and the encoder's own loss."""
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
    """`[1, length, hidden]`: embeddings, with visual tokens in place of their ids."""
    tokens = _tensor(ids, model).long()[None]
    embeddings = model.model.language_model.embed_tokens(tokens)
    mask = (tokens == model.config.image_token_id).unsqueeze(-1)
    replaced: torch.Tensor = embeddings.masked_scatter(mask, visual.to(embeddings.dtype))
    return replaced


def _tensor(values: np.ndarray, model: VideoLlama3ForConditionalGeneration) -> torch.Tensor:
    """An array as a tensor on the model's device."""
    return torch.from_numpy(values).to(model.device)
