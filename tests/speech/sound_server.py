"""A sound server without hardware: PulseAudio with null sinks for loudspeaker and microphone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assistant.speech.sound import Sound, from_pcm16
from tests.speech.espeak import SPEECH_PACKAGES

PROGRAMS = ("pulseaudio", "pactl", "paplay", "parec")
_RATE_HZ = 24_000
_START_S = 20.0
_ASOUND = "pcm.!default { type pulse }\nctl.!default { type pulse }\npcm.pulse { type pulse }\n"


def missing() -> str:
    """Why no sound server can be started here; empty if one can."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"no {', '.join(absent)}: apt-get install {SPEECH_PACKAGES}" if absent else ""


class SoundServer:
    """A running server; programs reach it by `environment`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_SERVER": f"unix:{folder / 'socket'}",
        }

    def speak_into_the_microphone(self, sound: Sound) -> None:
        """Play a sound where the microphone hears it, to its end."""
        path = self._folder / "said.wav"
        path.write_bytes(sound.as_wav())
        subprocess.run(["paplay", "-d", "ears", str(path)], env=self.environment, check=True, timeout=60)

    @contextmanager
    def recording(self) -> Iterator[Path]:
        """A file of raw samples of what is played, complete after the context; `heard` reads it."""
        path = self._folder / "heard.raw"
        command = ["parec", "-d", "mouth.monitor", "--format=s16le", f"--rate={_RATE_HZ}", "--channels=1"]
        with path.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, env=self.environment)
            try:
                yield path
            finally:
                process.terminate()
                process.wait(10)


def heard(path: Path) -> Sound:
    """What `SoundServer.recording` wrote."""
    return from_pcm16(path.read_bytes(), _RATE_HZ)


@contextmanager
def sound_server(folder: Path) -> Iterator[SoundServer]:
    """A server of its own in `folder`, with nothing of the machine's."""
    (folder / ".asoundrc").write_text(_ASOUND, encoding="utf-8")
    server = SoundServer(folder)
    sinks = [option for name in ("ears", "mouth") for option in ("-L", f"module-null-sink sink_name={name}")]
    socket = ["-L", f"module-native-protocol-unix socket={folder / 'socket'} auth-anonymous=1"]
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", *socket, *sinks]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=server.environment, stdout=log, stderr=log)
        try:
            for setting in (("set-default-sink", "mouth"), ("set-default-source", "ears.monitor")):
                subprocess.run(
                    ["bash", "-c", 'until pactl "$@" 2>/dev/null; do read -t 0.1 <> <(:) || :; done', "wait", *setting],
                    env=server.environment, check=True, timeout=_START_S,
                )  # fmt: skip
            yield server
        finally:
            process.terminate()
            process.wait(10)
