"""Checkpoints with random weights of the released sizes, made on the device and never written to a disk.

Speed does not depend on what weights say. The tokenizer is the tiny checkpoint's, whose ids fit any vocabulary here.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.models.video_llama_3.modeling_video_llama_3 import VideoLlama3ForConditionalGeneration

from models.checkpoint.fake import make_checkpoint
from models.checkpoint.layouts import build_config
from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.checkpoint.weights import OUTPUT_HEAD, LoadedWeights, fill_buffers

if TYPE_CHECKING:
    from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3Config

TINY = "tiny"

_SHARED: dict[str, Any] = {
    "model_type": "videollama3_qwen2",
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "use_sliding_window": False,
    "vision_encoder_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "patch_size": 14,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "attention_dropout": 0.0,
    },
}
RELEASED: dict[str, dict[str, Any]] = {
    "2b": {
        **_SHARED,
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "7b": {
        **_SHARED,
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}
"""Qwen2.5-1.5B and Qwen2.5-7B, each under SigLIP-so400m, as the released `config.json` files have them."""
SIZES = (TINY, *RELEASED)


def random_checkpoint(size: str, *, device: str = "auto", seed: int = 0) -> Checkpoint:
    """A checkpoint of one of `SIZES`, in bfloat16 on a GPU and float32 elsewhere.

    device: as `load_checkpoint` takes it. Raises `CheckpointError` for a device that is not there.
    """
    threads = None if size == TINY else torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        tiny = load_checkpoint(make_checkpoint(Path(folder) / TINY, seed=seed), device=device, threads=threads)
    if size == TINY:
        return replace(tiny, name=TINY)
    values = {**RELEASED[size], "image_token_index": tiny.special.image}
    config = build_config(values, has_output_head=not values["tie_word_embeddings"])
    model = _random_model(config, tiny.device, tiny.dtype, seed)
    return replace(tiny, name=size, weights=LoadedWeights.of(model, tiny.device))


def _random_model(
    config: VideoLlama3Config, device: torch.device, dtype: torch.dtype, seed: int
) -> VideoLlama3ForConditionalGeneration:
    """Built without memory and filled tensor by tensor as `load_weights` does it, from a generator instead of files."""
    with torch.device("meta"):
        model = VideoLlama3ForConditionalGeneration(config)
    generator = torch.Generator(device).manual_seed(seed)
    tensors = {}
    for name, like in model.state_dict().items():
        if config.tie_word_embeddings and name == OUTPUT_HEAD:
            continue
        tensor = torch.empty(like.shape, dtype=dtype, device=device)
        if tensor.dim() > 1:
            tensors[name] = tensor.normal_(std=0.02, generator=generator)
        else:
            tensors[name] = tensor.fill_(0.0 if name.endswith("bias") else 1.0)
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()
    fill_buffers(model, device)
    model.requires_grad_(False).eval()
    return model
