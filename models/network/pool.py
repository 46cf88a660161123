"""A pool of slots of one size at fixed addresses, made once, so that captured CUDA graphs stay valid.

Sessions take slots and give them back when they are let go of. The engine's thread owns it.
"""

from __future__ import annotations

import weakref

import torch

from models.network.rotary import RotaryTable
from models.network.slots import Slot, SlotShape


class SlotPool:
    """`num_slots` slots of `room` tokens each, and one more that padded rows write to."""

    def __init__(self, shape: SlotShape, rotary: RotaryTable, num_slots: int, room: int) -> None:
        self.shape = shape
        self.rotary = rotary
        self.num_slots = num_slots
        self.room = room
        self.cos, self.sin = rotary.span(0, room)
        """float32 `[room, head_dim]`: angles of every position, which stay where they are when the table grows."""
        size = (num_slots + 1, 3 * shape.num_kv_heads, room, shape.head_dim)
        self.states = [torch.zeros(size, dtype=shape.dtype, device=shape.device) for _ in range(shape.num_layers)]
        """Per layer `[num_slots + 1, 3 * kv_heads, room, head_dim]`, as in `Slot.states`."""
        self._free = list(range(num_slots))

    @property
    def padding(self) -> int:
        """Index of the slot that belongs to no session."""
        return self.num_slots

    @property
    def num_free(self) -> int:
        """Slots that no session has."""
        return len(self._free)

    @property
    def num_bytes(self) -> int:
        """Memory of all slots in bytes."""
        return (self.num_slots + 1) * self.room * self.shape.bytes_per_token

    def take(self, capacity: int) -> PooledSlot | None:
        """An empty slot for `capacity` tokens; `None` where they do not fit, or none is free."""
        if capacity > self.room or not self._free:
            return None
        index = self._free.pop(0)
        slot = PooledSlot(self, index, capacity)
        weakref.finalize(slot, self._free.append, index)
        return slot


class PooledSlot(Slot):
    """A slot of a pool. It moves to buffers of its own only where it must hold more than the pool's slots do."""

    def __init__(self, pool: SlotPool, index: int, capacity: int) -> None:
        super().__init__(pool.shape, pool.rotary, capacity)
        self.pool = pool
        self.index = index
        self.states = [states[index] for states in pool.states]
        self.room = pool.room

    @property
    def has_next(self) -> bool:
        """Whether its tokens lie in the pool, with room for one more."""
        return self.room == self.pool.room and self.length < self.room
