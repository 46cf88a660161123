"""Where heads of the language model are held to look while it is trained, and how far their looks are from there.

A head that must find something finds it late by the loss of words alone: thousands of scenes teach nothing until one of
its looks happens to be right. Told where to look, it learns within the hour; nothing of this is left after training.
Runs in the training process alone.
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

LOOKS = ("pointing", "matching", "carrying", "dating", "telling", "recalling")
"""Kinds of looks, and of what is made of them, by the functions of this module that measure them."""


def answering_depth(num_layers: int) -> int:
    """The layer before which a frame's end knows what has just happened, and in which answers are found."""
    return 2 * num_layers // 3


def held_head(name: str, num_layers: int) -> tuple[int, int]:
    """The layer and the head of it that are held to a kind of looks; the last head is −1."""
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
    """What heads give of themselves to what came before, in one pass over a stream or over questions on forks of it."""

    model: VideoLlama3ForConditionalGeneration
    hidden: Sequence[torch.Tensor]
    """The tokens' vectors before each layer, `[1, num_tokens, hidden]`."""
    cache: DynamicCache
    num_keys: int
    """How many of the cache's keys the tokens may see at all."""
    positions: torch.Tensor
    """int64 `[num_tokens]`."""

    @property
    def num_layers(self) -> int:
        """Of the language model."""
        return len(self.hidden) - 1

    def read(self, rows: torch.Tensor, depth: int) -> torch.Tensor:
        """What the heads of a layer read of tokens: `[num_rows, hidden]`."""
        layer = self.model.model.language_model.layers[depth]
        vectors: torch.Tensor = layer.input_layernorm(self.hidden[depth][0, rows])
        return vectors

    def loss(self, name: str, asking: np.ndarray, wanted: np.ndarray, seen: np.ndarray) -> torch.Tensor | None:
        """−log of the share that the held head gives to what is wanted of it, mean over tokens of which anything is.

        name: of `LOOKS`; asking: int `[num_asking]`, tokens; wanted, seen: bool `[num_asking, num_keys]`. None where
        nothing is wanted.
        """
        from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

        wanted = wanted & seen
        any_wanted = wanted.any(axis=1)
        if not any_wanted.any():
            return None
        asking, wanted, seen = asking[any_wanted], wanted[any_wanted], seen[any_wanted]
        language, device = self.model.model.language_model, self.model.device
        depth, head = held_head(name, self.num_layers)
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
        return (scores.logsumexp(dim=-1) - there.logsumexp(dim=-1)).mean()


def pointing(looks: AttentionTargets, asides: ForkQuestions, seen: np.ndarray) -> torch.Tensor | None:
    """Of answers' tokens, by the first head of the layer where answers are found.

    A token that is to be copied from one place looks there, and any other at all that the answer rests on.
    seen: bool `[num_aside, num_stream + num_aside]`, as for the others here.
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
    """Of what questions name (colours, shapes, times), by the last head of the layer at a quarter of the depth."""
    wanted = np.zeros(seen.shape, dtype=bool)
    wanted[asides.matches[:, 0], asides.matches[:, 1]] = True
    return looks.loss("matching", np.arange(len(asides.ids)), wanted, seen)


def carrying(looks: AttentionTargets, stream: StreamExample) -> torch.Tensor | None:
    """Of remarks' ends, by the first head of the second layer: each token fetches a piece of the time before it."""
    return looks.loss("carrying", *_pairs(stream.carries, looks.num_keys))


def dating(looks: AttentionTargets, stream: StreamExample) -> torch.Tensor | None:
    """Of remarks' words, by the second head of that layer: each looks at the last digit of the time shown before them.

    What happened at a second is found word by word so; the ends of remarks alone say too little of what they end.
    """
    return looks.loss("dating", *_pairs(stream.dated, looks.num_keys))


def telling(looks: AttentionTargets, stream: StreamExample) -> torch.Tensor | None:
    """Of the digits that remarks' ends have fetched: −log of the share that the head of `pointing` would say them with.

    What the head would add to an answer that looks at such a token is read by the model's own last layer. By the loss
    of words alone, a head that looks at the right place takes nothing from it for long.
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
    """`[num_vectors, vocabulary]`: what the head of `pointing` would add of such vectors, read by the last layer.

    vectors: `[num_vectors, hidden]`, as the heads of the layer at this depth read them.
    """
    language = model.model.language_model
    attention = language.layers[depth].self_attn
    values = attention.v_proj(vectors)[:, : attention.head_dim]
    logits: torch.Tensor = model.lm_head(language.norm(values @ attention.o_proj.weight[:, : attention.head_dim].T))
    return logits


def recalling(looks: AttentionTargets, stream: StreamExample, image: int) -> torch.Tensor | None:
    """Of visual tokens, by the last head of the second layer: each looks at the one before it of the same cell.

    image: the image token's id. What has changed on a cell, and how, is the difference of these two.
    """
    return looks.loss("recalling", *_pairs(recalled(stream, image), looks.num_keys))


def recalled(stream: StreamExample, image: int) -> np.ndarray:
    """int64 `[num_pairs, 2]`: a visual token of the stream, and the one before it of the same cell."""
    at = np.flatnonzero(stream.ids == image)[: len(stream.picks)]
    cells = stream.picks % stream.grid.num_cells
    order = np.lexsort((at, cells))
    later, earlier = order[1:], order[:-1]
    same = cells[later] == cells[earlier]
    return np.stack([at[later][same], at[earlier][same]], axis=1)


def _pairs(pairs: np.ndarray, num_keys: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, what is wanted of each, and what each sees of a stream, from (token, place) pairs of one place each."""
    rows = np.arange(len(pairs))
    wanted = np.zeros((len(pairs), num_keys), dtype=bool)
    wanted[rows, pairs[:, 1]] = True
    return pairs[:, 0], wanted, np.arange(num_keys)[None] <= pairs[:, :1]
