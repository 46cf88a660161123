"""transformers' own modules behind the engine's interface: the reference of the tests and the baseline of benchmarks.

A cache of transformers' kind writes to a slot, and hooks on the key projections catch the keys before their rotation,
which transformers does not hand to a cache. The engine's thread owns it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from models.network.decoder import Segment
from models.network.graphs import Chosen
from models.network.rotary import RotaryTable
from models.network.slots import Slot, SlotShape
from models.network.tower import FrameBatch
from models.network.work import picture_cost
from streaming.difffp.live import CellGrid

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration


class ReferenceLayer(CacheLayerMixin):
    """One layer of a slot as transformers writes to it."""

    is_sliding = False
    is_croppable = True

    def __init__(self, slot: Slot, index: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers has no annotation there
        self.slot = slot
        self.length = slot.length
        self.is_initialized = True
        self._index = index
        self._stash: torch.Tensor | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """The slot has its buffers."""

    def stash(self, unrotated_keys: torch.Tensor) -> None:
        """Store the unrotated keys `[1, heads, n, head_dim]` for the next `update`."""
        self._stash = unrotated_keys

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; returns views of all of them, `[1, heads, length, head_dim]`."""
        unrotated, self._stash = self._stash, None
        if unrotated is None or unrotated.shape != key_states.shape:
            raise RuntimeError("a slot needs unrotated keys: run the model inside `with tap.feeding(cache)`")
        start, self.length = self.length, self.length + key_states.shape[-2]
        self.slot.make_room(self.length)
        kv, states = self.slot.shape.num_kv_heads, self.slot.states[self._index]
        for part, new in enumerate((key_states, unrotated, value_states)):
            states[part * kv : (part + 1) * kv, start : self.length] = new[0]
        filled = states[:, : self.length]
        self.keys, self.values = filled[:kv][None], filled[2 * kv :][None]
        return self.keys, self.values

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
            raise ValueError(f"crop({tokens_to_remove}): a count to remove is negative")
        self.length = max(0, self.length + tokens_to_remove)

    def reset(self) -> None:
        self.length = 0

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        raise RuntimeError("a slot holds one stream; beams would need a slot each")


class ReferenceCache(Cache):
    """A slot as a cache of transformers; `commit` makes the slot as long as the cache."""

    layers: list[ReferenceLayer]  # type: ignore[assignment]

    def __init__(self, slot: Slot) -> None:
        super().__init__(layers=[ReferenceLayer(slot, index) for index in range(slot.shape.num_layers)])
        self.slot = slot

    def commit(self, num_dropped: int = 0) -> None:
        """Keep what was appended, without the last `num_dropped` tokens."""
        lengths = {layer.length for layer in self.layers}
        if len(lengths) != 1:
            raise RuntimeError("a forward pass updated only some layers of its cache: its tokens are removed again")
        self.slot.length = lengths.pop() - num_dropped


class KeyTap:
    """Passes each layer's unrotated keys to the cache in use, through hooks on the key projections.

    transformers gives a cache only rotated keys, and undoing a rotation in bfloat16 is not exact.
    """

    def __init__(self, model: VideoLlama3ForConditionalGeneration) -> None:
        self._cache: ReferenceCache | None = None
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
    def feeding(self, cache: ReferenceCache) -> Iterator[None]:
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


class ReferenceEncoder:
    """transformers' vision tower and projector."""

    def __init__(self, model: VideoLlama3ForConditionalGeneration) -> None:
        self._model = model.model
        parameter = next(model.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype

    def encode(self, patches: torch.Tensor, grid: CellGrid, num_frames: int = 1) -> torch.Tensor:
        """`VisionEncoder.encode`."""
        rows, cols = grid.rows * grid.merge, grid.cols * grid.merge
        vision = self._model.vision_model(
            pixel_values=patches.to(self._device, self._dtype),
            grid_thw=torch.tensor([[num_frames, rows, cols]], device=self._device),
            merge_sizes=torch.tensor([grid.merge], device=self._device),
            return_dict=True,
        )
        projected: torch.Tensor = self._model.projector(vision.last_hidden_state)
        return projected

    def encode_batch(self, batch: Sequence[FrameBatch]) -> list[torch.Tensor]:
        """One entry after the other."""
        return [self.encode(pictures.patches, pictures.grid, pictures.num_frames) for pictures in batch]

    def pieces(self, patches: torch.Tensor, grid: CellGrid, most: float) -> Generator[float, None, torch.Tensor]:
        """The whole picture as one piece."""
        yield picture_cost(len(patches), self._model.vision_model.config.hidden_size)
        return self.encode(patches, grid)


class ReferenceNetwork:
    """transformers' modules, one request after the other."""

    def __init__(self, model: VideoLlama3ForConditionalGeneration) -> None:
        self._model = model
        self._tap = KeyTap(model)
        language = model.model.language_model
        attention, table = language.layers[0].self_attn, language.embed_tokens.weight
        self.encoder = ReferenceEncoder(model)
        self.shape = SlotShape(
            num_layers=len(language.layers),
            num_kv_heads=attention.k_proj.out_features // attention.head_dim,
            head_dim=attention.head_dim,
            dtype=table.dtype,
            device=table.device,
        )
        self._rotary = RotaryTable(language.rotary_emb, table.device)

    def new_slot(self, capacity: int) -> Slot:
        """An empty slot for one session."""
        return Slot(self.shape, self._rotary, capacity)

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """`[num_ids, hidden]`: embeddings of token ids."""
        table = self._model.model.language_model.embed_tokens
        embedded: torch.Tensor = table(torch.tensor(list(ids), dtype=torch.long, device=self.shape.device))
        return embedded

    def logits(self, segments: Sequence[Segment]) -> list[torch.Tensor]:
        """Logits at each segment's wanted rows, one pass for each trunk and each branch."""
        return [self._of_segment(segment) for segment in segments]

    def next_tokens(self, segments: Sequence[Segment]) -> list[Chosen] | None:
        """`None`: there are no captured steps."""
        return None

    def close(self) -> None:
        """Remove the hooks from the model."""
        self._tap.remove()

    def _of_segment(self, segment: Segment) -> torch.Tensor:
        trunk, *branches = segment.embeddings.split([segment.num_trunk, *segment.branches])
        before = segment.slot.length
        try:
            hidden = [self._hidden(segment.slot, trunk)] if len(trunk) else []
            hidden += [self._hidden(segment.slot, branch, num_dropped=len(branch)) for branch in branches]
        except BaseException:
            segment.slot.truncate(before)
            raise
        wanted = torch.tensor(segment.wanted, dtype=torch.long, device=self.shape.device)
        logits: torch.Tensor = self._model.lm_head(torch.cat(hidden)[wanted])
        return logits

    def _hidden(self, slot: Slot, embeddings: torch.Tensor, num_dropped: int = 0) -> torch.Tensor:
        slot.make_room(slot.length + len(embeddings))
        cache = ReferenceCache(slot)
        positions = torch.arange(slot.length, slot.length + len(embeddings), device=embeddings.device)
        with self._tap.feeding(cache):
            hidden: torch.Tensor = self._model.model.language_model(
                inputs_embeds=embeddings[None], position_ids=positions[None], past_key_values=cache, use_cache=True
            ).last_hidden_state[0]
        cache.commit(num_dropped)
        return hidden
