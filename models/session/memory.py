"""What a checkpoint is and what a session of it may come to take of memory. The engine's thread calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.checkpoint.devices import free_bytes
from models.checkpoint.types import ModelInfo
from models.eviction import window_tokens

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint
    from models.checkpoint.settings import StreamSettings

MOST_AHEAD = 18
"""Questions with pictures that may wait encoded: 16 for their turn, one that is being asked, one being encoded."""
FREE_SHARE = 0.8
"""Of a GPU's free memory, what caches may come to unless a limit is set; the rest is for what passes work on."""
WORDS_A_PICTURE = 16
"""Tokens of the words round a picture of a question, its time and its marks, at most."""
WORDS_A_QUESTION = 1024
"""Tokens of the system turn, and of the marks round a question and its answer, at most."""
NUM_BUFFERS = 3
"""A cached token's keys, its values, and its keys before rotation."""


def model_info(checkpoint: Checkpoint) -> ModelInfo:
    """What people want to know of a loaded checkpoint."""
    from models.checkpoint.loader import EMBEDDED_FOLDER

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
    """The most a session may come to take: windows for the largest grid, whatever it is shown, told and asked.

    The cache's buffers are counted with the embeddings of visual tokens, which a session keeps to rebuild from, and
    with those of questions that wait.
    """
    widened = settings.fitted(settings.max_cells, settings.fps).window
    window = replace(
        widened,
        vision_low=max(widened.vision_low, settings.window.vision_low),
        vision_high=max(widened.vision_high, settings.window.vision_high),
    )
    num_kept = window.vision_high + settings.max_cells + MOST_AHEAD * (window.vision_low // 4)
    return cache_bytes(checkpoint, window_tokens(window, settings.max_cells)) + num_kept * embedding_bytes(checkpoint)


def cache_bytes(checkpoint: Checkpoint, num_tokens: int) -> int:
    """A cache's buffers for so many tokens, with the second set that one layer has while it grows."""
    num_layers = len(checkpoint.model.model.language_model.layers)
    return num_tokens * bytes_per_token(checkpoint) * (num_layers + 1) // num_layers


def embedding_bytes(checkpoint: Checkpoint) -> int:
    """One token's embedding."""
    return checkpoint.model.model.language_model.embed_tokens.embedding_dim * checkpoint.dtype.itemsize


def question_tokens(question: str, num_pictures: int, most_visual: int, max_answer: int) -> int:
    """The most tokens that a question outside any session comes to, with its answer.

    A text has no more tokens than bytes.
    """
    words = len(question.encode()) + WORDS_A_PICTURE * num_pictures + WORDS_A_QUESTION
    return most_visual * (num_pictures > 0) + words + max_answer


def default_limit(checkpoint: Checkpoint) -> int | None:
    """What all caches may come to unless a limit is set: a share of what is free; None on processors, for no limit."""
    free = free_bytes(checkpoint.device)
    return None if free is None else int(FREE_SHARE * free)
