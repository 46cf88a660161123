"""One token for each of several sessions, in shapes that do not depend on how many or how long they are.

Rows are padded to a bucket of sessions, keys to a bucket of lengths; padded rows write to a slot that belongs to no
session. Every operation is plain torch without a host sync, so that a CUDA graph can hold it (`models.network.graphs`);
on a CPU the same function runs as it is. Padding changes no result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from models.network.decoder import mlp
from models.network.pool import SlotPool
from models.network.rotary import rotate
from models.network.weights import DecoderLayer, DecoderWeights


@dataclass(frozen=True, slots=True)
class StepBuffers:
    """Inputs and outputs of a padded step, at fixed addresses."""

    embeddings: torch.Tensor
    """`[rows, hidden]`."""
    slots: torch.Tensor
    """int64 `[rows]`: index of each row's slot in the pool."""
    positions: torch.Tensor
    """int64 `[rows]`: position of each row in its slot, which is the slot's length before the step."""
    logits: torch.Tensor
    """`[rows, vocab]`."""
    choice: torch.Tensor
    """float64 `[rows, 3]`: the likeliest token, its log-probability, and whether all logits are finite (1 or 0)."""

    @classmethod
    def of(cls, weights: DecoderWeights, pool: SlotPool, num_rows: int) -> StepBuffers:
        """Buffers for `num_rows` rows, all of them padding."""
        table = weights.embedding
        vocab, hidden = len(weights.head), table.shape[1]
        return cls(
            embeddings=table.new_zeros(num_rows, hidden),
            slots=torch.full((num_rows,), pool.padding, dtype=torch.long, device=table.device),
            positions=torch.zeros(num_rows, dtype=torch.long, device=table.device),
            logits=table.new_zeros(num_rows, vocab),
            choice=torch.zeros(num_rows, 3, dtype=torch.float64, device=table.device),
        )


def padded_step(weights: DecoderWeights, pool: SlotPool, buffers: StepBuffers, num_keys: int) -> None:
    """Append one token to each row's slot and write its logits and the greedy choice into the buffers.

    num_keys: keys that each row reads, at least its position + 1.
    """
    hidden = buffers.embeddings
    cos, sin = pool.cos[buffers.positions][:, None], pool.sin[buffers.positions][:, None]
    places = torch.arange(num_keys, device=hidden.device)
    unseen = (places > buffers.positions[:, None])[:, None, None]
    for layer, states in zip(weights.layers, pool.states, strict=True):
        query = _append(weights, layer, hidden, states, buffers, (cos, sin))
        hidden = hidden + F.linear(_attend(weights, query, states, buffers.slots, unseen), layer.out)
        hidden = hidden + mlp(weights, layer, hidden)
    logits = F.linear(F.rms_norm(hidden, hidden.shape[-1:], weights.norm, weights.eps), weights.head)
    buffers.logits.copy_(logits)
    rows = logits.float()
    best, token = rows.max(dim=-1)
    finite = torch.isfinite(rows).all(dim=-1)
    buffers.choice.copy_(torch.stack([token.double(), (best - rows.logsumexp(-1)).double(), finite.double()], dim=-1))


def _append(
    weights: DecoderWeights,
    layer: DecoderLayer,
    hidden: torch.Tensor,
    states: torch.Tensor,
    buffers: StepBuffers,
    angles: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Write the rows' keys and values; returns the rotated queries, `[rows, heads, head_dim]`."""
    heads, kv = weights.num_heads, weights.num_kv_heads
    normed = F.rms_norm(hidden, hidden.shape[-1:], layer.norm, weights.eps)
    projected = F.linear(normed, layer.qkv, layer.qkv_bias).view(len(hidden), heads + 2 * kv, weights.head_dim)
    rotated = rotate(projected[:, : heads + kv], *angles).to(projected.dtype)
    states[buffers.slots, :, buffers.positions] = torch.cat([rotated[:, heads:], projected[:, heads:]], dim=1)
    return rotated[:, :heads]


def _attend(
    weights: DecoderWeights, query: torch.Tensor, states: torch.Tensor, slots: torch.Tensor, unseen: torch.Tensor
) -> torch.Tensor:
    """Grouped-query attention over the first keys of each row's slot: `[rows, heads * head_dim]`.

    unseen: bool `[rows, 1, 1, num_keys]`, keys that a row does not attend to.
    """
    kv, num_keys = weights.num_kv_heads, unseen.shape[-1]
    keys = states[:, :kv, :num_keys].index_select(0, slots)
    values = states[:, 2 * kv :, :num_keys].index_select(0, slots)
    grouped = query.view(len(query), kv, -1, weights.head_dim) * weights.head_dim**-0.5
    scores = (grouped @ keys.transpose(2, 3)).float().masked_fill(unseen, float("-inf"))
    # What lies behind a slot's end is not cleared and may be NaN, whose product with a weight of 0 is NaN.
    values.masked_fill_(unseen.view(len(query), 1, num_keys, 1), 0.0)
    mixed: torch.Tensor = scores.softmax(-1).to(values.dtype) @ values
    return mixed.reshape(len(query), -1)
