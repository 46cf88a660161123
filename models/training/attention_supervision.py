"""Attention supervision: losses that make chosen heads of the language model attend to known positions during training.

With the loss of words alone, a head that must find something learns to after many thousands of scenes only, once its
attention happens to be right. With supervised attention it learns within an hour. Nothing of this is part of the
trained checkpoint. Runs in the training process only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.training.examples import IGNORED, ForkQuestions, StreamExample

if TYPE_CHECKING:
    from transformers import DynamicCache, VideoLlama3ForConditionalGeneration

ATTENTION_KINDS = ("pointing", "matching", "carrying", "dating", "telling", "recalling")
"""Kinds of attention targets, and of what follows from them, named after the functions of this module that compute
their losses."""


def answering_depth(num_layers: int) -> int:
    """The layer before which a frame's last token represents what has just happened, and in which answers are looked
    up."""
    return 2 * num_layers // 3


def supervised_head(name: str, num_layers: int) -> tuple[int, int]:
    """The layer and the head in it that are supervised for a kind of target; the last head is −1."""
    second = min(1, num_layers - 1)
    return {
        "pointing": (answering_depth(num_layers), 0),
        "matching": (num_layers // 4, -1),
        "carrying": (second, 0),
        "dating": (second, 1),
        "recalling": (second, -1),
    }[name]


@dataclass(frozen=True, slots=True)
class AttentionTargets:
    """Attention of supervised heads to earlier tokens, in one pass over a stream or over questions on forks of it."""

    model: VideoLlama3ForConditionalGeneration
    hidden: Sequence[torch.Tensor]
    """Hidden states before each layer, `[1, num_tokens, hidden]`."""
    cache: DynamicCache
    num_keys: int
    """Number of the cache's keys that the tokens may attend to."""
    positions: torch.Tensor
    """int64 `[num_tokens]`."""

    @property
    def num_layers(self) -> int:
        """Number of layers of the language model."""
        return len(self.hidden) - 1

    def read(self, rows: torch.Tensor, depth: int) -> torch.Tensor:
        """Normalised hidden states of the given tokens as input of the layer `depth`: `[num_rows, hidden]`."""
        layer = self.model.model.language_model.layers[depth]
        vectors: torch.Tensor = layer.input_layernorm(self.hidden[depth][0, rows])
        return vectors

    def loss(self, name: str, asking: np.ndarray, wanted: np.ndarray, seen: np.ndarray) -> torch.Tensor | None:
        """−log of the attention that the supervised head pays to the wanted keys, mean over tokens with any wanted key.

        name: one of `ATTENTION_KINDS`; asking: int `[num_asking]`, tokens; wanted, seen: bool `[num_asking, num_keys]`.
        `None` where nothing is wanted.
        """
        from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

        wanted = wanted & seen
        any_wanted = wanted.any(axis=1)
        if not any_wanted.any():
            return None
        asking, wanted, seen = asking[any_wanted], wanted[any_wanted], seen[any_wanted]
        language, device = self.model.model.language_model, self.model.device
        depth, head = supervised_head(name, self.num_layers)
        layer, rows = language.layers[depth], torch.from_numpy(asking).to(device).long()
        vectors = self.read(rows, depth)
        size = layer.self_attn.head_dim
        head %= layer.self_attn.q_proj.out_features // size
        query = layer.self_attn.q_proj(vectors)[None, :, head * size : (head + 1) * size].unsqueeze(1)
        query, _ = apply_rotary_pos_emb(query, query, *language.rotary_emb(query, self.positions[None, rows]))
        group = head // layer.self_attn.num_key_value_groups
        keys: torch.Tensor = self.cache.layers[depth].keys[0, group, : self.num_keys]  # type: ignore[index,union-attr]
        scores = query[0, 0].float() @ keys.float().T * layer.self_attn.scaling
        scores = scores.masked_fill(~torch.from_numpy(seen).to(device), -math.inf)
        there = scores.masked_fill(~torch.from_numpy(wanted).to(device), -math.inf)
        missed: torch.Tensor = (scores.logsumexp(dim=-1) - there.logsumexp(dim=-1)).mean()
        return missed


