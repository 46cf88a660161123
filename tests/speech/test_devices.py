"""Audio devices: by name, lost and found again, and none at all."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from assistant.speech import devices
from assistant.speech.announcer import AudioOutput
from assistant.speech.devices import (
    LOOK_AGAIN_S,
    RETRY_S,
    AudioDevice,
    SteadyInput,
    SteadyOutput,
    audio_devices,
    find_device,
)
from assistant.speech.errors import DeviceLost, NoAudio
from assistant.speech.sound import Sound
from streaming.clock import FakeClock
from tests.speech.fakes import RATE_HZ, FakeOutput

CARD = AudioDevice(0, "HDA Intel: ALC (hw:0,0)", 2, 2, 48_000, False, False)
PULSE = AudioDevice(1, "pulse", 32, 32, 44_100, True, True)
MICROPHONE = AudioDevice(2, "USB Microphone", 0, 1, 16_000, False, False)
ALL = [CARD, PULSE, MICROPHONE]
SOUND = Sound(np.ones(RATE_HZ, np.float32), RATE_HZ)


def never() -> bool:
    return False


@pytest.mark.parametrize(("wanted", "found"), [(None, PULSE), ("alc", CARD), ("PULSE", PULSE)])
def test_a_device_is_found_by_its_name_or_a_part_of_it(wanted: str | None, found: AudioDevice) -> None:
    assert find_device(wanted, "output", ALL) is found


def test_a_device_that_only_listens_does_not_speak() -> None:
    assert find_device("usb", "input", ALL) is MICROPHONE
    with pytest.raises(NoAudio, match="'USB': there is none of that name for output; there are .*'pulse'"):
        find_device("USB", "output", ALL)


def test_where_no_device_is_one_line_says_so() -> None:
    with pytest.raises(NoAudio, match="no device for output"):
        find_device(None, "output", [MICROPHONE])


@pytest.mark.parametrize(("present", "remedy"), [(None, "pip install"), ("broken", "apt-get install libportaudio2")])
def test_without_a_sound_system_one_line_says_what_to_install(
    present: str | None, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str, *rest: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found") if present else ImportError(name)
        return real(name, *rest)

    real = __import__
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr("builtins.__import__", missing)
    with pytest.raises(NoAudio, match=remedy):
        audio_devices()


def test_each_device_is_one_line() -> None:
    assert PULSE.line == "pulse (32 out, 32 in, 44100 Hz, speaks by default, listens by default)"


class Shelf:
    """Devices that can be pulled out."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.there = {"pulse": FakeOutput(self.clock, "pulse"), "usb": FakeOutput(self.clock, "usb")}
        self.told: list[str] = []
        self.output = SteadyOutput(self.open, "usb", self.told.append, self.clock)

    def open(self, wanted: str | None) -> AudioOutput:
        name = wanted or next(iter(self.there), "")
        if name not in self.there:
            raise NoAudio(f"audio device {name!r}: there is none")
        return self.there[name]

    def pull(self, name: str) -> None:
        lost = self.there.pop(name)
        lost.lost.update(range(100))


def test_another_device_is_used_for_one_that_is_lost_from_the_clause_on() -> None:
    shelf = Shelf()
    assert shelf.output.play(SOUND, never) and shelf.output.name == "usb"
    shelf.pull("usb")
    assert shelf.output.play(SOUND, never) and shelf.output.name == "pulse"
    assert shelf.there["pulse"].num_played == 1
    assert "'usb': pulled out" in shelf.told[0] and "goes on by audio device 'pulse'" in shelf.told[1]


def test_with_no_device_left_speech_is_silent_until_one_is_there() -> None:
    shelf = Shelf()
    shelf.output.open()
    shelf.pull("usb")
    pulse = shelf.there.pop("pulse")
    for _ in range(2):
        with pytest.raises(NoAudio):
            shelf.output.play(SOUND, never)
    shelf.there["pulse"] = pulse
    with pytest.raises(NoAudio, match="no device is there"):
        shelf.output.play(SOUND, never)
    shelf.clock.advance(RETRY_S)
    assert shelf.output.play(SOUND, never) and len(shelf.told) == 2


class FakeMicrophone:
    """Gives a block at each reading until it is pulled out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_lost = self.is_closed = False

    def read(self) -> np.ndarray:
        if self.is_lost:
            raise DeviceLost(f"microphone {self.name!r}: pulled out")
        return np.ones(3, np.float32)

    def close(self) -> None:
        self.is_closed = True


def test_another_microphone_is_used_for_one_that_is_lost_and_one_is_waited_for() -> None:
    there = {"usb": FakeMicrophone("usb"), "pulse": FakeMicrophone("pulse")}
    clock, told = FakeClock(), list[str]()

    def open_input(wanted: str | None) -> FakeMicrophone:
        name = wanted or next(iter(there), "")
        if name not in there:
            raise NoAudio(f"microphone {name!r}: there is none")
        return there[name]

    source = SteadyInput(open_input, "usb", told.append, clock)
    source.open()
    assert len(source.read()) == 3
    usb = there.pop("usb")
    usb.is_lost = True
    assert [len(source.read()) for _ in range(3)] == [0, 0, 3] and usb.is_closed
    assert "pulled out" in told[0] and "goes on by microphone 'pulse'" in told[1]
    there.pop("pulse").is_lost = True
    assert [len(source.read()) for _ in range(3)] == [0, 0, 0] and clock.now_s() == 2 * LOOK_AGAIN_S
    there["usb"] = FakeMicrophone("usb")
    assert [len(source.read()) for _ in range(2)] == [0, 3]
    source.close()
    assert there["usb"].is_closed


def test_a_device_that_is_lost_while_it_plays_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    system = FakeSystem()
    monkeypatch.setattr(devices, "sound_system", lambda: system)
    output = devices.device_output("fake")
    assert output.play(SOUND, never) and system.streams[0].written == RATE_HZ
    output.rest(cut=False)
    assert system.streams[0].calls == ["start", "stop", "close"]
    cut = iter([False, False, True])
    assert not output.play(SOUND, lambda: next(cut)) and system.streams[1].written < RATE_HZ
    output.rest(cut=True)
    assert system.streams[1].calls == ["start", "abort", "close"]
    system.is_gone = True
    with pytest.raises(DeviceLost, match="unplugged"):
        output.play(SOUND, never)
    output.close()


class FakeSystem:
    """As much of sounddevice as an output uses."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        self.is_gone = False
        self.streams: list[FakeStream] = []
        self.default = type("Default", (), {"device": (-1, 0)})

    def query_devices(self) -> list[dict[str, object]]:
        return [
            {"name": "fake", "max_output_channels": 2, "max_input_channels": 0, "default_samplerate": float(RATE_HZ)}
        ]

    def OutputStream(self, **wanted: object) -> FakeStream:  # noqa: N802
        if self.is_gone:
            raise self.PortAudioError("device unavailable")
        self.streams.append(FakeStream())
        return self.streams[-1]


class FakeStream:
    def __init__(self) -> None:
        self.written = 0
        self.calls: list[str] = []

    def write(self, block: np.ndarray) -> None:
        assert block.ndim == 2 and block.dtype == np.float32
        self.written += len(block)

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def abort(self) -> None:
        self.calls.append("abort")

    def close(self, ignore_errors: bool = True) -> None:
        self.calls.append("close")
