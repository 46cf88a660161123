"""Converts decoded pictures to upright RGB arrays, as screens show them. One converter per stream, on one thread."""

from __future__ import annotations

import io
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
"""16-bit grey video whose values fit into so many bits is brightened, as it would be nearly black (mostly depth)."""
_DEEP_GREYS = frozenset({"gray16le", "gray16be", "grayf32le", "grayf32be"})


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """One decoded picture, not converted yet: sampling skips most, and conversion costs as much as decoding."""

    stamp_s: float | None
    """The container's timestamp in seconds after the container's start; None without a timestamp."""
    duration_s: float
    """How long the picture is shown; 0.0 if not known."""
    size_px: tuple[int, int]
    """Width and height, upright, of square pixels."""
    to_rgb: Callable[[], np.ndarray]
    """Converts it to uint8 `[height, width, 3]`, upright, with square pixels, transparent parts white."""
    is_spread: bool = False
    """Whether `stamp_s` was computed from the frame rate, because many of the container's timestamps coincide."""


@dataclass(frozen=True, slots=True)
class PacketTimes:
    """The timestamps of a packet that was not decoded, in seconds after the container's start; None if missing."""

    show_s: float | None
    """Presentation time."""
    decode_s: float | None
    """Decoding time."""
    duration_s: float = 0.0
    """How long the picture is shown; 0.0 if the container does not say."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A piece of the stream that could not be decoded, or arrived damaged and was decoded as well as possible."""

    reason: str
    """Why, as part of a sentence."""
    num_lost: int
    """Number of frames that are missing; 0 if a frame was decoded but may be wrong."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The end of a stream that broke off; it is the last event."""

    reason: str
    """Why, as part of a sentence."""


@dataclass(frozen=True, slots=True)
class Undecoded:
    """Data arrived that gave no picture and is not damage. Live readers yield it so that time limits are checked."""


Event = DecodedPicture | Damage | Broken | Undecoded


class PictureConverter:
    """Converts FFmpeg's frames to RGB. It reuses one scaler: a new one per frame costs four times the conversion."""

    def __init__(self, *, gamma_by_colour: bool = False) -> None:
        """gamma_by_colour: of HLG (`has_gamma_by_colour`)."""
        from av.video.reformatter import VideoReformatter

        self._gamma_by_colour = gamma_by_colour
        self._reformatter = VideoReformatter()
        self._white = 0.0
        """The value shown as white in deep grey pictures; it never shrinks, so that a stream does not flicker."""

    def to_rgb(self, frame: VideoFrame, orientation: Orientation, size_px: tuple[int, int]) -> np.ndarray:
        """`frame` as contiguous uint8 `[height, width, 3]`, rotated upright, transparent parts white.

        size_px: width and height with square pixels, before rotation. HDR and wide-gamut colours are converted to
        BT.709; 16-bit and floating-point grey is scaled to the range of its values.
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
        tones = tone_map(frame.color_trc, frame.color_primaries, by_colour=self._gamma_by_colour)
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
    """uint8 `[height, width, 4]` with straight alpha composed over white: uint8 `[height, width, 3]`, rounded."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    weighted = rgba[..., :3].astype(np.uint16) * alpha + np.uint16(255) * (255 - alpha)
    rgb: np.ndarray = ((weighted + 127) // 255).astype(np.uint8)
    return rgb


def square_pixel_size(width_px: int, height_px: int, pixel_aspect: float, most_pixels: int) -> tuple[int, int]:
    """Width and height after conversion to square pixels: the side that is too short grows, as in browsers.

    pixel_aspect: width of a pixel over its height. If growing exceeded `most_pixels`, the other side shrinks instead.

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
    """One of the eight orientations of a picture: first mirrored left to right, then rotated."""

    mirrored: bool
    """Whether it is mirrored left to right."""
    quarter_turns: int
    """Quarter turns counterclockwise, 0 to 3."""

    @property
    def swaps_sides(self) -> bool:
        """Whether the rotation exchanges width and height."""
        return self.quarter_turns % 2 == 1


UPRIGHT = Orientation(mirrored=False, quarter_turns=0)
_EXIF_ORIENTATION = 0x0112
_OF_EXIF = {
    number: Orientation(mirrored, quarter_turns)
    for number, (mirrored, quarter_turns) in enumerate(
        [(False, 0), (True, 0), (False, 2), (True, 2), (True, 1), (False, 3), (True, 3), (False, 1)], start=1
    )
}
"""By Exif's numbers: 3 and 4 upside down, 5 to 8 on a side, 2, 4, 5 and 7 mirrored (CIPA DC-008, 4.6.5)."""


def orientation_of(frame: VideoFrame, data: bytes = b"") -> Orientation:
    """How to rotate and mirror `frame`, from the display matrix that its container or codec attached.

    data: the packet that holds the picture, whose Exif is read where PyAV cannot read what FFmpeg attached.
    """
    try:
        matrix = cast("SideData | None", frame.side_data.get(_MATRIX))
    except ValueError:  # PyAV 18.1 fails on side data that it does not know, such as a photograph's Exif
        found = orientation_from_exif(data)
        return found or Orientation(mirrored=False, quarter_turns=round(frame.rotation / 90) % 4)
    return UPRIGHT if matrix is None else orientation_from_matrix(bytes(matrix))


def orientation_from_exif(data: bytes) -> Orientation | None:
    """The orientation that the Exif of a picture file declares (tag 0x0112); None if there is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "TIFF")) as opened:
            return _OF_EXIF.get(opened.getexif().get(_EXIF_ORIENTATION, 0))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def orientation_from_matrix(matrix: bytes) -> Orientation:
    """The orientation nearest to a display matrix: nine native 32-bit integers `a b u c d v x y w`, 16.16 fixed point.

    The matrix maps (x, y), y downwards, to (a x + c y, b x + d y): ISO/IEC 14496-12, and FFmpeg's libavutil/display.h.
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
    """`image` mirrored and rotated by `orientation`, contiguous."""
    if orientation.mirrored:
        image = image[:, ::-1]
    if orientation.quarter_turns:
        image = np.rot90(image, orientation.quarter_turns)
    return np.ascontiguousarray(image)
