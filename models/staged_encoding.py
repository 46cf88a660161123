"""Encode a large picture in pieces of bounded work, so that other sessions run in between. Engine's thread."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import torch

from models.vision_tower import early_features, finished_features, patch_positions

if TYPE_CHECKING:
    from transformers import VideoLlama3Model
    from transformers.models.video_llama_3.modeling_video_llama_3 import VideoLlama3VisionEncoderLayer

    from streaming.difffp.live import CellGrid

PART_PATCHES = 4096
"""Patches encoded per step: about as much work as a prefill of 1,024 tokens, at the sizes of 2B."""
PART_PATCHES_CPU = 1024
"""The same on a CPU, where a prefill's passes have 256 tokens."""


def part_cost(device: torch.device) -> int:
    """Most work of one step, in patches of small pictures."""
    return PART_PATCHES_CPU if device.type == "cpu" else PART_PATCHES


def picture_cost(num_patches: int, width: int) -> float:
    """Work of encoding a picture, in patches of small pictures.

    In each layer of width w, with an MLP of 4 w, a patch takes 24 w^2 operations in linear products, and in attention 4
    w for each patch that it attends to.
    """
    return num_patches * _patch_cost(num_patches, width)


def pieces_of(
    model: VideoLlama3Model, patches: torch.Tensor, grid: CellGrid, most: float
) -> Generator[float, None, torch.Tensor]:
    """Encode a large picture in slices of its layers; yields the work of each piece before the piece runs.

    patches: `[num_patches, values]`, in the model's dtype and on its device. Returns visual tokens `[num_cells,
    hidden]`, equal to those of `VisionEncoder.encode` up to rounding.
    """
    tower = model.vision_model
    num_layers, num_patches, width = len(tower.encoder.layers), len(patches), tower.config.hidden_size
    hidden = early_features(model, patches[None], grid, 0)[0]
    angles = tower.rotary_pos_emb(hidden, patch_positions(grid).to(hidden.device))
    patch_cost = _patch_cost(num_patches, width) / num_layers
    for layer in tower.encoder.layers:
        yield num_patches / num_layers / 4
        query, key, value = _projected(layer, hidden, angles)
        after = torch.empty_like(hidden)
        for rows in torch.arange(num_patches).split(max(1, int(most / patch_cost))):
            yield len(rows) * patch_cost
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            mixed = torch.nn.functional.scaled_dot_product_attention(query[:, :, part], key, value)
            seen = hidden[part] + layer.self_attn.out_proj(mixed.transpose(1, 2).reshape(len(rows), -1))
            after[part] = seen + layer.mlp(layer.layer_norm2(seen))
        hidden = after
    projected: torch.Tensor = model.projector(finished_features(model, hidden[None], grid, num_layers)[0])
    return projected


def _patch_cost(num_patches: int, width: int) -> float:
    return 1 + num_patches / (6 * width)


def _projected(
    layer: VideoLlama3VisionEncoderLayer, hidden: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of a layer, `[1, heads, num_patches, head_dim]`."""
    from transformers.models.video_llama_3.modeling_video_llama_3 import apply_rotary_pos_emb_vision

    attention = layer.self_attn
    shape = (len(hidden), attention.num_heads, attention.head_dim)
    normed = layer.layer_norm1(hidden)
    query, key = apply_rotary_pos_emb_vision(
        attention.q_proj(normed).view(shape), attention.k_proj(normed).view(shape), *angles
    )
    value = attention.v_proj(normed).view(shape)
    query, key, value = (states.transpose(0, 1)[None] for states in (query, key, value))
    return query, key, value
