"""Speech by eSpeak NG, another engine than the one that the assistant speaks with. Debian's `espeak-ng`."""

from __future__ import annotations

import shutil
import subprocess

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
