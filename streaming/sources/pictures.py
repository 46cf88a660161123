"""Turns decoded pictures into upright RGB arrays as screens show them; one converter has one stream and one thread."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from streaming.bit_depth import to_8_bits, white_level
from streaming.sources.tone_mapping import is_standard, tone_map

if TYPE_CHECKING:
    from av import VideoFrame
    from av.sidedata.sidedata import SideData

_MATRIX = "DISPLAYMATRIX"
_FIXED_POINT = 1 << 16
_DARKEST_BITS = 13
"""16-bit grey video is brightened where it fits into so many bits, and so would be nearly black: depth, mostly."""
_DEEP_GREYS = frozenset({"gray16le", "gray16be", "grayf32le", "grayf32be"})


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """One decoded picture, not converted yet: sampling skips most, and conversion costs as much as decoding."""

    stamp_s: float | None
    """The container's timestamp in seconds after the container's start; None where it has none."""
    duration_s: float
    """How long it is shown, 0.0 where that is not known."""
    size_px: tuple[int, int]
    """Width and height, upright, of square pixels."""
    to_rgb: Callable[[], np.ndarray]
    """Makes the array: uint8, `[height, width, 3]`, upright, of square pixels, see-through parts white."""
    is_spread: bool = False
    """Whether the stamp was taken from the rate, as the container's lies at one time with many others."""


@dataclass(frozen=True, slots=True)
class PacketTimes:
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


Event = DecodedPicture | Damage | Broken | Undecoded


class PictureConverter:
    """Converts FFmpeg's frames. Keeps one scaler for the stream: making one a frame costs four times the conversion."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._white = 0.0
        """The value that is white in deep grey pictures; it only grows, so that a stream does not flicker."""

    def to_rgb(self, frame: VideoFrame, orientation: Orientation, size_px: tuple[int, int]) -> np.ndarray:
        """`frame` as uint8, `[height, width, 3]`, laid upright, see-through parts white, contiguous.

        size_px: width and height with square pixels, before it is laid upright. HDR and wide colours become BT.709's;
        16-bit and floating-point grey is scaled to what its values need.
        """
        pixels = frame.format
        has_alpha = pixels.has_palette or any(component.is_alpha for component in pixels.components)
        if not is_standard(frame.color_trc, frame.color_primaries):
            image = self._toned(frame, size_px, has_alpha=has_alpha)
        elif has_alpha:
            image = over_white(self._scaled(frame, size_px, "rgba"))
        elif pixels.name in _DEEP_GREYS:
            image = self._grey(frame, size_px)
        else:
            image = self._scaled(frame, size_px, "rgb24")
        return upright(image, orientation)

    def _scaled(self, frame: VideoFrame, size_px: tuple[int, int], pixels: str) -> np.ndarray:
        width_px, height_px = size_px
        return self._reformatter.reformat(frame, width=width_px, height=height_px, format=pixels).to_ndarray()

    def _toned(self, frame: VideoFrame, size_px: tuple[int, int], *, has_alpha: bool) -> np.ndarray:
        tones = tone_map(frame.color_trc, frame.color_primaries)
        if not has_alpha:
            return tones.apply(self._scaled(frame, size_px, "rgb48le"))
        deep = self._scaled(frame, size_px, "rgba64le")
        rgb = tones.apply(np.ascontiguousarray(deep[..., :3]))
        return over_white(np.dstack([rgb, (deep[..., 3] >> 8).astype(np.uint8)]))

    def _grey(self, frame: VideoFrame, size_px: tuple[int, int]) -> np.ndarray:
        values = self._scaled(frame, size_px, frame.format.name)
        self._white = max(self._white, white_level(values, most_bits=_DARKEST_BITS))
        if self._white == (1.0 if values.dtype.kind == "f" else 65535.0):
            return self._scaled(frame, size_px, "rgb24")
        return to_8_bits(values, 0.0, self._white)


def over_white(rgba: np.ndarray) -> np.ndarray:
    """`[height, width, 4]` uint8 with straight alpha laid over white, `[height, width, 3]`, rounded."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    weighted = rgba[..., :3].astype(np.uint16) * alpha + np.uint16(255) * (255 - alpha)
    return ((weighted + 127) // 255).astype(np.uint8)


def square_pixel_size(width_px: int, height_px: int, pixel_aspect: float, most_pixels: int) -> tuple[int, int]:
    """Width and height with square pixels, as browsers show it: the side that is too short grows.

    pixel_aspect: width of a pixel over its height. Where it would have more than `most_pixels`, the other side shrinks.

    >>> square_pixel_size(160, 240, 2.0, 10**6), square_pixel_size(720, 480, 8 / 9, 10**6)
    ((320, 240), (720, 540))
    """
    if not 0 < pixel_aspect < float("inf") or pixel_aspect == 1:
        return width_px, height_px
    grows_wide = pixel_aspect > 1
    if width_px * height_px * max(pixel_aspect, 1 / pixel_aspect) > most_pixels:
        grows_wide = not grows_wide
    if grows_wide == (pixel_aspect > 1):
        factor = max(pixel_aspect, 1 / pixel_aspect)
    else:
        factor = min(pixel_aspect, 1 / pixel_aspect)
    if grows_wide:
        return max(1, round(width_px * factor)), height_px
    return width_px, max(1, round(height_px * factor))


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
    try:
        matrix = cast("SideData | None", frame.side_data.get(_MATRIX))
    except ValueError:  # PyAV 18.1 knows no name for some things that lie beside the matrix, as a photograph's Exif
        return Orientation(mirrored=False, quarter_turns=round(frame.rotation / 90) % 4)
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
