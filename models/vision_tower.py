"""The vision tower as differentiable functions over transformers' modules, for training: many frames of one grid in one
batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.errors import VisionError
from streaming.difffp.live import CellGrid

if TYPE_CHECKING:
    from transformers import VideoLlama3Model


def encode_frames(
    model: VideoLlama3Model, patches: torch.Tensor, grid: CellGrid, *, frozen: bool = False
) -> torch.Tensor:
    """Visual tokens of many frames of one grid in one batch, with gradients: the values of
    `models.network.tower.encode`.

    patches: `[num_frames, num_patches, values]`. Returns `[num_frames, num_cells, hidden]`. Gradients always reach the
    projector, and the vision tower unless `frozen`.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        merged = merged_features(model, patches, grid)
    projected: torch.Tensor = model.projector(merged)
    return projected


def merged_features(model: VideoLlama3Model, patches: torch.Tensor, grid: CellGrid) -> torch.Tensor:
    """The tower's output and the projector's input: `[num_frames, num_patches, values]` → `[num_frames, num_cells,
    width]`."""
    return finished_features(model, early_features(model, patches, grid, 0), grid, 0)


def early_features(model: VideoLlama3Model, patches: torch.Tensor, grid: CellGrid, num_layers: int) -> torch.Tensor:
    """Hidden states after the tower's first `num_layers` layers: `[num_frames, num_patches, width]`."""
    embedding = model.vision_model.embeddings.patch_embedding
    # The tower's convolution covers each patch once: a matrix product gives the same values, many times faster on GPUs.
    hidden = torch.nn.functional.linear(patches, embedding.weight.flatten(1), embedding.bias)
    return _through_layers(model, hidden, grid, range(num_layers))


def finished_features(model: VideoLlama3Model, hidden: torch.Tensor, grid: CellGrid, num_layers: int) -> torch.Tensor:
    """Run the rest of the tower after `early_features` with the same `num_layers`: `[num_frames, num_cells, width]`."""
    tower = model.vision_model
    hidden = _through_layers(model, hidden, grid, range(num_layers, len(tower.encoder.layers)))
    hidden = tower.post_layernorm(hidden)
    if grid.merge > 2:
        raise VisionError(f"merge size {grid.merge}: the batched path supports 1 and 2")
    return hidden.view(len(hidden), grid.num_cells, grid.merge**2, -1).mean(dim=2)


def _through_layers(model: VideoLlama3Model, hidden: torch.Tensor, grid: CellGrid, layers: range) -> torch.Tensor:
    from transformers.models.video_llama_3.modeling_video_llama_3 import apply_rotary_pos_emb_vision

    tower = model.vision_model
    num_frames, num_patches = hidden.shape[:2]
    cos, sin = tower.rotary_pos_emb(hidden, patch_positions(grid).to(hidden.device))
    for layer in (tower.encoder.layers[index] for index in layers):
        attention = layer.self_attn
        shape = (num_frames, num_patches, attention.num_heads, attention.head_dim)
        normed = layer.layer_norm1(hidden)
        query, key = apply_rotary_pos_emb_vision(
            attention.q_proj(normed).view(shape), attention.k_proj(normed).view(shape), cos, sin
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), attention.v_proj(normed).view(shape).transpose(1, 2)
        )
        hidden = hidden + attention.out_proj(mixed.transpose(1, 2).reshape(num_frames, num_patches, -1))
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    return hidden


def patch_positions(grid: CellGrid) -> torch.Tensor:
    """Row and column of each patch, in the order of `VisionSettings.cut`: int64 `[num_patches, 2]`."""
    merge = grid.merge
    rows, cols = torch.meshgrid(torch.arange(grid.rows * merge), torch.arange(grid.cols * merge), indexing="ij")
    cells = torch.stack([rows, cols], dim=-1).view(grid.rows, merge, grid.cols, merge, 2)
    return cells.transpose(1, 2).reshape(grid.num_patches, 2)
