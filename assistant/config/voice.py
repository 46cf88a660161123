"""Configuration of speaking aloud and listening. Immutable; any thread may hold it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from assistant.config.bounds import NumberRange
from assistant.config.component import Component
from assistant.errors import ConfigError
from assistant.speech.aloud import WORDS, spoken_kinds
from assistant.speech.voices import BUILT_IN

SPEECH_RATE = NumberRange(0.5, 2.0, "1 is the voice's own pace")
VOLUME = NumberRange(0.0, 2.0, "1 is the voice's own loudness")
WAKE_PHRASE = "hey assistant"


def _words(value: Any) -> Any:
    """A list of kinds, or their names with commas between them."""
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _known(words: tuple[str, ...]) -> tuple[str, ...]:
    try:
        spoken_kinds(words)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("speak ")) from None
    return words


class VoiceConfig(Component):
    """What is said aloud, and how; and whether spoken questions are listened for."""

    speak: Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_known)] = ()
    """What is said aloud, among remarks, answers and alerts; nothing by default."""
    name: str = Field(default=BUILT_IN, min_length=1)
    """The voice: `built-in`, or a text-to-speech checkpoint's folder or hub name."""
    rate: Annotated[float, AfterValidator(SPEECH_RATE.validated)] = 1.0
    volume: Annotated[float, AfterValidator(VOLUME.validated)] = 1.0
    device: str | None = Field(default=None, min_length=1)
    """The device to speak with, by its name or a part of it; None for the system's own choice."""
    listen: Literal["off", "hands-free", "push-to-talk"] = "off"
    """Whether questions are listened for: after the wake phrase, or after a key in the terminal."""
    microphone: str | None = Field(default=None, min_length=1)
    """The device to listen with, by its name or a part of it; None for the system's own choice."""
    wake_phrase: str = Field(default=WAKE_PHRASE, min_length=3, max_length=60)
    """Words that a hands-free question begins with."""
    recogniser: str = Field(default=BUILT_IN, min_length=1)
    """`built-in`, or a folder or name of a Whisper checkpoint for faster-whisper or transformers."""


EVERYTHING = ",".join(WORDS)
