"""A checkpoint's model as plain functions over its tensors: what the engine runs. The engine's thread owns it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
import torch.nn.functional as F

from models.network.decoder import Segment, packed_pass
from models.network.graphs import Capture, Chosen, StepGraphs
from models.network.pool import PooledSlot, SlotPool
from models.network.rotary import Frequencies, RotaryTable
from models.network.slots import Slot, SlotShape
from models.network.tower import FrameBatch, GridAngles, encode, encode_in_pieces
from models.network.weights import TowerWeights, decoder_weights, tower_weights
from models.network.work import patch_cost, picture_cost
from streaming.difffp.live import CellGrid

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration
    from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
    from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3VisionConfig

    from models.checkpoint.weights import LoadedWeights


class FrameEncoding(Protocol):
    """Encodes pictures: `VisionEncoder`, or transformers' modules."""

    def encode(self, patches: torch.Tensor, grid: CellGrid, num_frames: int = 1) -> torch.Tensor: ...

    def encode_batch(self, batch: Sequence[FrameBatch]) -> list[torch.Tensor]: ...

    def pieces(self, patches: torch.Tensor, grid: CellGrid, most: float) -> Generator[float, None, torch.Tensor]: ...


class ModelNetwork(Protocol):
    """What the engine runs: `Network`, or transformers' modules (`models.network.reference`)."""

    @property
    def encoder(self) -> FrameEncoding: ...

    @property
    def shape(self) -> SlotShape: ...

    def new_slot(self, capacity: int) -> Slot: ...

    def embed(self, ids: Sequence[int]) -> torch.Tensor: ...

    def logits(self, segments: Sequence[Segment]) -> list[torch.Tensor]: ...

    def next_tokens(self, segments: Sequence[Segment]) -> list[Chosen] | None: ...

    def close(self) -> None: ...


class VisionEncoder:
    """The checkpoint's vision tower and projector."""

    def __init__(self, weights: TowerWeights) -> None:
        self._weights = weights
        patch = weights.patch[0]
        self._device, self._dtype = patch.device, patch.dtype
        self._angles = GridAngles(weights, patch.device)

    @classmethod
    def of(cls, model: VideoLlama3ForConditionalGeneration) -> VisionEncoder:
        """The encoder of a loaded model."""
        return cls(tower_weights(_vision_config(model), dict(model.named_parameters())))

    def encode(self, patches: torch.Tensor, grid: CellGrid, num_frames: int = 1) -> torch.Tensor:
        """Visual tokens of frames of one grid: `[num_frames * num_patches, values]` → `[num_frames * num_cells,
        hidden]`.

        Frames do not attend to each other, so encoding them one by one gives the same tokens.
        """
        return self.encode_batch([FrameBatch(patches, grid, num_frames)])[0]

    def encode_batch(self, batch: Sequence[FrameBatch]) -> list[torch.Tensor]:
        """`encode` of frames of any grids, in one pass."""
        return encode(self._weights, self._angles, [self._placed(pictures) for pictures in batch])

    def pieces(self, patches: torch.Tensor, grid: CellGrid, most: float) -> Generator[float, None, torch.Tensor]:
        """Encode one picture in pieces of at most `most` patches of work; yields the work of each piece before it runs.

        A picture with no more work than that is one piece.
        """
        cost = picture_cost(len(patches), self._weights.width)
        if cost <= most:
            yield cost
            return self.encode(patches, grid)
        in_layer = patch_cost(len(patches), self._weights.width) / len(self._weights.layers)
        picture = self._placed(FrameBatch(patches, grid))
        return (yield from encode_in_pieces(self._weights, self._angles, picture, most, in_layer))

    def _placed(self, pictures: FrameBatch) -> FrameBatch:
        return FrameBatch(pictures.patches.to(self._device, self._dtype), pictures.grid, pictures.num_frames)


class Network:
    """Vision tower, projector and language model of a checkpoint."""

    def __init__(self, model: VideoLlama3ForConditionalGeneration | LoadedWeights) -> None:
        """Takes the model's tensors over: its parameters become views of joined ones (`models.network.weights`)."""
        language, tensors = cast("Qwen2Config", model.config.text_config), dict(model.named_parameters())
        self._decoder = decoder_weights(language, tensors)
        table = self._decoder.embedding
        self.encoder = VisionEncoder(tower_weights(_vision_config(model), tensors))
        self.shape = SlotShape(
            num_layers=len(self._decoder.layers),
            num_kv_heads=self._decoder.num_kv_heads,
            head_dim=self._decoder.head_dim,
            dtype=table.dtype,
            device=table.device,
        )
        self._rotary = RotaryTable(frequencies_of(language), table.device)
        self._pool: SlotPool | None = None
        self._graphs: StepGraphs | None = None

    def reserve(self, num_slots: int, room: int, capture: Capture) -> Iterator[tuple[int, int]]:
        """Make a pool of slots of `room` tokens and capture the steps on them; yields how many of how many are done.

        Before the first session.
        """
        self._pool = SlotPool(self.shape, self._rotary, num_slots, room)
        self._graphs = StepGraphs(self._decoder, self._pool, capture)
        yield from self._graphs.warm_up()

    def new_slot(self, capacity: int) -> Slot:
        """An empty slot for one session: of the pool, where there is one and a slot of it is large enough and free."""
        pooled = self._pool.take(capacity) if self._pool is not None else None
        return pooled or Slot(self.shape, self._rotary, capacity)

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """`[num_ids, hidden]`: embeddings of token ids."""
        table = self._decoder.embedding
        return F.embedding(torch.tensor(list(ids), dtype=torch.long, device=table.device), table)

    def logits(self, segments: Sequence[Segment]) -> list[torch.Tensor]:
        """One packed pass: logits `[num_wanted, vocab]` at each segment's wanted rows; slots grow by the trunks."""
        hidden = packed_pass(self._decoder, self._rotary, segments)
        rows = torch.cat(hidden) if len(hidden) > 1 else hidden[0]
        return list(F.linear(rows, self._decoder.head).split([len(part) for part in hidden]))

    def next_tokens(self, segments: Sequence[Segment]) -> list[Chosen] | None:
        """`logits` for segments of one token each in slots of the pool, with the choice made on the device.

        `None` for all others.
        """
        slots = [segment.slot for segment in segments if isinstance(segment.slot, PooledSlot) and segment.slot.has_next]
        is_single = all(
            segment.num_rows == 1 and segment.wanted == (0,) and not segment.branches for segment in segments
        )
        if self._graphs is None or not is_single or len(slots) < len(segments) or len(slots) > self._graphs.most_rows:
            return None
        return self._graphs.run(slots, torch.cat([segment.embeddings for segment in segments]))

    def close(self) -> None:
        """Nothing to give back: the model was not changed."""


def frequencies_of(config: Qwen2Config) -> Frequencies:
    """The rotary embedding of a language model's configuration."""
    parameters = cast("dict[str, Any]", config.rope_parameters)
    if parameters["rope_type"] != "default":
        from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

        embedding: Frequencies = Qwen2RotaryEmbedding(config)
        return embedding
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    inverse = 1.0 / (parameters["rope_theta"] ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))

    def plain(sample: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        half = positions[..., None].float() * inverse.to(positions.device)
        angles = torch.cat([half, half], dim=-1)
        return angles.cos().to(sample.dtype), angles.sin().to(sample.dtype)

    return plain


def _vision_config(model: VideoLlama3ForConditionalGeneration | LoadedWeights) -> VideoLlama3VisionConfig:
    return cast("VideoLlama3VisionConfig", model.config.vision_config)
