"""The names and shapes of a model's parameters, from its configuration alone: what transformers' class would have."""

from __future__ import annotations

from typing import Any

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(config: Any) -> Shapes | None:
    """Shape of each parameter by its name in transformers, tied ones left out; `None` for another language model."""
    text: Any = config.text_config
    if text.model_type != "qwen2":
        return None
    shapes = _vision_shapes(config) | _language_shapes(text)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (text.vocab_size, text.hidden_size)
    return shapes


def _vision_shapes(config: Any) -> Shapes:
    vision: Any = config.vision_config
    width, inner = vision.hidden_size, vision.intermediate_size
    text_width = config.text_config.hidden_size
    at = "model.vision_model"
    shapes: Shapes = {
        f"{at}.embeddings.patch_embedding.weight": (width, vision.num_channels, vision.patch_size, vision.patch_size),
        f"{at}.embeddings.patch_embedding.bias": (width,),
        f"{at}.post_layernorm.weight": (width,),
        f"{at}.post_layernorm.bias": (width,),
        **_linear("model.projector.readout.0", text_width, width),
        **_linear("model.projector.readout.2", text_width, text_width),
    }
    for index in range(vision.num_hidden_layers):
        layer = f"{at}.encoder.layers.{index}"
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}.{norm}.weight": (width,), f"{layer}.{norm}.bias": (width,)}
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{name}", width, width)
        shapes |= _linear(f"{layer}.mlp.fc1", inner, width) | _linear(f"{layer}.mlp.fc2", width, inner)
    return shapes


def _language_shapes(text: Any) -> Shapes:
    width, inner = text.hidden_size, text.intermediate_size
    head_dim = getattr(text, "head_dim", None) or width // text.num_attention_heads
    queries, keys = text.num_attention_heads * head_dim, text.num_key_value_heads * head_dim
    at = "model.language_model"
    shapes: Shapes = {f"{at}.embed_tokens.weight": (text.vocab_size, width), f"{at}.norm.weight": (width,)}
    for index in range(text.num_hidden_layers):
        layer = f"{at}.layers.{index}"
        shapes |= {f"{layer}.{norm}.weight": (width,) for norm in ("input_layernorm", "post_attention_layernorm")}
        for name, out in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            shapes |= _linear(f"{layer}.self_attn.{name}", out, width)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (width, queries)
        shapes |= {f"{layer}.mlp.{name}.weight": (inner, width) for name in ("gate_proj", "up_proj")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, inner)
    return shapes


def _linear(name: str, num_out: int, num_in: int) -> Shapes:
    return {f"{name}.weight": (num_out, num_in), f"{name}.bias": (num_out,)}
