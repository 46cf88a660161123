"""The language model as plain functions: one packed pass for the rows of any number of sessions.

Embeddings and linear layers run over all rows at once, attention runs slot by slot. Equal to transformers' Qwen2 up to
rounding; `models.network.reference` is that path. The engine's thread calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from models.network.rotary import RotaryTable, rotate
from models.network.slots import Slot
from models.network.weights import DecoderLayer, DecoderWeights


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of one session in a packed pass: a trunk that is appended, then branches that are forgotten.

    Trunk and branches attend to the slot and to the trunk. Branches are blind to each other: each continues the trunk
    as if it were alone.
    """

    slot: Slot
    embeddings: torch.Tensor
    """`[num_rows, hidden]`."""
    wanted: tuple[int, ...]
    """Rows whose hidden states are returned, ascending."""
    branches: tuple[int, ...] = ()
    """Number of rows of each branch."""

    @property
    def num_rows(self) -> int:
        """Rows of the trunk and of all branches."""
        return len(self.embeddings)

    @property
    def num_trunk(self) -> int:
        """Rows that stay in the slot."""
        return self.num_rows - sum(self.branches)


@dataclass(frozen=True, slots=True)
class _Part:
    """One segment laid out for a pass."""

    slot: Slot
    rows: slice
    """Its rows in the pass."""
    end: int
    """Positions of the slot that its rows may attend to: all before this one."""
    mask: torch.Tensor | None
    """Float `[num_rows, end]`, added to the scores; `None` where each row sees all."""
    wanted: torch.Tensor | None
    """Rows whose hidden states are returned, numbered within the segment; `None` for all."""
    num_wanted: int
    last_mask: torch.Tensor | None
    """`mask` for the wanted rows alone, which are all that attend in the last layer."""


def packed_pass(weights: DecoderWeights, rotary: RotaryTable, segments: Sequence[Segment]) -> list[torch.Tensor]:
    """Hidden states after the final norm for each segment's wanted rows, `[num_wanted, hidden]`.

    Slots grow by their trunks once every layer is done; a pass that fails leaves their lengths as they were.
    """
    for segment in segments:
        segment.slot.make_room(segment.slot.length + segment.num_rows)
    hidden = torch.cat([segment.embeddings for segment in segments]) if len(segments) > 1 else segments[0].embeddings
    parts = _laid_out(segments)
    cos, sin = _angles(rotary, segments)
    for index, layer in enumerate(weights.layers):
        is_last = index == len(weights.layers) - 1
        mixed = _attention(weights, layer, hidden, parts, index, (cos, sin), is_last=is_last)
        if is_last:
            hidden = _wanted_rows(hidden, parts)
        hidden = hidden + F.linear(mixed, layer.out)
        hidden = hidden + mlp(weights, layer, hidden)
    hidden = F.rms_norm(hidden, hidden.shape[-1:], weights.norm, weights.eps)
    for segment in segments:
        segment.slot.length += segment.num_trunk
    return list(hidden.split([part.num_wanted for part in parts]))


