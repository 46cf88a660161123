"""Tiny checkpoints with random weights, complete with tokenizer and settings, for tests and demonstrations.

Written in either layout, so that they take the same loading path as the published weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint.bpe import END_OF_TEXT, write_tokenizer
from models.checkpoint.layouts import Layout, released_key
from models.checkpoint.settings import STREAM_CONFIG_NAME, StreamSettings
from models.checkpoint.weights import INDEX_FILE, SINGLE_FILE
from models.prompt import IM_END, IM_START, IMAGE_TOKEN, STREAM_END, STREAM_START, TEMPLATE_PATH

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase
    from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3Config

SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END, IMAGE_TOKEN, STREAM_START, STREAM_END)
_CORPUS = (
    "system user assistant stream Time Yes No yes no You are a helpful assistant to help people understand images and "
    "videos . A red circle enters on the left . A blue square leaves on the right . How many circles are there ? "
    "Tell me only when a green triangle appears . What is happening ? created by Alibaba DAMO Academy VideoLLaMA"
)
_NUM_MERGES_TOKENS = 420


@dataclass(frozen=True, slots=True)
class FakeSizes:
    """Sizes of the fake model."""

    hidden: int = 32
    layers: int = 2
    heads: int = 4
    key_value_heads: int = 2
    vision_hidden: int = 24
    vision_layers: int = 2
    vision_heads: int = 2


def make_checkpoint(
    folder: Path,
    *,
    layout: Layout = "released",
    tied: bool = True,
    num_shards: int = 1,
    seed: int = 0,
    sizes: FakeSizes | None = None,
    stream: StreamSettings | None = None,
) -> Path:
    """Write a checkpoint with random weights into `folder`, which is created; returns the folder.

    stream: settings for `stream_config.json`; no file is written where `None`.
    """
    import torch
    from transformers.models.video_llama_3.modeling_video_llama_3 import VideoLlama3ForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder, [_CORPUS] * 2, SPECIAL_TOKENS, vocab_size=_NUM_MERGES_TOKENS)
    config = _config(tokenizer, sizes or FakeSizes(), tied)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VideoLlama3ForConditionalGeneration(config)
        # Larger weights than transformers' defaults, so that a picture's content changes the logits.
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not (tied and name == "lm_head.weight")}
    if layout == "released":
        tensors = {released_key(name): tensor for name, tensor in tensors.items()}
    write_weights(folder, tensors, num_shards)
    _write_json(folder / "config.json", _released_config(config) if layout == "released" else config.to_dict())
    _write_settings(folder, layout)
    if stream is not None:
        _write_json(folder / STREAM_CONFIG_NAME, stream.to_dict())
    return folder


def write_weights(folder: Path, tensors: dict[str, torch.Tensor], num_shards: int = 1) -> None:
    """Save tensors as one safetensors file, or as shards with an index."""
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if num_shards == 1:
        save_file(tensors, folder / SINGLE_FILE, metadata={"format": "pt"})
        return
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number in range(num_shards):
        file = f"model-{number + 1:05}-of-{num_shards:05}.safetensors"
        shard = {name: tensors[name] for name in names[number::num_shards]}
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    _write_json(folder / INDEX_FILE, {"metadata": {"total_size": size}, "weight_map": weight_map})


def _config(tokenizer: PreTrainedTokenizerBase, sizes: FakeSizes, tied: bool) -> VideoLlama3Config:
    from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
    from transformers.models.video_llama_3.configuration_video_llama_3 import (
        VideoLlama3Config,
        VideoLlama3VisionConfig,
    )

    text = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=sizes.hidden,
        intermediate_size=3 * sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_value_heads,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=tied,
    )
    vision = VideoLlama3VisionConfig(
        hidden_size=sizes.vision_hidden,
        intermediate_size=3 * sizes.vision_hidden,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        patch_size=14,
    )
    (image,) = tokenizer.encode(IMAGE_TOKEN)
    return VideoLlama3Config(text_config=text, vision_config=vision, image_token_id=image, tie_word_embeddings=tied)


def _released_config(config: VideoLlama3Config) -> dict[str, Any]:
    """The configuration as the released checkpoints write it: the language model's values at the top level, old rope
    keys."""
    whole = config.to_dict()
    text, vision = whole["text_config"], whole["vision_config"]
    rope = text.pop("rope_parameters")
    for computed in ("layer_types", "model_type"):
        text.pop(computed, None)
    vision.pop("rope_parameters", None)
    return {
        **text,
        "architectures": ["Videollama3Qwen2ForCausalLM"],
        "model_type": "videollama3_qwen2",
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None,
        "image_token_index": config.image_token_id,
        "mm_projector_type": "mlp2x_gelu",
        "use_token_compression": True,
        "vision_encoder": None,
        "vision_encoder_config": {**vision, "model_type": "videollama3_vision_encoder"},
    }


def _write_settings(folder: Path, layout: Layout) -> None:
    template = TEMPLATE_PATH.read_text(encoding="utf-8")
    half = [0.5, 0.5, 0.5]
    shared = {"image_mean": half, "image_std": half, "patch_size": 14}
    if layout == "released":
        _write_json(folder / "chat_template.json", {"chat_template": template})
        _write_json(
            folder / "preprocessor_config.json",
            {**shared, "image_processor_type": "Videollama3ImageProcessor", "min_tokens": 16, "max_tokens": 16384},
        )
        processor = {"image_merge_size": 1, "video_merge_size": 2, "fps": 1, "max_frames": 180}
        _write_json(folder / "processor_config.json", processor)
    else:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        size = {"shortest_edge": 16 * 14 * 14, "longest_edge": 16384 * 14 * 14}
        _write_json(
            folder / "preprocessor_config.json",
            {**shared, "image_processor_type": "VideoLlama3ImageProcessor", "size": size, "merge_size": 1},
        )
    _write_json(folder / "generation_config.json", {"do_sample": False})


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
