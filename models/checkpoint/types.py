"""The data types that the models room returns. Frozen; any thread may hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from streaming.difffp.live import CellGrid


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """The kept visual tokens of one frame, ready to be appended."""

    embeddings: torch.Tensor
    """`[num_kept, hidden]`, the language model's dtype and device, cells in ascending order."""
    keep_mask: np.ndarray
    """Bool `[num_cells]`."""
    grid: CellGrid
    pts_s: float
    """Media time of the frame."""


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Token ids that the stream format consists of."""

    image: int
    stream_start: int
    stream_end: int
    im_start: int
    im_end: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Name, device, dtype and sizes of a loaded checkpoint, for display."""

    name: str
    device: str
    dtype: str
    decision: str
    """`trained` or `stand_in`, from the checkpoint's settings."""
    embedded: bool
    """Whether this is the small checkpoint that ships with the project."""
    fps: float
    """Frames per second, from the checkpoint's settings."""
    num_parameters: int
    bytes_per_token: int
    """Memory of one token in a session's cache."""
    decision_reason: str = ""
    """Result of measuring the decision to speak; empty where nothing was measured."""
