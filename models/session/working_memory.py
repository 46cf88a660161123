"""Bounds of the memory that a step of the model takes beside caches and embeddings. The engine's thread calls them.

Computed from sizes: the activations of one layer, what attention builds over the cache, the logits, the picture that
is being encoded. The fused attention of torch builds no scores on CPUs and CUDA; elsewhere they count as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.session.context import PREFILL_TOKENS, PREFILL_TOKENS_CPU

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint

_FLOAT_BYTES = 4
_FUSED_DEVICES = ("cpu", "cuda")
_LOGIT_COPIES = 4
"""Float32 copies of one row of logits, which sampling and the decision make."""


def pass_bytes(checkpoint: Checkpoint, num_context: int) -> int:
    """Upper bound of what one forward pass takes with a cache of `num_context` tokens, and of an eviction in it."""
    num_tokens = min(num_context, PREFILL_TOKENS_CPU if checkpoint.device.type == "cpu" else PREFILL_TOKENS)
    size, config, head_dim = checkpoint.dtype.itemsize, checkpoint.weights.language, checkpoint.weights.head_dim
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    of_token = size * (8 * config.hidden_size + 4 * (queries + 2 * keys) + 3 * config.intermediate_size)
    of_token += 2 * _FLOAT_BYTES * config.hidden_size  # norms are computed in float32
    # The mask, also as numbers; keys and values, copied for the heads that share them; scores and their softmax.
    over_context = num_tokens * num_context * (2 + size) + 2 * num_context * queries * size * (queries > keys)
    if checkpoint.device.type not in _FUSED_DEVICES:
        over_context += 2 * config.num_attention_heads * num_tokens * num_context * _FLOAT_BYTES
    logits = config.vocab_size * (size + 2 + _LOGIT_COPIES * _FLOAT_BYTES)
    joined = num_context * config.hidden_size * size  # a rebuild joins the embeddings of all units
    return max(int(num_tokens * of_token + over_context + logits + joined), _compact_bytes(checkpoint, num_context))


def picture_bytes(checkpoint: Checkpoint, num_patches: int) -> int:
    """Upper bound of what encoding one picture of `num_patches` takes, whole or in slices, its pixels included.

    Between slices other sessions have their turns, so this comes on top of `pass_bytes`.
    """
    size, vision = checkpoint.dtype.itemsize, checkpoint.weights.vision
    hidden = checkpoint.weights.language.hidden_size
    width = vision.hidden_size
    of_patch = size * (2 * vision.intermediate_size + 8 * width + 3 * hidden)
    of_patch += 4 * _FLOAT_BYTES * width  # rotary positions are computed in float32
    of_patch += pixel_bytes(checkpoint)
    if checkpoint.device.type not in _FUSED_DEVICES:
        of_patch += 2 * vision.num_attention_heads * num_patches * _FLOAT_BYTES
    return int(num_patches * of_patch)


def pixel_bytes(checkpoint: Checkpoint) -> int:
    """Memory of a patch's pixels while they are normalised, cut, and taken to the model's type."""
    num_values = 3 * checkpoint.vision.patch_px**2
    return num_values * (1 + 3 * _FLOAT_BYTES + checkpoint.dtype.itemsize)


def _compact_bytes(checkpoint: Checkpoint, num_context: int) -> int:
    """What an eviction takes in one layer: copies of its values and keys, which are rotated in float32."""
    head_dim = checkpoint.weights.head_dim
    keys = checkpoint.weights.language.num_key_value_heads * head_dim
    of_token = keys * (2 * checkpoint.dtype.itemsize + 5 * _FLOAT_BYTES)
    return int(num_context * (of_token + 4 * _FLOAT_BYTES * head_dim))
