"""The vision tower and projector as plain functions: frames of any grids in one pass, without a host sync.

Frames do not attend to each other. Equal to transformers' modules up to rounding. The engine's thread calls it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from models.network.rotary import rotate
from models.network.weights import TowerLayer, TowerWeights
from models.vision_tower import patch_positions
from streaming.difffp.live import CellGrid

MOST_GRIDS = 64
"""Grids whose rotary angles are kept."""

Angles = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames of one grid, one after the other."""

    patches: torch.Tensor
    """`[num_frames * num_patches, values]`, as `VisionSettings.cut` orders them."""
    grid: CellGrid
    num_frames: int = 1


class GridAngles:
    """cos and sin of the patches of a grid, computed once per grid."""

    def __init__(self, weights: TowerWeights, device: torch.device) -> None:
        self._device = device
        size = weights.head_dim // 2
        self._inverse = 1.0 / (weights.rope_theta ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
        self._found: dict[CellGrid, Angles] = {}

    def of(self, grid: CellGrid) -> Angles:
        """float32 `[num_patches, 1, head_dim]` each: half of the frequencies for rows, half for columns, twice."""
        if grid not in self._found:
            if len(self._found) >= MOST_GRIDS:
                self._found.clear()
            freqs = (patch_positions(grid)[..., None].float() * self._inverse).flatten(1)
            angles = torch.cat([freqs, freqs], dim=-1)[:, None]
            self._found[grid] = angles.cos().to(self._device), angles.sin().to(self._device)
        return self._found[grid]


def encode(weights: TowerWeights, angles: GridAngles, batch: Sequence[FrameBatch]) -> list[torch.Tensor]:
    """Visual tokens of each entry, `[num_frames * num_cells, hidden]`; linear layers run over all of them at once."""
    hidden = F.linear(torch.cat([pictures.patches for pictures in batch]), *weights.patch)
    cos, sin = _angles_of(angles, batch)
    for layer in weights.layers:
        query, key, value = project(weights, layer, hidden, (cos, sin))
        mixed, start = [], 0
        for pictures in batch:
            shape = (weights.num_heads, pictures.num_frames, -1, weights.head_dim)
            stop = start + len(pictures.patches)
            shown = [part[:, start:stop].reshape(shape).transpose(0, 1) for part in (query, key, value)]
            seen = F.scaled_dot_product_attention(shown[0], shown[1], shown[2])
            mixed.append(seen.transpose(1, 2).reshape(stop - start, -1))
            start = stop
        hidden = finish(weights, layer, hidden, torch.cat(mixed) if len(mixed) > 1 else mixed[0])
    merged = merge(weights, hidden, [pictures.grid.merge for pictures in batch], [len(p.patches) for p in batch])
    tokens = readout(weights, torch.cat(merged) if len(merged) > 1 else merged[0])
    return list(tokens.split([len(part) for part in merged]))


def encode_in_pieces(
    weights: TowerWeights, angles: GridAngles, picture: FrameBatch, most: float, patch_cost: float
) -> Generator[float, None, torch.Tensor]:
    """`encode` of one picture in slices of its layers; yields the work of each piece before the piece runs.

    most, patch_cost: work of a piece and of a patch in one layer, in the same unit.
    """
    hidden = F.linear(picture.patches, *weights.patch)
    num_patches, rotation = len(hidden), angles.of(picture.grid)
    for layer in weights.layers:
        yield num_patches / len(weights.layers) / 4
        query, key, value = project(weights, layer, hidden, rotation)
        after = torch.empty_like(hidden)
        size = max(1, int(most / patch_cost))
        for start in range(0, num_patches, size):
            part = slice(start, min(start + size, num_patches))
            yield (part.stop - part.start) * patch_cost
            mixed = F.scaled_dot_product_attention(query[None, :, part], key[None], value[None])[0]
            after[part] = finish(weights, layer, hidden[part], mixed.transpose(0, 1).flatten(1))
        hidden = after
    return readout(weights, merge(weights, hidden, [picture.grid.merge], [num_patches])[0])


def project(weights: TowerWeights, layer: TowerLayer, hidden: torch.Tensor, angles: Angles) -> tuple[torch.Tensor, ...]:
    """Rotated queries and keys, and values: `[heads, num_patches, head_dim]` each."""
    heads = weights.num_heads
    normed = F.layer_norm(hidden, hidden.shape[-1:], *layer.norm, weights.eps)
    states = F.linear(normed, *layer.qkv).view(len(hidden), 3 * heads, weights.head_dim)
    rotated = rotate(states[:, : 2 * heads], *angles).to(states.dtype).transpose(0, 1)
    return rotated[:heads], rotated[heads:], states[:, 2 * heads :].transpose(0, 1)


def finish(weights: TowerWeights, layer: TowerLayer, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """The rest of a layer after its attention: `[num_patches, width]`."""
    hidden = hidden + F.linear(mixed, *layer.out)
    normed = F.layer_norm(hidden, hidden.shape[-1:], *layer.mlp_norm, weights.eps)
    return hidden + F.linear(weights.act(F.linear(normed, *layer.fc1)), *layer.fc2)


def merge(
    weights: TowerWeights, hidden: torch.Tensor, merges: Sequence[int], lengths: Sequence[int]
) -> list[torch.Tensor]:
    """Final norm, and one row for each cell, `[num_cells, width]`.

    The published code halves by bilinear interpolation, which for whole factors is the mean of the cell's middle: of
    its one patch, or its two by two.
    """
    hidden = F.layer_norm(hidden, hidden.shape[-1:], *weights.norm, weights.eps)
    merged = []
    for side, part in zip(merges, hidden.split(list(lengths)), strict=True):
        middle = slice((side - 1) // 2, side // 2 + 1)
        cells = part.view(-1, side, side, part.shape[-1])
        merged.append(cells[:, middle, middle].mean(dim=(1, 2)))
    return merged


def readout(weights: TowerWeights, merged: torch.Tensor) -> torch.Tensor:
    """The projector: `[num_cells, width]` to `[num_cells, hidden]` of the language model."""
    first, second = weights.readout
    return F.linear(F.gelu(F.linear(merged, *first)), *second)


def _angles_of(angles: GridAngles, batch: Sequence[FrameBatch]) -> Angles:
    if len(batch) == 1 and batch[0].num_frames == 1:
        return angles.of(batch[0].grid)
    found = [angles.of(pictures.grid) for pictures in batch for _ in range(pictures.num_frames)]
    return torch.cat([cos for cos, _ in found]), torch.cat([sin for _, sin in found])
