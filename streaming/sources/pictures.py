"""Turns decoded pictures into upright RGB arrays; one converter belongs to one stream and one thread."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame
    from av.sidedata.sidedata import SideData

_MATRIX = "DISPLAYMATRIX"
_FIXED_POINT = 1 << 16


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture, not converted yet: sampling skips most, and conversion costs as much as decoding."""

    stamp_s: float | None
    """The container's timestamp in seconds after the container's start; None where it has none."""
    duration_s: float
    """How long it is shown, 0.0 where that is not known."""
    size_px: tuple[int, int]
    """Width and height, upright."""
    to_rgb: Callable[[], np.ndarray]
    """Makes the array: uint8, `[height, width, 3]`, upright, alpha composited over black."""
    is_spread: bool = False
    """Whether the stamp was taken from the rate, as the container's lies at one time with many others."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """The timestamps of a picture that is not decoded, seconds after the container's start; None where it has none."""

    show_s: float | None
    decode_s: float | None


@dataclass(frozen=True, slots=True)
class Damage:
    """A piece of the stream that could not be decoded, or came damaged and was decoded as well as it could be."""

    reason: str
    num_lost: int
    """1 if a frame is missing for it, 0 if only its content is doubtful."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The end of a stream that broke off; nothing comes after it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Undecoded:
    """Something came that gave no picture and is no damage either; live readers say so, that deadlines can be kept."""


Event = Picture | Damage | Broken | Undecoded


class PictureConverter:
    """Converts FFmpeg's frames. Keeps one scaler for the stream: making one a frame costs four times the conversion."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: VideoFrame, orientation: Orientation) -> np.ndarray:
        """`frame` as uint8, `[height, width, 3]`, laid upright, alpha composited over black, contiguous."""
        pixels = frame.format
        if pixels.has_palette or any(component.is_alpha for component in pixels.components):
            rgba = self._reformatter.reformat(frame, format="rgba").to_ndarray()
            image = composite_over_black(rgba)
        else:
            image = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        return upright(image, orientation)


def composite_over_black(rgba: np.ndarray) -> np.ndarray:
    """`[height, width, 4]` uint8 with straight alpha to `[height, width, 3]`, rounded."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    weighted = rgba[..., :3].astype(np.uint16) * alpha
    return ((weighted + 127) // 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to lay a picture: mirrored left to right first, then turned."""

    mirrored: bool
    quarter_turns: int
    """Counterclockwise, 0 to 3."""

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self.quarter_turns % 2 == 1


UPRIGHT = Orientation(mirrored=False, quarter_turns=0)


def orientation_of(frame: VideoFrame) -> Orientation:
    """How `frame` is to be laid, from the display matrix that its container or its codec attached."""
    matrix = cast("SideData | None", frame.side_data.get(_MATRIX))
    return UPRIGHT if matrix is None else orientation_from_matrix(bytes(matrix))


def orientation_from_matrix(matrix: bytes) -> Orientation:
    """Nearest right angle to a display matrix: nine native 32-bit integers `a b u c d v x y w`, 16.16 fixed point.

    It takes (x, y), y downwards, to (a x + c y, b x + d y): ISO/IEC 14496-12, and FFmpeg's libavutil/display.h.
    """
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    mirrored = a * d - b * c < 0
    right_x, right_y = (-a, -b) if mirrored else (a, b)
    if max(abs(right_x), abs(right_y)) * 4 < _FIXED_POINT:
        return UPRIGHT
    if abs(right_x) >= abs(right_y):
        return Orientation(mirrored, 0 if right_x > 0 else 2)
    return Orientation(mirrored, 3 if right_y > 0 else 1)


def upright(image: np.ndarray, orientation: Orientation) -> np.ndarray:
    """`image` laid as it is to be seen, contiguous."""
    if orientation.mirrored:
        image = image[:, ::-1]
    if orientation.quarter_turns:
        image = np.rot90(image, orientation.quarter_turns)
    return np.ascontiguousarray(image)
