"""Decoding on a graphics card: used if there is one, given up if it cannot decode the stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest
from av.codec.hwaccel import HWAccel

from streaming.sources import hardware as module
from streaming.sources.hardware import HardwareDecoding
from streaming.sources.pictures import Broken, Damage, DecodedPicture, Undecoded
from streaming.sources.reading import VideoReader, open_reader
from tests.clips import write_clip


class Refusing:
    """A device's decoder that takes no packet."""

    def decode(self, packet: Any) -> list[Any]:
        raise av.error.InvalidDataError(1094995529, "Invalid data found when processing input")


def test_off_never_looks_for_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_find_device", lambda: pytest.fail("it was looked for"))
    assert HardwareDecoding("off").accelerator() is None


def test_a_device_is_looked_for_once_and_given_up_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def find() -> str:
        looked.append("cuda")
        return "cuda"

    monkeypatch.setattr(module, "_find_device", find)
    hardware = HardwareDecoding("auto")
    assert isinstance(hardware.accelerator(), HWAccel) and hardware.accelerator() is not None
    assert looked == ["cuda"]
    hardware.give_up()
    assert hardware.accelerator() is None


def test_a_device_that_is_built_for_and_not_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        def __init__(self, device: str) -> None:
            self.device = device

        def create(self, codec: Any) -> None:
            raise av.error.ExternalError(542398533, "Generic error in an external library")

    monkeypatch.setattr(module, "HWAccel", Absent)
    assert module._find_device() is None


def test_a_device_that_decodes_nothing_is_given_up_and_the_stream_opened_anew(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", num_frames=30)
    hardware = HardwareDecoding("auto")
    reader = VideoReader(av.open(str(path)), "clip", is_live=True, hardware=hardware)
    reader._context = Refusing()  # type: ignore[assignment]
    events = list(reader.events())
    reader.close()
    assert [type(event) for event in events] == [Damage] * 5 + [Broken]
    assert isinstance(events[-1], Broken) and "going on without" in events[-1].reason
    assert hardware.accelerator() is None


def test_one_damaged_picture_does_not_cost_the_device(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", num_frames=30)
    hardware = HardwareDecoding("auto")
    reader = VideoReader(av.open(str(path)), "clip", is_live=True, hardware=hardware)
    events = reader.events()
    while not isinstance(next(events), DecodedPicture):
        pass
    reader._context = Refusing()  # type: ignore[assignment]
    rest = list(events)
    reader.close()
    assert not [event for event in rest if isinstance(event, Broken)]


def test_a_live_stream_with_sound_says_that_no_picture_came(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.ts", num_frames=30, codec="mpeg2video", with_sound=True)
    live = open_reader(str(path), "clip", options={}, is_live=True)
    events = list(live.events())
    live.close()
    recorded = open_reader(str(path), "clip", options={})
    pictures = [event for event in recorded.events() if isinstance(event, DecodedPicture)]
    recorded.close()
    assert sum(isinstance(event, DecodedPicture) for event in events) == len(pictures) == 30
    assert sum(isinstance(event, Undecoded) for event in events) > 20, "one for each packet of sound"
