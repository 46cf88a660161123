"""Webcams, with a fake in place of OpenCV's camera."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streaming.clock import FakeClock
from streaming.errors import MissingLibrary, OptionError, SourceBusy, SourceNotFound
from streaming.open_source import open_source
from streaming.sources import webcam
from streaming.sources.base import RetryPolicy, SourceOptions
from streaming.sources.reconnect import LiveSource
from streaming.sources.webcam import CameraConnection, connect_camera
from streaming.types import Frame, Notice, NoticeKind

BLUE_IN_BGR = (255, 0, 0)


class FakeCamera:
    """A camera that returns a number of pictures, then fails."""

    def __init__(self, num_images: int, is_open: bool = True, fourcc: str = "MJPG") -> None:
        self._num_left = num_images
        self._is_open = is_open
        self._fourcc = int.from_bytes(fourcc.encode(), "little")
        self.num_released = 0

    def isOpened(self) -> bool:  # noqa: N802
        return self._is_open

    def read(self) -> tuple[bool, Any]:
        if self._num_left == 0:
            return False, None
        self._num_left -= 1
        return True, np.full((6, 8, 3), BLUE_IN_BGR, dtype=np.uint8)

    def get(self, prop: int, /) -> float:
        return {5: 30.0, 6: float(self._fourcc)}.get(prop, 0.0)

    def set(self, prop: int, value: float, /) -> bool:
        return True

    def release(self) -> None:
        self.num_released += 1


def connect(tmp_path: Path, *cameras: FakeCamera, index: int = 0) -> Callable[[], CameraConnection]:
    (tmp_path / "video0").touch()
    waiting = list(cameras)
    return lambda: connect_camera(index, lambda _: waiting.pop(0), tmp_path)


def test_frames_are_rgb_and_timed_by_our_clock(tmp_path: Path) -> None:
    clock = FakeClock(now_s=9.0)
    options = SourceOptions(retry=RetryPolicy(max_retries=0))
    items = []
    with LiveSource("webcam:0", connect(tmp_path, FakeCamera(4)), options, clock) as source:
        info = source.open()
        for item in source.frames():
            items.append(item)
            clock.advance(0.5)
    frames = [item for item in items if isinstance(item, Frame)]
    assert (info.width_px, info.height_px, info.fps_declared, info.codec) == (8, 6, 30.0, "mjpg")
    assert [tuple(frame.image[0, 0]) for frame in frames] == [(0, 0, 255)] * 3
    assert [frame.pts_s for frame in frames] == [0.0, 0.5, 1.0]


def test_a_camera_that_was_unplugged_is_tried_again(tmp_path: Path) -> None:
    cameras = [FakeCamera(3), FakeCamera(0), FakeCamera(2)]
    options = SourceOptions(retry=RetryPolicy(max_retries=2, jitter=0.0))
    with LiveSource("webcam:0", connect(tmp_path, *cameras), options, FakeClock()) as source:
        source.open()
        items = list(source.frames())
    told = ["F" if isinstance(item, Frame) else str(item.kind) for item in items]
    damage = ["damaged", "damaged"]
    assert told == ["opened", "F", "F", *damage, "reconnecting", "reconnecting", "gap", "F", *damage, "ended"]
    lost = [item.count for item in items if isinstance(item, Notice) and item.kind is NoticeKind.DAMAGED]
    assert lost == [1, 4, 1, 4]
    assert [camera.num_released for camera in cameras] == [1, 1, 1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device files are Linux's")
def test_no_such_camera_names_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="Plug one in"):
        connect_camera(0, lambda _: FakeCamera(1), tmp_path)
    (tmp_path / "video2").touch()
    with pytest.raises(SourceNotFound, match=r"There is webcam:2\."):
        connect_camera(0, lambda _: FakeCamera(1), tmp_path)


@pytest.mark.parametrize("camera", [FakeCamera(0), FakeCamera(5, is_open=False)])
def test_a_camera_in_use_is_given_back_at_once(tmp_path: Path, camera: FakeCamera) -> None:
    with pytest.raises((SourceBusy, SourceNotFound)):
        connect(tmp_path, camera)()
    assert camera.num_released == 1


@pytest.mark.parametrize("reason", ["No module named 'cv2'", "libGL.so.1: cannot open shared object file"])
def test_without_opencv_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    real_import = builtins.__import__

    def failing_import(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cv2":
            raise ImportError(reason)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", failing_import)
    with pytest.raises(MissingLibrary, match="opencv-python-headless"):
        webcam._import_opencv()


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(OptionError):
        webcam.webcam_source(-1, SourceOptions())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device files are Linux's")
def test_a_camera_that_is_not_there_is_one_clear_line(capfd: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/video97").exists():
        pytest.skip("this machine has 98 cameras")
    with pytest.raises(SourceNotFound) as caught:
        open_source("webcam:97").open()
    assert str(caught.value).startswith("webcam:97: there is no such camera.")
    assert capfd.readouterr() == ("", "")


def test_opencv_itself_is_quiet_and_its_numbers_are_ours(capfd: pytest.CaptureFixture[str]) -> None:
    import cv2

    camera = webcam._open_with_opencv(97)
    assert not camera.isOpened()
    camera.release()
    assert capfd.readouterr().err == ""
    ours = (webcam._WIDTH, webcam._HEIGHT, webcam._FPS, webcam._FOURCC, webcam._BUFFER_SIZE)
    assert ours == (
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_BUFFERSIZE,
    )


def test_notices_name_the_camera(tmp_path: Path) -> None:
    with LiveSource("webcam:0", connect(tmp_path, FakeCamera(2)), SourceOptions(), FakeClock()) as source:
        source.open()
        first = next(source.frames())
    assert isinstance(first, Notice) and first.source == "webcam:0"


def test_a_camera_that_hangs_is_given_up_after_one_read_too_long(tmp_path: Path) -> None:
    clock = FakeClock()

    class Hanging(FakeCamera):
        def read(self) -> tuple[bool, Any]:
            has_image, image = super().read()
            if not has_image:
                clock.advance(10.0)
            return has_image, image

    (tmp_path / "video0").touch()
    connection = connect_camera(0, lambda _: Hanging(3), tmp_path, clock=clock, timeout_s=3.0)
    events = list(connection.events())
    assert [type(event).__name__ for event in events] == ["DecodedPicture", "DecodedPicture", "Damage", "Broken"]
    assert clock.now_s() == 10.0, "OpenCV's own limit, once and not five times"
