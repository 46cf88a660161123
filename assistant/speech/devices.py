"""The machine's audio devices: their list, outputs and inputs by name, and an output that outlives its device.

sounddevice is imported late: it needs the system's PortAudio, which may be absent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from assistant.speech.announcer import AudioOutput
from assistant.speech.errors import DeviceLost, NoAudio, SpeechError
from assistant.speech.listener import AudioInput
from assistant.speech.sound import Sound
from streaming.clock import Clock, SystemClock

BLOCK_S = 0.04
"""Length of the blocks written to a device: so soon an interruption is heard of."""
LOOK_AGAIN_S = 2.0
"""How long after a vain look for a microphone the next one is."""
RETRY_S = 10.0
"""How long after the loss of every device one is looked for again."""

NO_SOUND = np.zeros(0, np.float32)
Direction = Literal["output", "input"]


@dataclass(frozen=True, slots=True)
class AudioDevice:
    """A device that the system offers."""

    index: int
    name: str
    num_outputs: int
    num_inputs: int
    rate_hz: int
    is_default_output: bool
    is_default_input: bool

    def channels(self, direction: Direction) -> int:
        """Its number of channels out or in."""
        return self.num_outputs if direction == "output" else self.num_inputs

    @property
    def line(self) -> str:
        """The device in one line."""
        facts = [f"{count} {word}" for count, word in ((self.num_outputs, "out"), (self.num_inputs, "in")) if count]
        facts += [f"{self.rate_hz} Hz"]
        facts += ["speaks by default"] * self.is_default_output + ["listens by default"] * self.is_default_input
        return f"{self.name} ({', '.join(facts)})"


def sound_system() -> Any:
    """The module sounddevice. Raises `NoAudio` where it, or PortAudio, is absent."""
    try:
        import sounddevice
    except ImportError as error:
        raise NoAudio("audio: sounddevice is not installed; pip install 'sounddevice~=0.5.6'") from error
    except OSError as error:
        raise NoAudio(
            f"audio: {error}; speaking and listening on this machine need PortAudio; on Debian: apt-get install "
            "libportaudio2"
        ) from error
    return sounddevice


def audio_devices() -> list[AudioDevice]:
    """Every device; empty if there is none. Raises `NoAudio` without a sound system."""
    system = sound_system()
    try:
        found = list(system.query_devices())
        default_in, default_out = system.default.device
    except system.PortAudioError as error:
        raise NoAudio(f"audio: {error}; a sound card or a sound server is needed") from error
    return [
        AudioDevice(
            index,
            str(device["name"]),
            int(device["max_output_channels"]),
            int(device["max_input_channels"]),
            int(device["default_samplerate"]),
            index == default_out,
            index == default_in,
        )
        for index, device in enumerate(found)
    ]


def find_device(wanted: str | None, direction: Direction, devices: list[AudioDevice]) -> AudioDevice:
    """The device whose name is `wanted`, or has it in it; the system's own choice for None. Raises `NoAudio`."""
    usable = [device for device in devices if device.channels(direction)]
    if wanted is not None:
        exact = [device for device in usable if device.name.casefold() == wanted.casefold()]
        found = exact or [device for device in usable if wanted.casefold() in device.name.casefold()]
        if not found:
            names = ", ".join(repr(device.name) for device in usable) or "none"
            raise NoAudio(f"audio device {wanted!r}: there is none of that name for {direction}; there are {names}")
        return found[0]
    chosen = [d for d in usable if (d.is_default_output if direction == "output" else d.is_default_input)]
    if not usable:
        raise NoAudio(f"audio: no device for {direction} is there; connect one, or start a sound server")
    return (chosen or usable)[0]


