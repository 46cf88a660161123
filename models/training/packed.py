"""Many scenes in one pass, for GPUs: the losses of `losses.batch_losses` up to rounding, in a few large products.

Each scene is a row: its stream, then the questions on forks of it, with a mask under which each token sees what a
session would. Rows are padded to the longest; on a CPU, which gains nothing from large products, padding would cost
more than it saves. Runs in the training process; `PackedRow.of` in data workers, too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.training.attention_supervision import (
    ATTENTION_KINDS,
    answering_depth,
    recalled,
    supervised_head,
    telling_logits,
    told_digits,
)
from models.training.aux_heads import AuxHeads
from models.training.data import TrainingScene
from models.training.examples import IGNORED, StreamExample
from models.training.losses import Losses, asked_depths
from models.vision import VisionSettings
from models.vision_tower import encode_frames
from streaming.difffp.live import CellGrid

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration

    from models.training.stage import TrainingStage

_LENGTH_STEP = 64
"""Rows are padded to a multiple of this many tokens, which fast attention requires."""
_STREAM, _PADDING = -1, -2
_TEXT, _DECISION, _ANSWER = range(3)


@dataclass(frozen=True, slots=True)
class PackedRow:
    """One scene, prepared for a batch: its tokens, its labels, and its attention targets."""

    scene: TrainingScene
    ids: np.ndarray
    """int64 `[length]`: the stream, then the questions on forks."""
    owners: np.ndarray
    """int64 `[length]`: −1 in the stream, then each question's number."""
    reach: np.ndarray
    """int64 `[length]`: the last position of the stream that each token sees."""
    positions: np.ndarray
    """int64 `[length]`: positions for the rotary embedding."""
    image_at: np.ndarray
    """int64 `[num_visual]`: positions of visual tokens, those of attached pictures last."""
    asked: np.ndarray
    """int64 `[num_asked, 3]`: position, the token that should follow it, and its kind: text, a decision or an
    answer."""
    weights: np.ndarray
    """float32 `[num_asked]`."""
    looks: dict[str, tuple[np.ndarray, np.ndarray]]
    """Attention targets by `ATTENTION_KINDS`: attending positions, int64 `[num_looking]`, and pairs of (index of one of
    them, position to attend to)."""
    told: np.ndarray
    """int64 `[num_told, 2]`: positions that have fetched a digit, and the digit's token."""

    @classmethod
    def of(
        cls,
        scene: TrainingScene,
        image: int,
        decision_ids: tuple[int, int],
        measured: Collection[str] = ATTENTION_KINDS,
    ) -> PackedRow:
        """image: the image token's id. decision_ids: (im_start, stream_start)."""
        stream, asides = scene.stream, scene.stream.asides
        length, numbers = len(stream.ids), asides.numbers.astype(np.int64)
        labels, weights = (
            np.concatenate([values if len(stream.frames) else np.full_like(values, empty), of_asides])
            for values, of_asides, empty in (
                (stream.labels, asides.labels, IGNORED),
                (stream.weights, asides.weights, 0.0),
            )
        )
        at = np.flatnonzero(labels != IGNORED)
        kinds = np.where(at >= length, _ANSWER, np.where(np.isin(labels[at], decision_ids), _DECISION, _TEXT))
        owners = np.concatenate([np.full(length, _STREAM), numbers])
        reach = np.concatenate([np.arange(length), asides.after.astype(np.int64)[numbers]])
        return cls(
            scene=scene,
            ids=np.concatenate([stream.ids, asides.ids]).astype(np.int64),
            owners=owners,
            reach=reach,
            positions=np.concatenate([np.arange(length), asides.positions]),
            image_at=np.flatnonzero(stream.ids == image),
            asked=np.stack([at, labels[at], kinds], axis=1).astype(np.int64),
            weights=weights[at].astype(np.float32),
            looks={n: _grouped(pairs, owners, reach) for n, pairs in _looks(stream, image) if n in measured},
            told=told_digits(stream) if "telling" in measured else np.zeros((0, 2), dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.ids)


def _grouped(pairs: np.ndarray, owners: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(position, place) pairs grouped by position, without those that the position does not see."""
    at, place = pairs[:, 0], pairs[:, 1]
    own = (owners[at] == owners[place]) & (place <= at)
    seen = np.where(owners[place] == _STREAM, place <= reach[at], own)
    looking, which = np.unique(at[seen], return_inverse=True)
    return looking, np.stack([which, place[seen]], axis=1).astype(np.int64)


def _looks(stream: StreamExample, image: int) -> Iterator[tuple[str, np.ndarray]]:
    """The kinds of attention targets that are pairs of positions, each as int64 `[num_pairs, 2]`: from, to."""
    asides, length = stream.asides, len(stream.ids)
    copied, source = asides.copies[:, 0], asides.copies[:, 1]
    plain = np.flatnonzero((asides.labels != IGNORED) & ~np.isin(np.arange(len(asides.ids)), copied))
    pairs = [np.stack([copied, source], axis=1)]
    for number, first, end in asides.evidence:
        answering = plain[asides.numbers[plain] == number]
        places = np.arange(first, end)
        pairs.append(np.stack([np.repeat(answering, len(places)), np.tile(places, len(answering))], axis=1))
    pointing = np.concatenate(pairs).astype(np.int64)
    # A place may be evidence twice but is one target.
    yield "pointing", np.unique(pointing, axis=0) + (length, 0)
    yield "matching", np.unique(asides.matches.astype(np.int64), axis=0).reshape(-1, 2) + (length, 0)
    yield "carrying", stream.carries[:, :2].astype(np.int64)
    yield "dating", stream.dated.astype(np.int64)
    yield "recalling", recalled(stream, image)


def packed_losses(
    model: VideoLlama3ForConditionalGeneration,
    heads: AuxHeads,
    rows: Sequence[PackedRow],
    stage: TrainingStage,
    decision_ids: tuple[int, int],
    *,
    train_vision: bool = True,
) -> Losses:
    """Run all rows forward at once; returns the mean of their losses. Arguments as in `batch_losses`.

    Memory grows with the number of rows times the square of the longest: pack rows of similar length.
    """
    batch = _Batch(model, rows)
    figures: dict[str, torch.Tensor] = {}
    visual, cells = batch.encode(heads, train_vision)
    figures["cells"] = cells
    total = stage.cells_weight * cells
    if stage.language_weight:
        hidden = batch.read(visual)
        losses, right, target = batch.words(hidden[-1])
        kinds = {name: batch.kinds == kind for name, kind in (("text", _TEXT), ("decision", _DECISION))}
        answered = batch.kinds == _ANSWER
        text, decision = (losses[which].sum() / len(rows) for which in kinds.values())
        answers = losses[answered].sum() / len(rows)
        history, state = batch.heads(heads, hidden)
        total = total + stage.language_weight * text + stage.decision_weight * decision
        total = total + stage.answers_weight * answers
        total = total + stage.state_weight * state + stage.history_weight * history
        for name, weight in stage.attention_weights.items():
            loss = batch.telling(hidden) if name == "telling" else batch.look(name, hidden)
            if loss is not None:
                total = total + weight * loss
                figures[name] = loss
        balanced = [right[kinds["decision"] & (target == which)].mean() for which in decision_ids]
        num_asides = sum(len(row.scene.stream.asides.after) for row in rows)
        figures |= {"history": history, "state": state, "text": text, "decision": decision}
        figures |= {"answers": answers * len(rows) / max(num_asides, 1), "answers_right": right[answered].mean()}
        figures |= {"decision_right": torch.stack(balanced).nanmean(), "text_right": right[kinds["text"]].mean()}
    values = torch.stack([value.detach().float() for value in figures.values()]).tolist()
    return Losses(total, **dict(zip(figures, values, strict=True)))


class _Batch:
    """Rows side by side on the model's device, and the computations over them."""

    def __init__(self, model: VideoLlama3ForConditionalGeneration, rows: Sequence[PackedRow]) -> None:
        self._model, self._rows = model, rows
        self._width = -(-max(len(row) for row in rows) // _LENGTH_STEP) * _LENGTH_STEP
        shape = (len(rows), self._width)
        ids, owners, reach, positions = (np.full(shape, empty, dtype=np.int64) for empty in (0, _PADDING, -1, 0))
        for number, row in enumerate(rows):
            here = (number, slice(len(row)))
            ids[here], owners[here] = row.ids, row.owners
            reach[here], positions[here] = row.reach, row.positions
        self._ids, self._positions = self._put(ids), self._put(positions)
        self._mask = self._additive(self._put(owners), self._put(reach))
        asked = self._flat([row.asked for row in rows])
        self.kinds, self._targets, self._asked_at = asked[:, 2], asked[:, 1], asked[:, 0]
        self._weights = self._put(np.concatenate([row.weights for row in rows]))

    def _put(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self._model.device, non_blocking=True)

    def _flat(self, each: Sequence[np.ndarray]) -> torch.Tensor:
        """The rows' arrays concatenated, with each first column changed to the position in the flat batch."""
        moved = [values + (number * self._width, *[0] * (values.shape[1] - 1)) for number, values in enumerate(each)]
        return self._put(np.concatenate(moved))

    def _additive(self, owners: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
        """`[num_rows, 1, width, width]`: 0 where a token may attend to another, −inf elsewhere; padding attends to
        itself."""
        order = torch.arange(self._width, device=owners.device)
        sees = (owners == _STREAM)[:, None, :] & (order <= reach[:, :, None])
        sees |= (owners[:, :, None] == owners[:, None, :]) & (owners >= 0)[:, None, :] & (order <= order[:, None])
        sees |= order == order[:, None]
        dtype = torch.get_autocast_dtype(owners.device.type) if torch.is_autocast_enabled(owners.device.type) else None
        mask = torch.zeros(sees.shape, dtype=dtype or torch.float32, device=owners.device)
        return mask.masked_fill_(~sees, -math.inf).unsqueeze(1)

    def encode(self, heads: AuxHeads, train_vision: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """All visual tokens in the order of the rows, `[num_visual, hidden]`, and the encoder's own loss."""
        groups: dict[CellGrid, list[tuple[int, int]]] = defaultdict(list)
        sets = [
            [(scene.stream.frames, scene.stream.grid, scene.stream.picks)] * bool(len(scene.stream.frames))
            + [(pictures.frames, pictures.grid, pictures.picks) for pictures in scene.stream.attached]
            for scene in (row.scene for row in self._rows)
        ]
        for number, of_row in enumerate(sets):
            for place, (_, grid, _) in enumerate(of_row):
                groups[grid].append((number, place))
        made, begins, size = [], {}, 0
        for grid, members in groups.items():
            frames = torch.cat([self._put(sets[number][place][0]) for number, place in members])
            patches = VisionSettings().cut(frames, grid)
            tokens = encode_frames(self._model.model, patches, grid, frozen=not train_vision).flatten(0, 1)
            for number, place in members:
                begins[number, place] = size
                size += len(sets[number][place][0]) * grid.num_cells
            made.append(tokens)
        if not made:
            nothing = torch.zeros(0, int(self._model.lm_head.in_features), device=self._model.device)
            return nothing, nothing.sum()
        all_tokens = torch.cat(made)
        picks = [
            picks.astype(np.int64) + begins[number, place]
            for number, of_row in enumerate(sets)
            for place, (_, _, picks) in enumerate(of_row)
        ]
        seen = [(number, row.scene.cell_labels) for number, row in enumerate(self._rows) if (number, 0) in begins]
        labels = [values.reshape(-1, values.shape[-1]) for _, values in seen]
        places = [np.arange(len(flat)) + begins[number, 0] for (number, _), flat in zip(seen, labels, strict=True)]
        owners = np.repeat([number for number, _ in seen], [len(flat) for flat in labels])
        asked = all_tokens.index_select(0, self._put(np.concatenate(places)))
        cells = heads.cells.of_owners(asked, self._put(np.concatenate(labels)), self._put(owners), len(self._rows))
        return all_tokens.index_select(0, self._put(np.concatenate(picks))), cells / len(self._rows)

    def read(self, visual: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The language model's hidden states before each layer and after the last, `[num_rows, width, hidden]` each."""
        language = self._model.model.language_model
        embeddings = language.embed_tokens(self._ids)
        at = self._flat([row.image_at[:, None] for row in self._rows])[:, 0]
        flat = embeddings.flatten(0, 1).index_copy(0, at, visual.to(embeddings.dtype))
        made = language(
            inputs_embeds=flat.view(embeddings.shape),
            position_ids=self._positions,
            attention_mask={"full_attention": self._mask},
            use_cache=False,
            output_hidden_states=True,
        )
        return (*made.hidden_states[:-1], made.last_hidden_state)

    def words(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Weighted loss of each labelled position, whether its most likely token is right (0 or 1), and its label."""
        logits = self._model.lm_head(hidden.flatten(0, 1).index_select(0, self._asked_at))
        loss = torch.nn.functional.cross_entropy(logits.float(), self._targets, reduction="none") * self._weights
        return loss, (logits.detach().argmax(dim=-1) == self._targets).float(), self._targets

    def heads(self, heads: AuxHeads, hidden: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses of histories, read from visual tokens, and of states, read from frames' last tokens, as in
        `losses`."""
        number = len(self._rows)
        early, late = asked_depths(len(hidden) - 1)
        scenes = [row.scene for row in self._rows]
        tokens = [row.image_at[: len(row.scene.stream.picks), None] for row in self._rows]
        ends = [scene.stream.frame_ends.astype(np.int64)[:, None] for scene in scenes]
        found = []
        for head, depth, at, labels in (
            (heads.histories, early, tokens, [scene.token_labels for scene in scenes]),
            (heads.states, late, ends, [scene.state_labels for scene in scenes]),
        ):
            vectors = hidden[depth].flatten(0, 1).index_select(0, self._flat(at)[:, 0])
            owners = self._put(np.repeat(np.arange(number), [len(values) for values in labels]))
            found.append(head.of_owners(vectors, self._put(np.concatenate(labels)), owners, number) / number)
        return found[0], found[1]

    def look(self, name: str, hidden: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """`AttentionTargets.loss` of one kind of target: the mean over each row's attending tokens, then over rows."""
        from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

        depth, head = supervised_head(name, len(hidden) - 1)
        looking = [row.looks[name][0] for row in self._rows]
        most = max(len(at) for at in looking)
        if not most:
            return None
        grid = np.zeros((len(self._rows), most), dtype=np.int64)
        for number, at in enumerate(looking):
            grid[number, : len(at)] = at
        counts = np.array([len(at) for at in looking])
        shares = np.repeat(1 / np.maximum(counts, 1), counts) / len(self._rows)
        filled = np.concatenate([number * most + np.arange(count) for number, count in enumerate(counts)])
        begins = np.cumsum(counts) - counts
        pairs = [row.looks[name][1] + (begin, 0) for row, begin in zip(self._rows, begins, strict=True)]
        which, place = np.concatenate(pairs).T
        rows = self._put(grid)
        language = self._model.model.language_model
        layer = language.layers[depth]
        attention = layer.self_attn
        size = attention.head_dim
        head %= attention.q_proj.out_features // size
        group = head // attention.num_key_value_groups
        vectors = layer.input_layernorm(hidden[depth])
        asking = torch.gather(vectors, 1, rows.unsqueeze(-1).expand(-1, -1, vectors.shape[-1]))
        query = attention.q_proj(asking)[..., head * size : (head + 1) * size].unsqueeze(1)
        key = attention.k_proj(vectors)[..., group * size : (group + 1) * size].unsqueeze(1)
        there = torch.gather(self._positions, 1, rows)
        query, _ = apply_rotary_pos_emb(query, query, *language.rotary_emb(query, there))
        key, _ = apply_rotary_pos_emb(key, key, *language.rotary_emb(key, self._positions))
        scores = (query[:, 0] @ key[:, 0].transpose(1, 2)).float() * attention.scaling
        scores = scores + torch.gather(self._mask[:, 0], 1, rows.unsqueeze(-1).expand(-1, -1, self._width))
        whole = scores.logsumexp(dim=-1).flatten().index_select(0, self._put(filled))
        at = filled[which] * self._width + place
        wanted = _grouped_logsumexp(scores.flatten().index_select(0, self._put(at)), self._put(which), len(filled))
        missed: torch.Tensor = ((whole - wanted) * self._put(shares.astype(np.float32))).sum()
        return missed

    def telling(self, hidden: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """`attention_supervision.telling`: the mean over each row's fetched digits, then over rows."""
        counts = np.array([len(row.told) for row in self._rows])
        if not counts.any():
            return None
        depth = answering_depth(len(hidden) - 1)
        told = self._flat([row.told for row in self._rows])
        vectors = hidden[depth].flatten(0, 1).index_select(0, told[:, 0])
        read = self._model.model.language_model.layers[depth].input_layernorm(vectors)
        logits = telling_logits(self._model, read, depth)
        loss = torch.nn.functional.cross_entropy(logits.float(), told[:, 1], reduction="none")
        shares = np.repeat(1 / np.maximum(counts, 1), counts) / len(self._rows)
        return (loss * self._put(shares.astype(np.float32))).sum()


def _grouped_logsumexp(values: torch.Tensor, groups: torch.Tensor, num_groups: int) -> torch.Tensor:
    """log of the sum of exponentials within each group; no group is empty."""
    highest = torch.full((num_groups,), -math.inf, device=values.device)
    highest = highest.scatter_reduce(0, groups, values.detach(), "amax")
    shares = (values - highest.index_select(0, groups)).exp()
    sums = torch.zeros(num_groups, device=values.device).index_add(0, groups, shares)
    return highest + sums.log()
