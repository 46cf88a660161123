"""What a checkpoint is and what a session of it may come to take of memory. The engine's thread calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.context import PREFILL_TOKENS
from models.types import ModelInfo

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint
    from models.settings import StreamSettings

NUM_BUFFERS = 3
"""A cached token's keys, its values, and its keys before rotation."""


def model_info(checkpoint: Checkpoint) -> ModelInfo:
    """What people want to know of a loaded checkpoint."""
    from models.checkpoint import EMBEDDED_FOLDER

    return ModelInfo(
        name=checkpoint.name,
        device=str(checkpoint.device),
        dtype=str(checkpoint.dtype).removeprefix("torch."),
        decision=checkpoint.stream.speaking.decision,
        embedded=checkpoint.folder.resolve() == EMBEDDED_FOLDER.resolve(),
        fps=checkpoint.stream.fps,
        num_parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        bytes_per_token=bytes_per_token(checkpoint),
        decision_reason=checkpoint.stream.speaking.decision_reason,
    )


def bytes_per_token(checkpoint: Checkpoint) -> int:
    """What one token takes in a session's cache, all layers together."""
    attention = checkpoint.model.model.language_model.layers[0].self_attn
    num_values = attention.k_proj.out_features
    num_layers = len(checkpoint.model.model.language_model.layers)
    return NUM_BUFFERS * num_layers * num_values * checkpoint.dtype.itemsize


def session_bytes(checkpoint: Checkpoint, settings: StreamSettings) -> int:
    """The most a session may come to take: windows up to their high watermarks for the largest grid, and one prefill.

    The cache's buffers are counted with the embeddings of visual tokens, which a session keeps to rebuild from.
    """
    widened = settings.fitted(settings.max_cells, settings.fps).window
    window = replace(
        widened,
        vision_low=max(widened.vision_low, settings.window.vision_low),
        vision_high=max(widened.vision_high, settings.window.vision_high),
    )
    hidden = checkpoint.model.model.language_model.embed_tokens.embedding_dim
    embeddings = window.vision_high * hidden * checkpoint.dtype.itemsize
    return (window.capacity + PREFILL_TOKENS) * bytes_per_token(checkpoint) + embeddings
