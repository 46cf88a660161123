"""`replay --voice` and `watch --voice` with a fake device, and without any."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import app
from assistant.commands import speaking
from assistant.commands.terminal import BAD_INPUT
from assistant.commands.watch import asked_camera
from assistant.config.app import load_config
from assistant.errors import ConfigError
from assistant.speech import devices
from assistant.speech.errors import NoAudio
from tests.speech.fakes import FakeVoice
from tests.speech.test_devices import FakeSystem

SCENE = ("replay", "synthetic:3", "--end", "8", "--speed", "max")


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    made = FakeSystem()
    monkeypatch.setattr(devices, "sound_system", lambda: made)
    return made


@pytest.fixture
def voice(monkeypatch: pytest.MonkeyPatch) -> FakeVoice:
    made = FakeVoice()
    monkeypatch.setattr(speaking, "voice_named", lambda name: made)
    return made


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_replay_says_is_heard_and_comes_at_the_same_seconds_as_without(
    system: FakeSystem, voice: FakeVoice, tmp_path: Path
) -> None:
    silent, aloud = tmp_path / "silent.jsonl", tmp_path / "aloud.jsonl"
    question = ("--ask", "6:What is on the left?")
    assert app.run([*SCENE, *question, "--out", str(silent)]) == 0
    assert system.streams == []
    assert app.run([*SCENE, *question, "--out", str(aloud), "--voice"]) == 0
    before, told = (
        [(e["time_s"], e["text"]) for e in events(path) if e["type"] != "status"] for path in (silent, aloud)
    )
    assert told == before and told
    said = set(voice.texts) | {e["details"]["words"] for e in events(aloud) if e.get("kind") == "unspoken"}
    assert {text for _, text in told} <= said and system.streams


def test_only_the_wanted_kinds_are_said(system: FakeSystem, voice: FakeVoice) -> None:
    assert app.run([*SCENE, "--speak", "alerts"]) == 0
    assert voice.texts == [] and system.streams == []


def test_without_audio_one_line_says_so_and_everything_else_works(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def none() -> None:
        raise NoAudio("audio: PortAudio library not found; on Debian: apt-get install libportaudio2")

    monkeypatch.setattr(devices, "sound_system", none)
    assert app.run([*SCENE, "--voice", "--listen"]) == 0
    out, err = capfd.readouterr()
    for what in ("nothing is said aloud: ", "nothing is listened for: "):
        (warning,) = (line for line in err.splitlines() if what in line)
        assert "apt-get install libportaudio2" in warning
    assert "[00:" in out


def test_a_device_of_another_name_is_told_with_those_that_are_there(
    system: FakeSystem, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run([*SCENE, "--voice", "--audio-device", "kitchen"]) == 0
    assert "'kitchen': there is none of that name for output; there are 'fake'" in capfd.readouterr().err


def test_audio_devices_are_listed(system: FakeSystem, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--list-audio-devices"]) == 0
    assert capfd.readouterr().out == "fake (2 out, 1000 Hz, speaks by default)\n"


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("--speech-rate", "3", "from 0.5 to 2"),
        ("--volume", "-1", "from 0 to 2"),
        ("--speak", "songs", "among alerts, answers, remarks"),
    ],
)
def test_values_out_of_bounds_are_refused_in_one_line(
    option: str, value: str, rule: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run([*SCENE, "--voice", option, value]) == BAD_INPUT
    assert rule in capfd.readouterr().err


def test_a_file_says_the_same_as_options(tmp_path: Path) -> None:
    path = tmp_path / "voice.yaml"
    path.write_text("voice: {speak: [alerts, answers], rate: 1.2, device: usb}", encoding="utf-8")
    voice = load_config(path, {"voice": {"speak": "remarks,answers"}}).voice
    assert (voice.speak, voice.rate, voice.device) == (("remarks", "answers"), 1.2, "usb")
    path.write_text("voice: {speak: [songs]}", encoding="utf-8")
    with pytest.raises(ConfigError, match="voice.speak.*songs.*among alerts, answers, remarks"):
        load_config(path)


def test_a_spoken_question_goes_to_the_camera_that_it_names() -> None:
    cameras: Any = [SimpleNamespace(name=name) for name in ("door", "back yard")]
    assert asked_camera("Who is in the back yard?", cameras) is cameras[1]
    assert asked_camera("Who is there, next door?", cameras) is cameras[0]
    assert asked_camera("Who is outdoors?", cameras) is cameras[0], "the first, as none is named"
    with pytest.raises(ConfigError, match="no camera is watched"):
        asked_camera("Who is there?", [])
