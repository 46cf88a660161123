"""The data the models room hands out. Frozen; any thread may hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from streaming.difffp.live import CellGrid


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """One frame's kept visual tokens, ready to be appended."""

    embeddings: torch.Tensor
    """`[num_kept, hidden]`, the language model's dtype and device, cells in ascending order."""
    keep_mask: np.ndarray
    """Bool `[num_cells]`."""
    grid: CellGrid
    pts_s: float
    """Media time of the frame."""


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Token ids that the stream format is made of."""

    image: int
    stream_start: int
    stream_end: int
    im_start: int
    im_end: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What people want to know of a loaded checkpoint."""

    name: str
    device: str
    dtype: str
    decision: str
    """`trained` or `stand_in`, as its settings say."""
    embedded: bool
    """Whether it is the small one that comes with the project."""
    fps: float
    """Frames a second that its settings ask for."""
    num_parameters: int
    bytes_per_token: int
    """What one token takes in a session's cache."""
    decision_reason: str = ""
    """What was measured of its decision to speak; empty where nothing was."""
