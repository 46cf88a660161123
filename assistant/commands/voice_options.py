"""Options of speaking aloud and listening, which several commands have. Plain values; any thread."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from assistant.commands.terminal import options_given
from assistant.errors import ConfigError

Voice = Annotated[bool, typer.Option("--voice", help="Say remarks, answers and alerts aloud; --speak chooses.")]
Speak = Annotated[str | None, typer.Option(help="What is said aloud, among remarks,answers,alerts.")]
SpeechRate = Annotated[float | None, typer.Option(help="Pace of the voice, 0.5 to 2; 1 is its own.")]
Volume = Annotated[float | None, typer.Option(help="Loudness of the voice, 0 to 2; 1 is its own.")]
AudioDevice = Annotated[str | None, typer.Option(help="Device to speak with, by its name or a part of it.")]


Listen = Annotated[bool, typer.Option("--listen", help="Answer spoken questions that begin with the wake phrase.")]
Microphone = Annotated[str | None, typer.Option(help="Device to listen with, by its name or a part of it.")]


PushToTalk = Annotated[
    bool, typer.Option("--push-to-talk", help="Answer questions spoken between two presses of space or Enter.")
]


def listen_overrides(listen: bool, push_to_talk: bool, microphone: str | None) -> dict[str, Any]:
    """Keys of the configuration's `voice` section about listening, from options. Raises `ConfigError` for both ways."""
    if listen and push_to_talk:
        raise ConfigError("--push-to-talk: --listen waits for the wake phrase instead; leave one of them out")
    way = "hands-free" if listen else "push-to-talk" if push_to_talk else None
    return options_given(listen=way, microphone=microphone)


def print_audio_devices(wanted: bool) -> None:
    """Print one line per audio device and exit. Raises `NoAudio` where there is no sound system."""
    if not wanted:
        return
    from assistant.commands.terminal import clear_errors
    from assistant.speech.devices import audio_devices

    with clear_errors():
        devices = audio_devices()
        print("\n".join(device.line for device in devices) or "no audio devices: connect one, or start a sound server")
    raise typer.Exit(0)


ListAudioDevices = Annotated[
    bool,
    typer.Option(
        "--list-audio-devices", callback=print_audio_devices, is_eager=True, help="List audio devices and exit."
    ),
]


def voice_overrides(
    voice: bool, speak: str | None, rate: float | None, volume: float | None, device: str | None
) -> dict[str, Any]:
    """The configuration's `voice` section from options. `--voice` alone says everything."""
    from assistant.config.voice import EVERYTHING

    spoken = speak if speak is not None else EVERYTHING if voice else None
    return options_given(speak=spoken, rate=rate, volume=volume, device=device)
