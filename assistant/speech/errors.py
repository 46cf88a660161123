"""Errors of speaking and listening.

AssistantError
└── SpeechError
    ├── NoAudio            this machine has no sound system, or no device of that name
    ├── DeviceLost         a device went away while it was used
    ├── VoiceUnavailable   a voice cannot be loaded, or cannot say a text
    └── NoRecogniser       no recogniser is installed, or its weights are not what they should be
"""

from __future__ import annotations

from assistant.errors import AssistantError


class SpeechError(AssistantError):
    """Base class of the errors of speaking and listening."""


class NoAudio(SpeechError):
    """This machine has no sound system, or no device of the wanted name."""


class DeviceLost(SpeechError):
    """An audio device went away while it was used."""


class VoiceUnavailable(SpeechError):
    """A voice cannot be loaded, or cannot say a text."""


class NoRecogniser(SpeechError):
    """No recogniser is installed, or its weights are not what they should be."""
