"""The two layouts of VideoLLaMA 3 checkpoints: mapping of tensor names and configurations to transformers' own.

`released` is the layout its authors published (`model_type: videollama3_qwen2`), `native` the one transformers saves
(`video_llama_3`). Pure functions of names and JSON values; any thread may call them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from models.errors import CheckpointDamaged, CheckpointError

if TYPE_CHECKING:
    from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3Config

Layout = Literal["released", "native"]

LAYOUT_OF_MODEL_TYPE: dict[str, Layout] = {"videollama3_qwen2": "released", "video_llama_3": "native"}

_RENAMES = (
    ("model.vision_encoder.", "model.vision_model."),
    ("model.mm_projector.", "model.projector."),
    ("model.layers.", "model.language_model.layers."),
    ("model.norm.", "model.language_model.norm."),
    ("model.embed_tokens.", "model.language_model.embed_tokens."),
)
"""Released prefix, native prefix."""

_TEXT_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "attention_dropout",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
_VISION_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
)
_STORED: dict[str, type] = {"tie_word_embeddings": bool, "image_token_id": int}
_STORED_TEXT: dict[str, type] = {
    **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"), int),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads"), int),
    **dict.fromkeys(("model_type", "hidden_act"), str),
    "rms_norm_eps": float,
    "rope_parameters": dict,
    "layer_types": list,
}
_STORED_VISION: dict[str, type] = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"), int),
    **dict.fromkeys(("num_channels", "patch_size"), int),
    "hidden_act": str,
    "layer_norm_eps": float,
    "rope_parameters": dict,
}
"""What a session reads of a configuration, with its types."""
_RELEASED_ROPE_THETA = 10_000.0
"""Default of the released configuration class where the file has no value."""


def layout_of(config: Mapping[str, Any]) -> Layout:
    """The layout that a folder's `config.json` declares; raises `CheckpointError` for any other model."""
    model_type = config.get("model_type")
    if model_type not in LAYOUT_OF_MODEL_TYPE:
        raise CheckpointError(
            f"config.json says model_type {model_type!r}; VideoLLaMA 3 is one of "
            f"{', '.join(sorted(LAYOUT_OF_MODEL_TYPE))}: choose a VideoLLaMA 3 checkpoint"
        )
    return LAYOUT_OF_MODEL_TYPE[model_type]


def native_key(key: str, layout: Layout) -> str:
    """The name of a stored tensor in transformers.

    >>> native_key("model.mm_projector.readout.0.bias", "released")
    'model.projector.readout.0.bias'
    """
    if layout == "released":
        for released, native in _RENAMES:
            if key.startswith(released):
                return native + key.removeprefix(released)
    return key


def released_key(key: str) -> str:
    """The name of a transformers tensor in the released layout; the inverse of `native_key`.

    >>> released_key("model.language_model.norm.weight")
    'model.norm.weight'
    """
    for released, native in _RENAMES:
        if key.startswith(native):
            return released + key.removeprefix(native)
    return key


def is_ignorable(key: str) -> bool:
    """Whether older versions stored this tensor although it is computed and need not be loaded."""
    return key.endswith(("rotary_emb.inv_freq", "rotary_pos_emb.inv_freq"))


def image_token_id(config: Mapping[str, Any]) -> int:
    """Token id of a visual token, from either layout's configuration."""
    for name in ("image_token_index", "image_token_id"):
        if isinstance(config.get(name), int):
            return int(config[name])
    raise CheckpointDamaged(
        "config.json has neither image_token_index nor image_token_id; copy the file again from where it was published"
    )


def build_config(config: Mapping[str, Any], *, has_output_head: bool) -> VideoLlama3Config:
    """Build transformers' configuration from a folder's `config.json` of either layout.

    has_output_head: whether the weights hold `lm_head.weight`, which decides about tying where the file does not say.
    """
    layout = layout_of(config)
    built = _from_released(config, has_output_head) if layout == "released" else _from_native(config)
    if "sliding_attention" in getattr(built.text_config, "layer_types", ()):
        raise CheckpointError(
            "config.json turns sliding-window attention on; a session does its own eviction and needs full attention: "
            "set use_sliding_window to false"
        )
    return built


def stored_config(config: Mapping[str, Any]) -> SimpleNamespace | None:
    """A folder's `config.json` as it is, in the place of transformers' configuration, whose import takes a second.

    `None` for files that leave a value to transformers' defaults, hold one of another type, or need its classes.
    """
    text, vision = config.get("text_config"), config.get("vision_config")
    if layout_of(config) != "native" or not isinstance(text, Mapping) or not isinstance(vision, Mapping):
        return None
    needed = ((config, _STORED), (text, _STORED_TEXT), (vision, _STORED_VISION))
    if not all(type(part.get(name)) is kind for part, kinds in needed for name, kind in kinds.items()):
        return None
    rope, of_vision = text["rope_parameters"], vision["rope_parameters"]
    if rope.get("rope_type") != "default" or not all("rope_theta" in parameters for parameters in (rope, of_vision)):
        return None
    if text["model_type"] != "qwen2" or set(text["layer_types"]) != {"full_attention"}:
        return None
    return SimpleNamespace(
        **{**config, "text_config": SimpleNamespace(**text), "vision_config": SimpleNamespace(**vision)}
    )


def patch_size_of(config: Any) -> int:
    """Side of a patch in pixels."""
    return int(getattr(config.vision_config, "patch_size", 14))


def _from_released(config: Mapping[str, Any], has_output_head: bool) -> VideoLlama3Config:
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
    from transformers.models.video_llama_3.configuration_video_llama_3 import (
        VideoLlama3Config,
        VideoLlama3VisionConfig,
    )

    vision = config.get("vision_encoder_config")
    if not isinstance(vision, Mapping):
        raise CheckpointDamaged(
            "config.json has no vision_encoder_config; copy the file again from where it was published"
        )
    tied = bool(config.get("tie_word_embeddings", not has_output_head))
    try:
        text = Qwen2Config(
            **_known(config, _TEXT_KEYS), rope_parameters=_rope_parameters(config), tie_word_embeddings=tied
        )
        return VideoLlama3Config(
            text_config=text,
            vision_config=VideoLlama3VisionConfig(**_known(vision, _VISION_KEYS)),
            image_token_id=image_token_id(config),
            tie_word_embeddings=tied,
        )
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise CheckpointDamaged(f"config.json holds a wrong value ({_one_line(error)}); copy it again") from error


def _from_native(config: Mapping[str, Any]) -> VideoLlama3Config:
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3Config

    image_token_id(config)
    try:
        return VideoLlama3Config.from_dict(dict(config))
    except (StrictDataclassError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointDamaged(f"config.json holds a wrong value ({_one_line(error)}); copy it again") from error


def _known(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` as one dictionary, as transformers 5 expects them."""
    theta = float(config.get("rope_theta", _RELEASED_ROPE_THETA))
    scaling = dict(config.get("rope_scaling") or {})
    rope_type = scaling.pop("type", None) or scaling.pop("rope_type", None) or "default"
    return {**scaling, "rope_type": rope_type, "rope_theta": theta}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
