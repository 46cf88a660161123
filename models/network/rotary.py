"""Rotary position embeddings from tables that are computed once. The engine's thread owns them."""

from __future__ import annotations

from collections.abc import Callable

import torch

Frequencies = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""A language model's rotary embedding: (a tensor of the wanted dtype and device, positions `[1, n]`) to cos, sin."""

FIRST_POSITIONS = 1024


class RotaryTable:
    """cos and sin of every position, `[positions, head_dim]` in float32; the table doubles when it is too short."""

    def __init__(self, frequencies: Frequencies, device: torch.device) -> None:
        self._frequencies = frequencies
        self._device = device
        self.cos = self.sin = torch.empty(0, 0)
        self.reserve(FIRST_POSITIONS)

    def reserve(self, num_positions: int) -> None:
        """Make the table reach this many positions."""
        if num_positions <= len(self.cos):
            return
        positions = torch.arange(max(num_positions, 2 * len(self.cos)), device=self._device)
        sample = torch.empty(0, dtype=torch.float32, device=self._device)
        cos, sin = self._frequencies(sample, positions[None])
        self.cos, self.sin = cos[0], sin[0]

    def span(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin `[stop - start, head_dim]` of the positions from `start` to `stop`."""
        self.reserve(stop)
        return self.cos[start:stop], self.sin[start:stop]


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of `[..., head_dim]`, computed and returned in float32; cos and sin broadcast."""
    states = states.float()
    half = states.shape[-1] // 2
    turned = torch.cat([-states[..., half:], states[..., :half]], dim=-1)
    return states * cos + turned * sin
