"""Memory estimates of a checkpoint and of its sessions. The engine's thread calls them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from models.checkpoint.devices import free_bytes
from models.checkpoint.types import ModelInfo
from models.errors import VisionError
from models.eviction import window_tokens
from models.session.working_memory import pass_bytes, picture_bytes

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint
    from models.checkpoint.settings import StreamSettings
    from models.eviction import WindowSettings

MOST_AHEAD = 18
"""Most questions with pictures that are encoded but not answered: 16 queued, one being asked, one being encoded."""
FREE_SHARE = 0.8
"""Default limit of all reserved memory, as a share of what a GPU has free; the rest is for what libraries take."""
WORDS_A_PICTURE = 16
"""Most text tokens per picture of a question: its time and its marks."""
WORDS_A_QUESTION = 1024
"""Most tokens of the system turn and of the marks around a question and its answer."""
NUM_BUFFERS = 3
"""Buffers per cached token: rotated keys, values, and unrotated keys."""


def model_info(checkpoint: Checkpoint) -> ModelInfo:
    """Name, device, dtype and sizes of a loaded checkpoint, for display."""
    from models.checkpoint.loader import EMBEDDED_FOLDER

    return ModelInfo(
        name=checkpoint.name,
        device=str(checkpoint.device),
        dtype=str(checkpoint.dtype).removeprefix("torch."),
        decision=checkpoint.stream.speaking.decision,
        embedded=checkpoint.folder.resolve() == EMBEDDED_FOLDER.resolve(),
        fps=checkpoint.stream.fps,
        num_parameters=checkpoint.weights.num_values,
        bytes_per_token=bytes_per_token(checkpoint),
        decision_reason=checkpoint.stream.speaking.decision_reason,
    )


def bytes_per_token(checkpoint: Checkpoint) -> int:
    """Memory of one token in a session's cache, over all layers."""
    language = checkpoint.weights.language
    num_values = language.num_key_value_heads * checkpoint.weights.head_dim
    num_bytes: int = NUM_BUFFERS * language.num_hidden_layers * num_values * checkpoint.dtype.itemsize
    return num_bytes


def session_bytes(checkpoint: Checkpoint, settings: StreamSettings) -> int:
    """Upper bound of a session's memory in bytes: its windows at their largest, for the largest grid.

    Counts the cache's buffers, the embeddings of visual tokens, which a session keeps to rebuild its cache, and the
    embeddings of queued questions.
    """
    window = _largest_window(settings)
    num_kept = window.vision_high + settings.max_cells + MOST_AHEAD * (window.vision_low // 4)
    return cache_bytes(checkpoint, session_tokens(settings)) + num_kept * embedding_bytes(checkpoint)


def session_tokens(settings: StreamSettings) -> int:
    """Upper bound of the tokens in a session's slot: its windows at their largest, for the largest grid."""
    return window_tokens(_largest_window(settings), settings.max_cells)


def slots_within(checkpoint: Checkpoint, num_bytes: int, num_outside: int) -> int:
    """Sessions with the checkpoint's settings that fit `num_bytes`, beside a question of `num_outside` tokens."""
    return max(0, num_bytes - cache_bytes(checkpoint, num_outside)) // session_bytes(checkpoint, checkpoint.stream)


def session_working_bytes(checkpoint: Checkpoint, settings: StreamSettings) -> int:
    """Upper bound of what a step of a session with these settings takes beside `session_bytes`, in bytes.

    A forward pass over its largest context while the largest picture of a question, or a frame, is being encoded. The
    engine takes one step at a time, so the largest bound of its sessions counts, not their sum.
    """
    window = _largest_window(settings)
    num_patches = max(settings.max_cells, window.vision_low // 4) * checkpoint.vision.video_merge**2
    return pass_bytes(checkpoint, session_tokens(settings)) + picture_bytes(checkpoint, num_patches)


def ask_working_bytes(
    checkpoint: Checkpoint, num_tokens: int, pictures: Sequence[tuple[tuple[int, int], int]], share: int
) -> int:
    """The same for a question outside any session, of `num_tokens`.

    pictures: width and height of each, with its merge size. share: most visual tokens of one.
    """
    most = 0
    for (width_px, height_px), merge in set(pictures):
        try:
            grid = checkpoint.vision.fit_grid(width_px, height_px, max_cells=share, merge=merge)
        except VisionError:  # the question is refused for it before anything is encoded
            continue
        most = max(most, grid.num_patches)
    return pass_bytes(checkpoint, num_tokens) + picture_bytes(checkpoint, most)


def _largest_window(settings: StreamSettings) -> WindowSettings:
    """The windows for the largest grid."""
    widened = settings.fitted(settings.max_cells, settings.fps).window
    return replace(
        widened,
        vision_low=max(widened.vision_low, settings.window.vision_low),
        vision_high=max(widened.vision_high, settings.window.vision_high),
    )


def cache_bytes(checkpoint: Checkpoint, num_tokens: int) -> int:
    """Memory of a slot for `num_tokens`, including the second set of buffers that one layer has while it grows or is
    compacted."""
    num_layers: int = checkpoint.weights.language.num_hidden_layers
    return num_tokens * bytes_per_token(checkpoint) * (num_layers + 1) // num_layers


def embedding_bytes(checkpoint: Checkpoint) -> int:
    """Memory of one token's embedding."""
    values: int = checkpoint.weights.language.hidden_size * checkpoint.dtype.itemsize
    return values


def question_tokens(question: str, num_pictures: int, most_visual: int, max_answer: int) -> int:
    """Upper bound of the tokens of a question outside any session, with its answer.

    A text has at most as many tokens as bytes.
    """
    words = len(question.encode()) + WORDS_A_PICTURE * num_pictures + WORDS_A_QUESTION
    return most_visual * (num_pictures > 0) + words + max_answer


def default_limit(checkpoint: Checkpoint) -> int | None:
    """Default limit of all reserved memory in bytes: a share of what a GPU has free; `None`, for no limit, on a CPU."""
    free = free_bytes(checkpoint.device)
    return None if free is None else int(FREE_SHARE * free)
