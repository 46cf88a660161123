"""Text-to-speech checkpoints of transformers, for whoever speaks. Runs on the caller's thread, not the engine's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.errors import CheckpointError
from models.speech_pipelines import load_pipeline

if TYPE_CHECKING:
    import numpy as np


class SpeechModel:
    """A loaded checkpoint that makes sound of text."""

    def __init__(self, name: str, pipe: Any) -> None:
        self._name = name
        self._pipe = pipe

    def speak(self, text: str, rate: float) -> tuple[np.ndarray, int]:
        """Mono samples, float32 in [-1, 1], and their rate in Hz. Raises `CheckpointError`.

        rate: 1 is the checkpoint's own pace. Another is possible only for models with a `speaking_rate` (VITS).
        """
        import numpy as np

        model = self._pipe.model
        if hasattr(model, "speaking_rate"):
            model.speaking_rate = rate
        elif rate != 1.0:
            raise CheckpointError(f"{self._name}: speech rate {rate:g}: this checkpoint has rate 1 only; leave it")
        try:
            made = self._pipe(text)
        except (ValueError, RuntimeError, KeyError, IndexError) as error:
            raise CheckpointError(f"{self._name}: it cannot say {text!r} ({error}); choose another voice") from error
        return np.asarray(made["audio"], np.float32).reshape(-1), int(made["sampling_rate"])


def load_text_to_speech(name: str) -> SpeechModel:
    """Load a text-to-speech checkpoint by folder or hub name, on the CPU. Raises `CheckpointError`."""
    pipe = load_pipeline("text-to-speech", name, what="a text-to-speech checkpoint", instead="the built-in voice")
    return SpeechModel(name, pipe)
