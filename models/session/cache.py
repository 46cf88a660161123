"""The rolling key-value cache of one session: evicts positions, moves the rest up, and rotates no key twice.

Every layer stores values, rotated keys, and unrotated keys. After an eviction the keys that stay are computed from the
unrotated ones, in float32, at contiguous positions. The engine's thread owns the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration

Rotary = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""A language model's rotary embedding: (a tensor of the wanted dtype and device, positions `[1, n]`) → cos, sin."""

MIN_ROOM = 256
"""Initial buffer size of a layer, in tokens."""


class RollingLayer(CacheLayerMixin):
    """The cache of one layer: preallocated buffers `[1, heads, room, head_dim]`, filled up to `length`."""

    is_sliding = False
    is_croppable = True
    keys: torch.Tensor
    """`[1, heads, length, head_dim]`: rotated keys, a view of the filled part of the buffer."""
    values: torch.Tensor
    """`[1, heads, length, head_dim]`: values, a view likewise."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers has no annotation there
        self.length = 0
        self.capacity = capacity
        self._buffers: list[torch.Tensor] = []
        self._stash: torch.Tensor | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the buffers: rotated keys, values, unrotated keys, in that order."""
        self.dtype, self.device = key_states.dtype, key_states.device
        room = min(MIN_ROOM, self.capacity)
        shapes = [key_states.shape, value_states.shape, key_states.shape]
        self._buffers = [key_states.new_empty((1, shape[1], room, shape[3])) for shape in shapes]
        self.is_initialized = True

    @property
    def unrotated_keys(self) -> torch.Tensor:
        """`[1, heads, length, head_dim]`: the keys before rotation."""
        return self._buffers[2][:, :, : self.length]

    @property
    def num_bytes(self) -> int:
        """Memory of the buffers in bytes."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self._buffers)

    def stash(self, unrotated_keys: torch.Tensor) -> None:
        """Store the unrotated keys `[1, heads, n, head_dim]` for the next `update`."""
        self._stash = unrotated_keys

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; returns views of all of them, `[1, heads, length, head_dim]`."""
        unrotated, self._stash = self._stash, None
        if unrotated is None or unrotated.shape != key_states.shape:
            raise RuntimeError("a rolling cache needs its KeyTap: run the model inside `with tap.feeding(cache)`")
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[-2]
        self._make_room(self.length)
        for buffer, states in zip(self._buffers, (key_states, value_states, unrotated), strict=True):
            buffer[:, :, start : self.length] = states
        return self._show()

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length of the keys after appending `query_length` tokens, and the offset of the first key."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last `-tokens_to_remove` tokens; counts are negative, as in transformers."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop({tokens_to_remove}): a count to remove is negative; use truncate for a length")
        self.truncate(max(0, self.length + tokens_to_remove))

    def truncate(self, length: int) -> None:
        """Remove all tokens from position `length` on."""
        self._stash = None
        if length < self.length:
            self.length = length
            self._show()

    def reset(self) -> None:
        self.truncate(0)

    def compact(self, moved: torch.Tensor, first: int, cos: torch.Tensor, sin: torch.Tensor) -> None:
        """Keep the positions below `first` and those in `moved`; rotate the latter's keys with `cos` and `sin`
        (float32)."""
        keys, values, unrotated = self._buffers
        self.length = first + len(moved)
        span = slice(first, self.length)
        values[:, :, span] = values.index_select(2, moved)
        survivors = unrotated.index_select(2, moved)
        unrotated[:, :, span] = survivors
        keys[:, :, span] = rotate(survivors, cos, sin)
        self._show()

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        raise RuntimeError("a rolling cache holds one stream; beams would need a cache each")

    def _make_room(self, length: int) -> None:
        room = self._buffers[0].shape[2]
        if length <= room:
            return
        doubled = min(2 * room, self.capacity)
        room = doubled if doubled >= length else length + MIN_ROOM
        grown = [buffer.new_empty((1, buffer.shape[1], room, buffer.shape[3])) for buffer in self._buffers]
        for new, old in zip(grown, self._buffers, strict=True):
            new[:, :, : old.shape[2]] = old
        self._buffers = grown

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._buffers[0][:, :, : self.length], self._buffers[1][:, :, : self.length]
        self.keys, self.values = keys, values
        return keys, values


