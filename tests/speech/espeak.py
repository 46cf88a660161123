"""Speech by other engines than the one that the assistant speaks with: Debian's `espeak-ng`, and `flite`."""

from __future__ import annotations

import shutil
import subprocess
from tempfile import NamedTemporaryFile

from assistant.speech.sound import Sound, from_wav

SPEECH_PACKAGES = "espeak-ng libportaudio2 pulseaudio pulseaudio-utils libasound2-plugins"
"""What the tests of speech need of the system."""


def missing() -> str:
    """Why nothing can be said here; empty if it can."""
    return "" if shutil.which("espeak-ng") else f"no espeak-ng: apt-get install {SPEECH_PACKAGES}"


def spoken(text: str, voice: str = "en-us", words_a_minute: int = 150) -> Sound:
    """A text as eSpeak's voice says it."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "--stdout", text]
    return from_wav(subprocess.run(command, capture_output=True, check=True).stdout)


def missing_flite() -> str:
    """Why Flite says nothing here; empty if it does."""
    return "" if shutil.which("flite") else "no flite: apt-get install flite"


def spoken_by_flite(text: str, voice: str = "slt") -> Sound:
    """A text as Flite's voice says it."""
    with NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", file.name], capture_output=True, check=True)
        return from_wav(file.read())
