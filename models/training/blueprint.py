"""The embedded checkpoint before training: its sizes, its tokenizer, and the files of its folder in the native layout.

Used by the training command only. Writes everything that a checkpoint folder needs besides trained weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.checkpoint.bpe import END_OF_TEXT, write_tokenizer
from models.checkpoint.settings import STREAM_CONFIG_NAME, SpeakingSettings, StreamSettings
from models.eviction import WindowSettings
from models.groundtruth.instructions import REMARK_CHECK
from models.prompt import DEFAULT_SYSTEM, IM_END, IM_START, IMAGE_TOKEN, STREAM_END, STREAM_START, TEMPLATE_PATH

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, VideoLlama3Config, VideoLlama3ForConditionalGeneration

SPECIAL_TOKENS = (
    END_OF_TEXT,
    IM_START,
    IM_END,
    STREAM_START,
    STREAM_END,
    IMAGE_TOKEN,
    "<|reserved_0|>",
    "<|reserved_1|>",
)
FRAME_PHRASES = ("stream\nTime ", ".0s: ", ".5s: ", "s: ")
"""Repeated texts of a frame's wrapper that become one token each, which halves the cost of a still frame."""
MAX_VOCAB = 2048


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a small VideoLLaMA 3."""

    vision_hidden: int = 128
    vision_layers: int = 4
    vision_heads: int = 4
    vision_inner: int | None = None
    """Inner width of the vision tower's feed-forward layers; `None` for three times the hidden width."""
    hidden: int = 192
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    inner: int | None = None
    """Inner width of the language model's feed-forward layers; `None` for 8/3 of the hidden width, as gated layers
    use."""
    patch_px: int = 14


EMBEDDED_SIZES = Sizes(vision_inner=768, inner=1024)
"""Sizes of the checkpoint in this repository."""


def model_config(tokenizer: PreTrainedTokenizerBase, sizes: Sizes) -> VideoLlama3Config:
    """The configuration of a small VideoLLaMA 3 for `tokenizer`; the vocabulary is rounded up to a multiple of 16."""
    from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3Config

    vocab = -(-len(tokenizer) // 16) * 16
    end = tokenizer.convert_tokens_to_ids(IM_END)
    return VideoLlama3Config(
        text_config={
            "model_type": "qwen2",
            "vocab_size": vocab,
            "hidden_size": sizes.hidden,
            "intermediate_size": sizes.inner or sizes.hidden * 8 // 3 // 16 * 16,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.kv_heads,
            "max_position_embeddings": 16384,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "tie_word_embeddings": True,
            "eos_token_id": end,
            "bos_token_id": None,
            "pad_token_id": tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        },
        vision_config={
            "hidden_size": sizes.vision_hidden,
            "intermediate_size": sizes.vision_inner or sizes.vision_hidden * 3,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "patch_size": sizes.patch_px,
        },
        image_token_id=int(tokenizer.encode(IMAGE_TOKEN, add_special_tokens=False)[0]),
        tie_word_embeddings=True,
    )


def embedded_stream_settings() -> StreamSettings:
    """The embedded checkpoint's settings for sessions: a small grid, and the black border it was trained with."""
    return StreamSettings(
        max_cells=32,
        border_px=2,
        fps=2.0,
        max_shown_time_s=100.0,
        rebase_keep_s=50.0,
        window=WindowSettings(vision_low=1600, vision_high=2000, text_low=640, text_high=800),
        speaking=SpeakingSettings(
            decision="trained",
            remarks_per_s=0.15,
            refractory_s=0.4,
            max_comment_tokens=24,
            max_answer_tokens=48,
            remark_check=REMARK_CHECK,
        ),
    )


def write_checkpoint_files(folder: Path, settings: StreamSettings, patch_px: int = 14) -> None:
    """Write the small files of a native-layout folder: preprocessor, template, generation and stream settings."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocessor = {
        "image_processor_type": "VideoLlama3ImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "patch_size": patch_px,
        "min_tokens": 4,
        "max_tokens": 1024,
        "merge_size": 1,
    }
    processor = {"image_merge_size": 1, "video_merge_size": 2, "fps": 2, "max_frames": 180}
    _write_json(folder / "preprocessor_config.json", preprocessor)
    _write_json(folder / "processor_config.json", processor)
    _write_json(folder / STREAM_CONFIG_NAME, settings.to_dict())
    template = TEMPLATE_PATH.read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def new_model(folder: Path, sentences: Iterable[str], sizes: Sizes, seed: int) -> VideoLlama3ForConditionalGeneration:
    """A model with random weights from `seed`; writes all files of its folder except the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*sentences, DEFAULT_SYSTEM, *_format_sentences()]
    tokenizer = write_tokenizer(folder, words, SPECIAL_TOKENS, vocab_size=MAX_VOCAB, phrases=FRAME_PHRASES)
    write_checkpoint_files(folder, embedded_stream_settings(), sizes.patch_px)
    return random_model(tokenizer, sizes, seed)


def random_model(tokenizer: PreTrainedTokenizerBase, sizes: Sizes, seed: int) -> VideoLlama3ForConditionalGeneration:
    """A model for a tokenizer, with random weights; writes no files."""
    import torch
    from transformers.models.video_llama_3.modeling_video_llama_3 import VideoLlama3ForConditionalGeneration

    torch.manual_seed(seed)
    model = VideoLlama3ForConditionalGeneration(model_config(tokenizer, sizes))
    model.float()
    return model


def _format_sentences() -> list[str]:
    """Sentences of the format itself for training the tokenizer, so that wrappers cost few tokens."""
    return ["stream\nTime 10.5s: \n", "system\n", "user\n", "assistant\n"] * 4


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
