"""Voices by name: the built-in one, and text-to-speech checkpoints.

Each is loaded at its first clause, on the announcer's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant.program import install_command
from assistant.speech.errors import VoiceUnavailable
from assistant.speech.sound import Sound

if TYPE_CHECKING:
    from hibari import Hibari

    from assistant.speech.announcer import Voice
    from models.text_to_speech import SpeechModel

BUILT_IN = "built-in"
"""The voice that comes with the program's requirements."""


class BuiltInVoice:
    """The voice `heart` of hibari-tts (American English), which needs no download and no GPU."""

    name = BUILT_IN

    def __init__(self) -> None:
        self._model: Hibari | None = None

    def prepare(self) -> None:
        """Load the model and its dictionaries."""
        self.speak("Ready.", 1.0)

    def speak(self, text: str, rate: float) -> Sound:
        """The sound of a clause at 24 kHz; the same text always sounds the same. Raises `VoiceUnavailable`."""
        model = self._model = self._model or self._load()
        try:
            samples = model(text, speed=rate, seed=0)
        except (ValueError, RuntimeError, IndexError) as error:
            raise VoiceUnavailable(f"{text!r}: the built-in voice cannot say it ({error}); it stays text") from error
        return Sound(samples, model.sample_rate)

    def _load(self) -> Hibari:
        try:
            from hibari import Hibari
        except (ImportError, OSError) as error:
            raise VoiceUnavailable(f"built-in voice: {error}; it needs hibari-tts; {install_command()}") from error
        return Hibari()


class CheckpointVoice:
    """A text-to-speech checkpoint of transformers, by its folder or hub name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._model: SpeechModel | None = None

    def prepare(self) -> None:
        """Load the checkpoint."""
        self._loaded()

    def speak(self, text: str, rate: float) -> Sound:
        """The sound of a clause. Raises `VoiceUnavailable`."""
        from models.errors import ModelError

        model = self._loaded()
        try:
            return Sound(*model.speak(text, rate))
        except ModelError as error:
            raise VoiceUnavailable(str(error)) from error

    def _loaded(self) -> SpeechModel:
        from models.errors import ModelError
        from models.text_to_speech import load_text_to_speech

        try:
            self._model = self._model or load_text_to_speech(self.name)
        except ModelError as error:
            raise VoiceUnavailable(str(error)) from error
        return self._model


def voice_named(name: str) -> Voice:
    """The voice of a name: `built-in`, or a text-to-speech checkpoint's folder or hub name. Loads nothing yet."""
    return BuiltInVoice() if name == BUILT_IN else CheckpointVoice(name)
