"""Slots: the keys and values of one session over all layers, at fixed addresses. The engine's thread owns them.

Every layer stores rotated keys, unrotated keys and values. After an eviction the keys that stay are computed from the
unrotated ones, in float32, at contiguous positions, so that no key is rotated twice. What a fork appends at the end is
forgotten by a length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.network.rotary import RotaryTable, rotate


@dataclass(frozen=True, slots=True)
class SlotShape:
    """What one token takes in a slot."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token over all layers: rotated keys, unrotated keys and values."""
        return 3 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype.itemsize

    def new_layer(self, room: int) -> torch.Tensor:
        """Uninitialised `[3 * kv_heads, room, head_dim]`."""
        return torch.empty(3 * self.num_kv_heads, room, self.head_dim, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, slots=True)
class SlotLayer:
    """The filled part of one layer of a slot, as views `[kv_heads, length, head_dim]`."""

    keys: torch.Tensor
    unrotated_keys: torch.Tensor
    values: torch.Tensor


class Slot:
    """The memory of one session; positions are always 0 to length - 1."""

    def __init__(self, shape: SlotShape, rotary: RotaryTable, capacity: int) -> None:
        """capacity: tokens for which buffers are allocated, when the first of them comes."""
        self.shape = shape
        self.rotary = rotary
        self.capacity = capacity
        self.length = 0
        """Tokens in the slot."""
        self.states: list[torch.Tensor] = []
        """Per layer `[3 * kv_heads, room, head_dim]`: rotated keys, unrotated keys, values."""
        self.room = 0
        """Tokens that the buffers hold."""

    @property
    def num_bytes(self) -> int:
        """Memory of all buffers in bytes."""
        return self.room * self.shape.bytes_per_token

    @property
    def layers(self) -> list[SlotLayer]:
        """The filled part of every layer."""
        kv = self.shape.num_kv_heads
        filled = [states[:, : self.length] for states in self.states]
        return [SlotLayer(part[:kv], part[kv : 2 * kv], part[2 * kv :]) for part in filled]

    def set_capacity(self, capacity: int) -> None:
        """Set the number of tokens to allocate buffers for; present buffers move only where they become too small."""
        self.capacity = capacity
        if self.states and capacity > self.room:
            self._move(capacity)

    def make_room(self, num_tokens: int) -> None:
        """Have room for this many tokens in all: the capacity, and more where that is too small."""
        if num_tokens > self.room:
            self._move(max(num_tokens, self.capacity))
        self.rotary.reserve(num_tokens)

    def truncate(self, length: int) -> None:
        """Remove all tokens from position `length` on, as after a fork."""
        self.length = min(self.length, length)

    def keep(self, positions: np.ndarray) -> None:
        """Keep only these positions (int64, ascending) and close the gaps.

        If it fails, for example out of memory, some layers have moved and others have not; only the positions that stay
        in place are still valid.
        """
        if len(positions) and (positions[0] < 0 or positions[-1] >= self.length or (np.diff(positions) <= 0).any()):
            raise ValueError(f"positions to keep must ascend and lie in 0 to {self.length - 1}, got {positions}")
        shifted = positions != np.arange(len(positions))
        first = int(shifted.argmax()) if shifted.any() else len(positions)
        if first < len(positions):
            moved = torch.from_numpy(np.ascontiguousarray(positions[first:])).to(self.shape.device)
            cos, sin = self.rotary.span(first, len(positions))
            for index in range(self.shape.num_layers):
                self._compact(index, moved, first, cos, sin)
        self.length = len(positions)

    def adopt(self, tail: SlotTail) -> None:
        """Hold the tokens of a tail of this slot in place of its own.

        If it fails, some layers have other tokens than the rest.
        """
        for states, held in zip(self.states, tail.states, strict=True):
            filled = held[:, : tail.length]
            states[:, : tail.length] = filled.clone() if tail.length > tail.start else filled
        self.length = tail.length

    def _compact(self, index: int, moved: torch.Tensor, first: int, cos: torch.Tensor, sin: torch.Tensor) -> None:
        """Move the positions `moved` of one layer to `first` and after; rotate their keys with `cos` and `sin`."""
        kv, span = self.shape.num_kv_heads, slice(first, first + len(moved))
        survivors = self.states[index][kv:].index_select(1, moved)
        self.states[index][kv:, span] = survivors
        self.states[index][:kv, span] = rotate(survivors[:kv], cos, sin)

    def _move(self, room: int) -> None:
        """Move to larger buffers, one layer after the other."""
        if not self.states:
            self.states = [self.shape.new_layer(room) for _ in range(self.shape.num_layers)]
        else:
            for index, old in enumerate(self.states):
                new = self.shape.new_layer(room)
                new[:, : self.length] = old[:, : self.length]
                self.states[index] = new
        self.room = room


class SlotTail(Slot):
    """The end of another slot's buffers as a slot of its own, for tokens that are to take the place of the other's."""

    def __init__(self, whole: Slot, start: int) -> None:
        """start: the position in the other slot where it begins; it ends at the other's capacity."""
        super().__init__(whole.shape, whole.rotary, whole.capacity - start)
        self.start = start
        self.states = [states[:, start : whole.capacity] for states in whole.states]
        self.room = self.capacity