class RollingCache(Cache):
    """The cache of one session over all layers; positions are always 0 … length − 1."""

    layers: list[RollingLayer]  # type: ignore[assignment]

    def __init__(self, num_layers: int, rotary: Rotary, capacity: int = 8192) -> None:
        """capacity: number of tokens up to which the buffers grow by doubling; above it they grow by what is needed."""
        super().__init__(layers=[RollingLayer(capacity) for _ in range(num_layers)])
        self._rotary = rotary

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self.layers[0].length

    @property
    def is_torn(self) -> bool:
        """Whether layers hold different numbers of tokens, as after a change that failed between two layers."""
        return any(layer.length != self.length for layer in self.layers)

    @property
    def num_bytes(self) -> int:
        """Memory of all buffers in bytes."""
        return sum(layer.num_bytes for layer in self.layers)

    @property
    def capacity(self) -> int:
        """Number of tokens up to which the buffers grow by doubling."""
        return self.layers[0].capacity

    def set_capacity(self, capacity: int) -> None:
        """Set the number of tokens up to which the buffers grow by doubling."""
        for layer in self.layers:
            layer.capacity = capacity

    def truncate(self, length: int) -> None:
        """Remove all tokens from position `length` on, as after a fork or a failed forward pass."""
        for layer in self.layers:
            layer.truncate(length)

    def keep(self, positions: np.ndarray) -> None:
        """Keep only these positions (int64, ascending) and close the gaps.

        If it fails, for example out of memory, some layers have moved and others have not; only the positions that stay
        in place are still valid.
        """
        if len(positions) and (positions[0] < 0 or positions[-1] >= self.length or (np.diff(positions) <= 0).any()):
            raise ValueError(f"positions to keep must ascend and lie in 0 to {self.length - 1}, got {positions}")
        shifted = positions != np.arange(len(positions))
        first = int(shifted.argmax()) if len(shifted) else 0
        if first == 0 and not shifted[:1].any():
            self.truncate(len(positions))
            return
        moved = torch.from_numpy(np.ascontiguousarray(positions[first:])).to(self.layers[0].device)
        cos, sin = self.angles(first, len(positions))
        for layer in self.layers:
            layer.compact(moved, first, cos, sin)

    def angles(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin `[1, 1, stop - start, head_dim]` for the positions from `start` to `stop`, float32."""
        device = self.layers[0].device
        sample = torch.empty(0, dtype=torch.float32, device=device)
        cos, sin = self._rotary(sample, torch.arange(start, stop, device=device)[None])
        return cos[:, None], sin[:, None]


class KeyTap:
    """Passes each layer's unrotated keys to the cache in use, through hooks on the key projections.

    transformers gives a cache only rotated keys, and undoing a rotation in bfloat16 is not exact.
    """

    def __init__(self, model: VideoLlama3ForConditionalGeneration) -> None:
        self._cache: RollingCache | None = None
        self._handles = []
        for index, layer in enumerate(model.model.language_model.layers):
            attention = layer.self_attn
            self._handles.append(attention.k_proj.register_forward_hook(self._hook(index, attention.head_dim)))

    def _hook(self, index: int, head_dim: int) -> Callable[..., None]:
        def stash(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
            if self._cache is not None:
                states = output.view(*output.shape[:-1], -1, head_dim).transpose(1, 2)
                self._cache.layers[index].stash(states)

        return stash

    @contextmanager
    def feeding(self, cache: RollingCache) -> Iterator[None]:
        """Context in which forward passes of the model write to `cache`."""
        self._cache = cache
        try:
            yield
        finally:
            self._cache = None

    def remove(self) -> None:
        """Remove the hooks from the model."""
        for handle in self._handles:
            handle.remove()


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of `[1, heads, n, head_dim]`, computed and returned in float32."""
    states = states.float()
    half = states.shape[-1] // 2
    turned = torch.cat([-states[..., half:], states[..., :half]], dim=-1)
    return states * cos + turned * sin