class DeviceOutput:
    """Plays on one device. Belongs to the announcer's thread."""

    def __init__(self, device: AudioDevice) -> None:
        self.name = device.name
        self._device = device
        self._system = sound_system()
        self._stream: Any = None
        self._rate_hz = 0

    def play(self, sound: Sound, is_cut: Callable[[], bool]) -> bool:
        """Write the sound block by block. Raises `DeviceLost`."""
        try:
            self._open(sound.rate_hz)
            for block in sound.at_rate(self._rate_hz).blocks(BLOCK_S):
                if is_cut():
                    return False
                self._stream.write(np.ascontiguousarray(block.reshape(-1, 1)))
            return not is_cut()
        except self._system.PortAudioError as error:
            self._abandon()
            raise DeviceLost(f"audio device {self.name!r}: {error}; it was unplugged, or its server ended") from error

    def rest(self, *, cut: bool) -> None:
        """Play out what is buffered, or discard it, and give the device back."""
        if self._stream is None:
            return
        with suppress(self._system.PortAudioError):  # it is lost, which the next clause tells
            self._stream.abort() if cut else self._stream.stop()
        self._abandon()

    def close(self) -> None:
        """Give the device back at once."""
        self.rest(cut=True)

    def _open(self, rate_hz: int) -> None:
        if self._stream is not None:
            return
        for rate in dict.fromkeys((rate_hz, self._device.rate_hz)):
            try:
                stream = self._system.OutputStream(
                    samplerate=rate, device=self._device.index, channels=1, dtype="float32", latency="high"
                )
                stream.start()
            except self._system.PortAudioError:
                if rate == self._device.rate_hz:
                    raise
                continue
            self._stream, self._rate_hz = stream, rate
            return

    def _abandon(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(self._system.PortAudioError):
                stream.close(ignore_errors=True)


class SteadyOutput:
    """An output that goes to another device when its own is lost, and to none where there is no other.

    Belongs to the announcer's thread.
    """

    def __init__(
        self,
        open_output: Callable[[str | None], AudioOutput],
        wanted: str | None,
        on_change: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        """open_output: opens the device of a name, None for the system's own choice; raises `NoAudio`.

        on_change: is told in words when a device was lost, another is used, or one is there again.
        """
        self._open_output = open_output
        self._wanted = wanted
        self._on_change = on_change
        self._clock: Clock = clock or SystemClock()
        self._output: AudioOutput | None = None
        self._retry_at_s = float("-inf")
        self._was_lost = False

    @property
    def name(self) -> str:
        """The device in use; empty while there is none."""
        return self._output.name if self._output is not None else ""

    def open(self) -> None:
        """Open the wanted device. Raises `NoAudio` if it is not there."""
        self._output = self._open_output(self._wanted)

    def play(self, sound: Sound, is_cut: Callable[[], bool]) -> bool:
        """Play on the device in use; on its loss once more, from the sound's beginning, on another.

        Raises `NoAudio` while there is none.
        """
        try:
            return self._ready().play(sound, is_cut)
        except DeviceLost as error:
            self._lose(error)
        return self._ready().play(sound, is_cut)

    def rest(self, *, cut: bool) -> None:
        """See `AudioOutput.rest`."""
        if self._output is not None:
            self._output.rest(cut=cut)

    def close(self) -> None:
        """See `AudioOutput.close`."""
        if self._output is not None:
            self._output.close()
            self._output = None

    def _ready(self) -> AudioOutput:
        """The device in use, or one that is looked for now. Raises `NoAudio`."""
        if self._output is not None:
            return self._output
        if self._clock.now_s() < self._retry_at_s:
            raise NoAudio("audio: no device is there; speech stays text until one is")
        self._retry_at_s = self._clock.now_s() + RETRY_S
        self._output = self._any()
        if self._was_lost:
            self._on_change(f"speaking goes on by audio device {self._output.name!r}")
        self._was_lost = False
        return self._output

    def _any(self) -> AudioOutput:
        """The wanted device, else the system's own choice."""
        try:
            return self._open_output(self._wanted)
        except SpeechError:
            if self._wanted is None:
                raise
        return self._open_output(None)

    def _lose(self, error: DeviceLost) -> None:
        if self._output is not None:
            self._output.close()
        self._output, self._was_lost, self._retry_at_s = None, True, float("-inf")
        self._on_change(str(error))


def device_output(wanted: str | None) -> AudioOutput:
    """The output to a device by name, or to the system's own choice. Raises `NoAudio`."""
    return DeviceOutput(find_device(wanted, "output", audio_devices()))


class DeviceInput:
    """Records from one device at 16 kHz. Belongs to the listener's thread."""

    def __init__(self, device: AudioDevice, rate_hz: int = 16_000) -> None:
        self.name = device.name
        self._system = sound_system()
        try:
            self._stream: Any = self._system.InputStream(
                samplerate=rate_hz, device=device.index, channels=1, dtype="float32", latency="high"
            )
            self._stream.start()
        except self._system.PortAudioError as error:
            raise NoAudio(f"microphone {device.name!r}: {error}; choose another by --microphone") from error
        self._size = round(0.1 * rate_hz)

    def read(self) -> np.ndarray:
        """The next 0.1 s. Raises `DeviceLost`."""
        try:
            block, _ = self._stream.read(self._size)
        except self._system.PortAudioError as error:
            raise DeviceLost(f"microphone {self.name!r}: {error}; it was unplugged, or its server ended") from error
        return np.asarray(block[:, 0], np.float32)

    def close(self) -> None:
        """Free the device."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(self._system.PortAudioError):
                stream.close(ignore_errors=True)


class SteadyInput:
    """A microphone that goes on with another when its own is lost, and waits for one where there is none.

    Belongs to the listener's thread; `close` ends a wait.
    """

    def __init__(
        self,
        open_input: Callable[[str | None], AudioInput],
        wanted: str | None,
        on_change: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        """open_input: opens the microphone of a name, None for the system's own choice; raises `NoAudio`.

        on_change: is told in words when one was lost, and when another is used.
        """
        self._open_input = open_input
        self._wanted = wanted
        self._on_change = on_change
        self._clock: Clock = clock or SystemClock()
        self._input: AudioInput | None = None
        self._ends = threading.Event()

    @property
    def name(self) -> str:
        """The microphone in use; empty while there is none."""
        return self._input.name if self._input is not None else ""

    def open(self) -> None:
        """Open the wanted microphone. Raises `NoAudio` if it is not there."""
        self._input = self._open_input(self._wanted)

    def read(self) -> np.ndarray:
        """See `AudioInput.read`; empty while there is no microphone."""
        if self._input is None:
            return self._find()
        try:
            return self._input.read()
        except DeviceLost as error:
            self._input.close()
            self._input = None
            self._on_change(str(error))
        return NO_SOUND

    def close(self) -> None:
        """Free the microphone."""
        self._ends.set()
        if self._input is not None:
            self._input.close()
            self._input = None

    def _find(self) -> np.ndarray:
        """Look for a microphone, the wanted one first; wait a little where there is none."""
        for wanted in dict.fromkeys((self._wanted, None)):
            with suppress(NoAudio):
                self._input = self._open_input(wanted)
                self._on_change(f"listening goes on by microphone {self._input.name!r}")
                return NO_SOUND
        self._clock.wait(self._ends, LOOK_AGAIN_S)
        return NO_SOUND


def device_input(wanted: str | None) -> DeviceInput:
    """The microphone of a name, or the system's own choice. Raises `NoAudio`."""
    return DeviceInput(find_device(wanted, "input", audio_devices()))
