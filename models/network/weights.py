"""The tensors of a checkpoint as the forward pass reads them: per layer, with projections of the same input joined.

Joining takes the tensors over: the model's own parameters become views of the joined ones, so that no weight is in
memory twice and training, saving and transformers' modules go on working with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
    from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3VisionConfig

Tensors = Mapping[str, torch.Tensor]
"""Tensors by their names in `VideoLlama3ForConditionalGeneration`."""
Activation = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Weights of one layer of the language model."""

    norm: torch.Tensor
    qkv: torch.Tensor
    """`[(heads + 2 * kv_heads) * head_dim, hidden]`: queries, keys, values."""
    qkv_bias: torch.Tensor | None
    out: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    """`[2 * intermediate, hidden]`: gate, then up."""
    down: torch.Tensor


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """The language model."""

    embedding: torch.Tensor
    """`[vocab, hidden]`."""
    layers: tuple[DecoderLayer, ...]
    norm: torch.Tensor
    head: torch.Tensor
    """`[vocab, hidden]`; the embedding itself where they are tied."""
    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float
    act: Activation


@dataclass(frozen=True, slots=True)
class TowerLayer:
    """Weights of one layer of the vision tower: pairs of weight and bias."""

    norm: tuple[torch.Tensor, torch.Tensor]
    qkv: tuple[torch.Tensor, torch.Tensor]
    out: tuple[torch.Tensor, torch.Tensor]
    mlp_norm: tuple[torch.Tensor, torch.Tensor]
    fc1: tuple[torch.Tensor, torch.Tensor]
    fc2: tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class TowerWeights:
    """The vision tower and the projector."""

    patch: tuple[torch.Tensor, torch.Tensor]
    """The convolution over single patches as a matrix, `[hidden, values]`, and its bias."""
    layers: tuple[TowerLayer, ...]
    norm: tuple[torch.Tensor, torch.Tensor]
    readout: tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    num_heads: int
    head_dim: int
    rope_theta: float
    eps: float
    act: Activation

    @property
    def width(self) -> int:
        """Size of the tower's hidden states."""
        return self.num_heads * self.head_dim


def decoder_weights(config: Qwen2Config, tensors: Tensors) -> DecoderWeights:
    """The language model's weights; a missing `lm_head.weight` means a tied output embedding."""
    at = "model.language_model."
    embedding = tensors[f"{at}embed_tokens.weight"].data
    return DecoderWeights(
        embedding=embedding,
        layers=tuple(_decoder_layer(tensors, f"{at}layers.{index}.") for index in range(config.num_hidden_layers)),
        norm=tensors[f"{at}norm.weight"].data,
        head=tensors["lm_head.weight"].data if "lm_head.weight" in tensors else embedding,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads or config.num_attention_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        eps=config.rms_norm_eps,
        act=activation(config.hidden_act),
    )


def tower_weights(config: VideoLlama3VisionConfig, tensors: Tensors) -> TowerWeights:
    """The weights of the vision tower and the projector."""
    at = "model.vision_model."
    patch, depth = _pair(tensors, f"{at}embeddings.patch_embedding"), config.num_hidden_layers
    return TowerWeights(
        patch=(patch[0].flatten(1), patch[1]),
        layers=tuple(_tower_layer(tensors, f"{at}encoder.layers.{index}.") for index in range(depth)),
        norm=_pair(tensors, f"{at}post_layernorm"),
        readout=(_pair(tensors, "model.projector.readout.0"), _pair(tensors, "model.projector.readout.2")),
        num_heads=config.num_attention_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        rope_theta=cast("dict[str, float]", config.rope_parameters)["rope_theta"],
        eps=config.layer_norm_eps,
        act=activation(config.hidden_act),
    )


def joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One tensor with the rows of all parts, one after the other; the parts become views of it.

    Parts that lie in a row already, because they were joined before, are not copied again.
    """
    first = parts[0].data
    shape = (sum(len(part) for part in parts), *first.shape[1:])
    if _lie_in_a_row(parts):
        return first.as_strided(shape, first.stride())
    with torch.inference_mode(mode=False), torch.no_grad():
        whole = torch.cat([part.data for part in parts])
        for part, view in zip(parts, whole.split([len(part) for part in parts]), strict=True):
            part.data = view
    return whole


def activation(name: str) -> Activation:
    """The activation function of this name in transformers' configurations."""
    known: dict[str, Activation] = {
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    }
    if name in known:
        return known[name]
    from transformers.activations import ACT2FN

    found: Activation = ACT2FN[name]
    return found


def _decoder_layer(tensors: Tensors, at: str) -> DecoderLayer:
    def projections(kind: str) -> list[torch.Tensor]:
        return [tensors[f"{at}self_attn.{name}_proj.{kind}"] for name in "qkv"]

    return DecoderLayer(
        norm=tensors[f"{at}input_layernorm.weight"].data,
        qkv=joined(projections("weight")),
        qkv_bias=joined(projections("bias")) if f"{at}self_attn.q_proj.bias" in tensors else None,
        out=tensors[f"{at}self_attn.o_proj.weight"].data,
        mlp_norm=tensors[f"{at}post_attention_layernorm.weight"].data,
        gate_up=joined([tensors[f"{at}mlp.gate_proj.weight"], tensors[f"{at}mlp.up_proj.weight"]]),
        down=tensors[f"{at}mlp.down_proj.weight"].data,
    )


def _tower_layer(tensors: Tensors, at: str) -> TowerLayer:
    def joined_of(kind: str) -> torch.Tensor:
        return joined([tensors[f"{at}self_attn.{name}_proj.{kind}"] for name in "qkv"])

    return TowerLayer(
        norm=_pair(tensors, f"{at}layer_norm1"),
        qkv=(joined_of("weight"), joined_of("bias")),
        out=_pair(tensors, f"{at}self_attn.out_proj"),
        mlp_norm=_pair(tensors, f"{at}layer_norm2"),
        fc1=_pair(tensors, f"{at}mlp.fc1"),
        fc2=_pair(tensors, f"{at}mlp.fc2"),
    )


def _pair(tensors: Tensors, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return tensors[f"{name}.weight"].data, tensors[f"{name}.bias"].data


def _lie_in_a_row(parts: Sequence[torch.Tensor]) -> bool:
    at, storage = parts[0].storage_offset(), parts[0].untyped_storage().data_ptr()
    for part in parts:
        if part.untyped_storage().data_ptr() != storage or part.storage_offset() != at or not part.is_contiguous():
            return False
        at += part.numel()
    return True