def mlp(weights: DecoderWeights, layer: DecoderLayer, hidden: torch.Tensor) -> torch.Tensor:
    """The gated MLP of a layer, its norm included: `[num_rows, hidden]`."""
    normed = F.rms_norm(hidden, hidden.shape[-1:], layer.mlp_norm, weights.eps)
    gate, up = F.linear(normed, layer.gate_up).chunk(2, dim=-1)
    return F.linear(weights.act(gate) * up, layer.down)


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Grouped-query attention of `[heads, rows, head_dim]` over `[kv_heads, length, head_dim]`.

    mask: float, added to the scores. Returns `[rows, heads * head_dim]`.
    """
    mixed = F.scaled_dot_product_attention(query[None], keys[None], values[None], attn_mask=mask, enable_gqa=True)[0]
    return mixed.transpose(0, 1).reshape(query.shape[1], -1)


def _attention(
    weights: DecoderWeights,
    layer: DecoderLayer,
    hidden: torch.Tensor,
    parts: Sequence[_Part],
    index: int,
    angles: tuple[torch.Tensor, torch.Tensor],
    *,
    is_last: bool,
) -> torch.Tensor:
    """Write the rows' keys and values to the slots, and attend: `[num_rows, heads * head_dim]`, before the projection.

    In the last layer only wanted rows attend, because nothing reads the others.
    """
    num_heads, kv = weights.num_heads, weights.num_kv_heads
    normed = F.rms_norm(hidden, hidden.shape[-1:], layer.norm, weights.eps)
    states = F.linear(normed, layer.qkv, layer.qkv_bias).view(len(hidden), num_heads + 2 * kv, weights.head_dim)
    rotated = rotate(states[:, : num_heads + kv], *angles).to(states.dtype).transpose(0, 1)
    states = states.transpose(0, 1)
    mixed: list[torch.Tensor] = []
    for part in parts:
        held, start = part.slot.states[index], part.end - (part.rows.stop - part.rows.start)
        held[:kv, start : part.end] = rotated[num_heads:, part.rows]
        held[kv:, start : part.end] = states[num_heads:, part.rows]
        query, mask = rotated[:num_heads, part.rows], part.mask
        if is_last and part.wanted is not None:
            query, mask = query.index_select(1, part.wanted), part.last_mask
        if query.shape[1]:
            mixed.append(attend(query, held[:kv, : part.end], held[2 * kv :, : part.end], mask))
    if not mixed:
        return hidden.new_empty(0, num_heads * weights.head_dim)
    return torch.cat(mixed) if len(mixed) > 1 else mixed[0]


def _wanted_rows(hidden: torch.Tensor, parts: Sequence[_Part]) -> torch.Tensor:
    rows = [hidden[part.rows] if part.wanted is None else hidden[part.rows][part.wanted] for part in parts]
    return torch.cat(rows) if len(rows) > 1 else rows[0]


def _laid_out(segments: Sequence[Segment]) -> list[_Part]:
    parts, start = [], 0
    for segment in segments:
        mask, wanted = _mask(segment), None
        if len(segment.wanted) < segment.num_rows:
            wanted = torch.tensor(segment.wanted, dtype=torch.long, device=segment.embeddings.device)
        sees_all = not segment.branches and segment.wanted in ((), (segment.num_rows - 1,))
        parts.append(
            _Part(
                slot=segment.slot,
                rows=slice(start, start + segment.num_rows),
                end=segment.slot.length + segment.num_rows,
                mask=mask,
                wanted=wanted,
                num_wanted=len(segment.wanted),
                last_mask=None if mask is None or wanted is None or sees_all else _masked(segment)[wanted],
            )
        )
        start += segment.num_rows
    return parts


def _mask(segment: Segment) -> torch.Tensor | None:
    """The mask of a segment: none for one row, and on CUDA one without a tensor where there are no branches."""
    num_rows = segment.num_rows
    if num_rows == 1:
        return None
    if segment.embeddings.is_cuda and not segment.branches:
        from torch.nn.attention.bias import causal_lower_right  # it imports torch's compiler, which takes seconds

        return causal_lower_right(num_rows, segment.slot.length + num_rows)
    return _masked(segment)


def _masked(segment: Segment) -> torch.Tensor:
    """What each row may see: all of the slot, the trunk up to itself, and of its own branch the same."""
    num_rows, past = segment.num_rows, segment.slot.length
    mask = segment.embeddings.new_zeros(num_rows, past + num_rows)
    tail = mask[:, past:]
    tail.fill_(float("-inf")).triu_(1)
    start = segment.num_trunk
    for size in segment.branches:
        tail[start + size :, start : start + size] = float("-inf")
        start += size
    return mask


def _angles(rotary: RotaryTable, segments: Sequence[Segment]) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin `[num_rows, 1, head_dim]` of all rows' positions."""
    if len(segments) == 1 and not segments[0].branches:
        start = segments[0].slot.length
        cos, sin = rotary.span(start, start + segments[0].num_rows)
        return cos[:, None], sin[:, None]
    positions: list[int] = []
    for segment in segments:
        forks = segment.slot.length + segment.num_trunk
        positions += range(segment.slot.length, forks)
        for size in segment.branches:
            positions += range(forks, forks + size)
    rotary.reserve(max(positions) + 1)
    rows = torch.tensor(positions, device=rotary.cos.device)
    return rotary.cos[rows][:, None], rotary.sin[rows][:, None]
