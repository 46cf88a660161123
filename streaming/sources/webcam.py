"""Webcams through OpenCV. Threads as for `LiveSource`, which does the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from streaming.clock import Clock, SystemClock
from streaming.errors import MissingLibrary, OptionError, SourceBusy, SourceNotFound, SourceUnreadable
from streaming.sources.base import SourceOptions
from streaming.sources.pictures import Broken, Damage, DecodedPicture, Event
from streaming.sources.reconnect import LiveSource

if TYPE_CHECKING:
    from types import ModuleType

_MAX_FAILED_READS = 5

# OpenCV's property numbers (cv2.CAP_PROP_…), repeated here so that tests can fake a camera without OpenCV.
_WIDTH, _HEIGHT, _FPS, _FOURCC, _BUFFER_SIZE = 3, 4, 5, 6, 38


class Camera(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def isOpened(self) -> bool:  # noqa: N802
        """Whether the camera is open."""
        ...

    def read(self) -> tuple[bool, Any]:
        """Whether there is a picture, and the picture: uint8 BGR `[height, width, 3]`."""
        ...

    def get(self, prop: int, /) -> float:
        """The value of a property."""
        ...

    def set(self, prop: int, value: float, /) -> bool:
        """Set a property; whether the camera supports it."""
        ...

    def release(self) -> None:
        """Close the camera."""
        ...


OpenCamera = Callable[[int], Camera]


class CameraConnection:
    """An open webcam, as a `Connection` for `LiveSource`."""

    has_timestamps = False
    is_bursty = False
    is_finite = False

    def __init__(
        self, camera: Camera, first_image: np.ndarray, clock: Clock | None = None, read_timeout_s: float = 3.0
    ) -> None:
        """`first_image` proves that the camera works; it is not delivered, as cameras start dark.

        OpenCV blocks for up to ten seconds if a camera hangs; the connection then ends if `read_timeout_s` have passed
        without a picture.
        """
        self._camera = camera
        self._clock = clock or SystemClock()
        self._read_timeout_s = read_timeout_s
        self._size_px = (first_image.shape[1], first_image.shape[0])
        self._codec = _letters_of(int(camera.get(_FOURCC)))
        self._fps = camera.get(_FPS)

    @property
    def codec(self) -> str:
        """The camera's pixel format as four letters, or "raw"."""
        return self._codec

    @property
    def coded_size_px(self) -> tuple[int, int]:
        """Width and height of its pictures."""
        return self._size_px

    @property
    def fps_declared(self) -> float | None:
        """The frame rate that the driver declares; None if it is not plausible."""
        return self._fps if 0 < self._fps <= 1000 else None

    def events(self) -> Iterator[Event]:
        """Yield pictures until the camera fails several times in a row, or for too long."""
        num_failed = 0
        seen_at_s = self._clock.now_s()
        while num_failed < _MAX_FAILED_READS and self._clock.now_s() - seen_at_s <= self._read_timeout_s:
            has_image, bgr = self._camera.read()
            if has_image and bgr is not None:
                num_failed = 0
                yield _picture(bgr)
                # The consumer may be slow, so the timeout counts from when it asks for the next picture.
                seen_at_s = self._clock.now_s()
            else:
                num_failed += 1
                yield Damage("the camera gave no picture", num_lost=1)
        yield Broken("the camera gives no more pictures")

    def close(self) -> None:
        """Release the camera."""
        self._camera.release()


def webcam_source(
    index: int, options: SourceOptions, clock: Clock | None = None, open_camera: OpenCamera | None = None
) -> LiveSource:
    """The source for the webcam number `index`; tests pass `open_camera` in place of OpenCV's `VideoCapture`."""
    if index < 0:
        raise OptionError(f"webcam:{index}", "cameras are numbered from 0", "use webcam:0")
    name = f"webcam:{index}"

    def connect() -> CameraConnection:
        return connect_camera(index, open_camera or _open_with_opencv, clock=clock, timeout_s=options.read_timeout_s)

    return LiveSource(name, connect, options, clock)


def connect_camera(
    index: int,
    open_camera: OpenCamera,
    devices: Path = Path("/dev"),
    *,
    clock: Clock | None = None,
    timeout_s: float = 3.0,
) -> CameraConnection:
    """Open a camera and read its first picture. Raises a `SourceError` that says why there is none."""
    name, device = f"webcam:{index}", devices / f"video{index}"
    has_device_files = sys.platform.startswith("linux")
    if has_device_files and not device.exists():
        present = sorted(path.name.removeprefix("video") for path in devices.glob("video*"))
        remedy = f"there is webcam:{', webcam:'.join(present)}" if present else "plug one in, or give a file or a URL"
        raise SourceNotFound(name, "there is no such camera", remedy)
    if has_device_files and not os.access(device, os.R_OK | os.W_OK):
        raise SourceUnreadable(name, f"you may not use {device}", "add your user to the group that owns it (video)")
    camera = open_camera(index)
    has_image, bgr = camera.read() if camera.isOpened() else (False, None)
    if not has_image or bgr is None:
        camera.release()
        if has_device_files:
            raise SourceBusy(name, "it gives no picture", "close the program that uses it, or try another number")
        raise SourceNotFound(name, "there is no such camera, or another program uses it", "try another number")
    camera.set(_BUFFER_SIZE, 1)
    return CameraConnection(camera, bgr, clock, timeout_s)


def _letters_of(number: int) -> str:
    letters = number.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ") if 0 < number < 1 << 32 else ""
    return letters.lower() if letters.isalnum() else "raw"


def _picture(bgr: np.ndarray) -> DecodedPicture:
    def to_rgb() -> np.ndarray:
        image = bgr[..., None].repeat(3, axis=-1) if bgr.ndim == 2 else bgr[..., 2::-1]
        return np.ascontiguousarray(image)

    return DecodedPicture(None, 0.0, (bgr.shape[1], bgr.shape[0]), to_rgb)


def _open_with_opencv(index: int) -> Camera:
    opencv = _import_opencv()
    level = opencv.utils.logging.getLogLevel()
    # OpenCV would print warnings beside our own error message.
    opencv.utils.logging.setLogLevel(opencv.utils.logging.LOG_LEVEL_SILENT)
    try:
        camera: Camera = opencv.VideoCapture(index)
        return camera
    finally:
        opencv.utils.logging.setLogLevel(level)


def _import_opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        remedy = "pip install opencv-python-headless"
        if "libGL" in str(error):
            remedy += ", in place of opencv-python; or install the system's libgl1"
        raise MissingLibrary("OpenCV", f"it is needed for webcams and does not load ({error})", remedy) from None
    return cv2
