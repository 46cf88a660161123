"""Reads animated WebP, which FFmpeg cannot decode: Pillow decodes it, and FFmpeg reads it as lossless video.

So it is played like any other recording. Threads as for `VideoReader`.
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

import av
import numpy as np

from streaming.errors import NotAVideo
from streaming.sources.reading import MAX_PIXELS, VideoReader

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST_PIXELS_IN_ALL = 1_000_000_000
"""Most pixels of all pictures of a file together: all are decoded before the first is delivered."""
_IS_ANIMATED = 0x02
_MS = Fraction(1, 1000)
_SHORTEST_MS, _USUAL_MS = 10, 100
"""Pictures with a duration of at most `_SHORTEST_MS` are shown for `_USUAL_MS`, as in browsers."""


class AnimationReader(VideoReader):
    """A reader of an animated WebP, which owns the file of its decoded pictures."""

    def __init__(self, decoded: IO[bytes], name: str) -> None:
        self._decoded = decoded
        super().__init__(av.open(decoded, "r", format="mov"), name, is_live=False)

    def close(self) -> None:
        super().close()
        self._decoded.close()

    @property
    def codec(self) -> str:
        """The codec of the original file."""
        return "webp"


def is_animated_webp(path: Path) -> bool:
    """Whether the file is an animated WebP, by its header (WebP's container specification)."""
    try:
        with path.open("rb") as file:
            head = file.read(21)
    except OSError:
        return False
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20:] and head[20] & _IS_ANIMATED)


def open_animation(path: Path, name: str) -> VideoReader:
    """Decode an animated WebP and open a reader of its pictures. Raises `NotAVideo`."""
    from PIL import Image

    file = tempfile.TemporaryFile()  # noqa: SIM115  # the reader's from here on
    try:
        with Image.open(path, formats=("WEBP",)) as opened:
            _check_size(opened, name)
            _encode(opened, file)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        file.close()
        raise NotAVideo(name, f"it is an animated WebP that cannot be decoded ({error})", "save it again") from None
    except NotAVideo:
        file.close()
        raise
    file.seek(0)
    try:
        return AnimationReader(file, name)
    except BaseException:
        file.close()
        raise


def _check_size(opened: Image, name: str) -> None:
    num_pictures: int = getattr(opened, "n_frames", 1)
    size = f"{opened.width} x {opened.height}"
    if opened.width * opened.height > MAX_PIXELS:
        raise NotAVideo(name, f"its picture is {size}; at most {MAX_PIXELS:,} pixels are read", "scale it down")
    if num_pictures * opened.width * opened.height > _MOST_PIXELS_IN_ALL:
        rule = f"it has {num_pictures} pictures of {size}; at most {_MOST_PIXELS_IN_ALL:,} pixels in all are read"
        raise NotAVideo(name, rule, "save it as MP4 or WebM")


def _encode(opened: Image, file: IO[bytes]) -> None:
    """Write every picture with its time, duration and transparency."""
    from PIL import ImageSequence

    with av.open(file, "w", format="mov") as container:
        stream = container.add_stream("qtrle", rate=10)
        stream.width, stream.height, stream.pix_fmt = opened.width, opened.height, "argb"
        stream.time_base = stream.codec_context.time_base = _MS
        time_ms = 0
        for picture in ImageSequence.Iterator(opened):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGBA")), format="rgba")
            length_ms = int(picture.info.get("duration", 0))
            length_ms = length_ms if length_ms > _SHORTEST_MS else _USUAL_MS
            frame.pts, frame.time_base = time_ms, _MS
            for packet in stream.encode(frame):
                packet.duration = length_ms
                container.mux(packet)
            time_ms += length_ms
