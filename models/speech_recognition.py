"""Speech recognition checkpoints of transformers, for whoever listens.

Runs on the caller's thread, not the engine's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.errors import CheckpointError
from models.speech_pipelines import load_pipeline

if TYPE_CHECKING:
    import numpy as np


class RecognitionModel:
    """A loaded checkpoint that makes text of sound."""

    def __init__(self, name: str, pipe: Any) -> None:
        self._name = name
        self._pipe = pipe

    def transcribe(self, samples: np.ndarray, rate_hz: int) -> str:
        """The words of mono samples, float32 in [-1, 1]. Raises `CheckpointError`."""
        try:
            return str(self._pipe({"raw": samples, "sampling_rate": rate_hz})["text"])
        except (ValueError, RuntimeError, KeyError, IndexError) as error:
            raise CheckpointError(f"{self._name}: it cannot hear this ({error}); choose another recogniser") from error


def load_recogniser(name: str) -> RecognitionModel:
    """Load a speech recognition checkpoint by folder or hub name, on the CPU. Raises `CheckpointError`."""
    what = "a speech recognition checkpoint"
    pipe = load_pipeline("automatic-speech-recognition", name, what=what, instead="the built-in recogniser")
    return RecognitionModel(name, pipe)