def pointing(looks: AttentionTargets, asides: ForkQuestions, seen: np.ndarray) -> torch.Tensor | None:
    """Loss of answers' tokens, with the first head of the layer where answers are looked up.

    A token that can be copied from one place should attend to that place, any other token to everything the answer
    rests on. seen: bool `[num_aside, num_stream + num_aside]`, as in the functions below.
    """
    rests = np.zeros((len(asides.after), seen.shape[1]), dtype=bool)
    for number, first, end in asides.evidence:
        rests[number, first:end] = True
    wanted = rests[asides.numbers] & (asides.labels != IGNORED)[:, None]
    copied = np.unique(asides.copies[:, 0])
    wanted[copied] = False
    wanted[asides.copies[:, 0], asides.copies[:, 1]] = True
    return looks.loss("pointing", np.arange(len(asides.ids)), wanted, seen)


def matching(looks: AttentionTargets, asides: ForkQuestions, seen: np.ndarray) -> torch.Tensor | None:
    """Loss of colours, shapes and times named in questions, with the last head of the layer at a quarter of the
    depth."""
    wanted = np.zeros(seen.shape, dtype=bool)
    wanted[asides.matches[:, 0], asides.matches[:, 1]] = True
    return looks.loss("matching", np.arange(len(asides.ids)), wanted, seen)


def carrying(looks: AttentionTargets, stream: StreamExample) -> torch.Tensor | None:
    """Loss of remarks' last tokens, with the first head of the second layer: each fetches a part of the time shown
    before."""
    return looks.loss("carrying", *_pairs(stream.carries, looks.num_keys))


def dating(looks: AttentionTargets, stream: StreamExample) -> torch.Tensor | None:
    """Loss of remarks' words, with the second head of the second layer: each attends to the last digit of the time
    shown before.

    Thereby the words of a remark are found by its second; its last tokens alone carry too little of the remark's
    content.
    """
    return looks.loss("dating", *_pairs(stream.dated, looks.num_keys))


def telling(looks: AttentionTargets, stream: StreamExample) -> torch.Tensor | None:
    """Loss of the digits fetched by remarks' last tokens: −log of the probability that the head of `pointing` would
    give them.

    The vector that the head would add to an answer when it attends to such a token is read with the model's output
    layer. With the loss of words alone, a head that already attends to the right place uses its content only much
    later.
    """
    told = told_digits(stream)
    if not len(told):
        return None
    rows, digits = torch.from_numpy(told).to(looks.model.device).T
    depth = answering_depth(looks.num_layers)
    logits = telling_logits(looks.model, looks.read(rows, depth), depth)
    return torch.nn.functional.cross_entropy(logits.float(), digits)


def told_digits(stream: StreamExample) -> np.ndarray:
    """int64 `[num_told, 2]`: positions that have fetched a digit, and the digit's token."""
    carries = stream.carries[stream.carries[:, 2] > 0]
    return np.stack([carries[:, 0], stream.ids[carries[:, 1]]], axis=1).astype(np.int64)


def telling_logits(model: VideoLlama3ForConditionalGeneration, vectors: torch.Tensor, depth: int) -> torch.Tensor:
    """`[num_vectors, vocabulary]`: logits of what the head of `pointing` would add for such vectors, read by the output
    layer.

    vectors: `[num_vectors, hidden]`, as the heads of the layer at this depth read them.
    """
    language = model.model.language_model
    attention = language.layers[depth].self_attn
    values = attention.v_proj(vectors)[:, : attention.head_dim]
    logits: torch.Tensor = model.lm_head(language.norm(values @ attention.o_proj.weight[:, : attention.head_dim].T))
    return logits


def recalling(looks: AttentionTargets, stream: StreamExample, image: int) -> torch.Tensor | None:
    """Loss of visual tokens, with the last head of the second layer: each attends to the previous token of the same
    cell.

    image: the image token's id. The change of a cell is the difference of these two tokens.
    """
    return looks.loss("recalling", *_pairs(recalled(stream, image), looks.num_keys))


def recalled(stream: StreamExample, image: int) -> np.ndarray:
    """int64 `[num_pairs, 2]`: a visual token of the stream, and the previous one of the same cell."""
    at = np.flatnonzero(stream.ids == image)[: len(stream.picks)]
    cells = stream.picks % stream.grid.num_cells
    order = np.lexsort((at, cells))
    later, earlier = order[1:], order[:-1]
    same = cells[later] == cells[earlier]
    return np.stack([at[later][same], at[earlier][same]], axis=1)


def _pairs(pairs: np.ndarray, num_keys: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, wanted keys and visible keys of a stream, from (token, place) pairs with one place each."""
    rows = np.arange(len(pairs))
    wanted = np.zeros((len(pairs), num_keys), dtype=bool)
    wanted[rows, pairs[:, 1]] = True
    return pairs[:, 0], wanted, np.arange(num_keys)[None] <= pairs[:, :1]
