"""Makes small video files for tests. Every frame tells which one it is, in bars of black and white."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import av
import numpy as np

FPS = 25
_FINE = Fraction(1, 90_000)
_COARSE = Fraction(1, FPS)
_CODECS_WITH_FIXED_RATES = ("mpeg4", "mpeg2video")
_NUM_BITS = 6
_BLACK, _WHITE = 40, 215

QUADRANTS = {"top left": (255, 0, 0), "top right": (0, 255, 0), "bottom left": (0, 0, 255), "bottom right": (255,) * 3}


def numbered(index: int, width_px: int, height_px: int) -> np.ndarray:
    """Six bars that say `index` modulo 64: uint8, `[height, width, 3]`."""
    image = np.empty((height_px, width_px, 3), dtype=np.uint8)
    for bit, columns in enumerate(np.array_split(np.arange(width_px), _NUM_BITS)):
        image[:, columns] = _WHITE if index >> bit & 1 else _BLACK
    return image


def number_of(image: np.ndarray) -> int:
    """The index modulo 64 that `numbered` painted, read back after any codec."""
    bars = np.array_split(image.astype(np.float64), _NUM_BITS, axis=1)
    return sum(int(bar.mean() > (_BLACK + _WHITE) / 2) << bit for bit, bar in enumerate(bars))


def quadrants(index: int, width_px: int, height_px: int) -> np.ndarray:
    """Red, green over blue, white: shows which way up a picture is."""
    image = np.zeros((height_px, width_px, 3), dtype=np.uint8)
    middle_y, middle_x = height_px // 2, width_px // 2
    image[:middle_y, :middle_x] = QUADRANTS["top left"]
    image[:middle_y, middle_x:] = QUADRANTS["top right"]
    image[middle_y:, :middle_x] = QUADRANTS["bottom left"]
    image[middle_y:, middle_x:] = QUADRANTS["bottom right"]
    return image


def write_clip(
    path: Path,
    *,
    num_frames: int = 50,
    stamps_s: Sequence[float] | None = None,
    size_px: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    container_format: str | None = None,
    rotation: int | None = None,
    mirrored: bool = False,
    gop: int = 10,
    paint: Callable[[int, int, int], np.ndarray] = numbered,
    with_sound: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode `num_frames` frames, at `stamps_s` or at 25 a second, and give `path` back.

    `rotation` goes into the display matrix, in degrees counterclockwise, and after it `mirrored`, left to right.
    RGBA where `pix_fmt` has alpha. `options` are the container's.
    """
    width_px, height_px = size_px
    stamps_s = [index / FPS for index in range(num_frames)] if stamps_s is None else stamps_s
    with av.open(str(path), "w", format=container_format, options=options or {}) as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=FPS))
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, pix_fmt
        stream.gop_size = gop
        time_base = _COARSE if codec in _CODECS_WITH_FIXED_RATES else _FINE
        stream.codec_context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        sound = container.add_stream("aac", rate=48_000) if with_sound else None
        for index, stamp_s in enumerate(stamps_s):
            image = paint(index, width_px, height_px)
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
            frame.pts, frame.time_base = round(stamp_s / time_base), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _encode_silence(container, sound, duration_s=1.0)
    return path


def write_sound(path: Path) -> Path:
    """A file with a second of silence and no picture."""
    with av.open(str(path), "w") as container:
        _encode_silence(container, container.add_stream("aac", rate=48_000), duration_s=1.0)
    return path


def write_joined(path: Path, lengths: Sequence[int]) -> Path:
    """Recordings of so many frames joined byte by byte, so that timestamps jump back at each joint (MPEG-TS)."""
    parts = []
    for number, num_frames in enumerate(lengths):
        part = write_clip(path.with_name(f"{path.stem}.{number}.ts"), num_frames=num_frames, codec="mpeg2video")
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    return path


def write_resized(path: Path, sizes: Sequence[tuple[int, int]], paint: Callable[[int, int, int], np.ndarray]) -> Path:
    """A second of VP8 at 5 a second in each of the sizes, one after another in one stream, as a call is recorded."""
    with av.open(str(path), "w", format="webm", options={"live": "1"}) as container:
        stream = None
        for number, size_px in enumerate(sizes):
            part = write_clip(
                path.with_name(f"{path.stem}.{number}.webm"),
                num_frames=5,
                stamps_s=[index / 5 for index in range(5)],
                size_px=size_px,
                codec="libvpx",
                paint=paint,
            )
            with av.open(str(part)) as source:
                stream = stream or container.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size and packet.pts is not None and packet.time_base is not None:
                        packet.pts = packet.dts = round(1000 * (float(packet.pts * packet.time_base) + number))
                        packet.time_base, packet.stream = Fraction(1, 1000), stream
                        container.mux(packet)
    return path


def damage(path: Path, first: float, last: float) -> Path:
    """Overwrite this stretch of the file, in parts of its length, with noise."""
    data = bytearray(path.read_bytes())
    begin, end = int(first * len(data)), int(last * len(data))
    data[begin:end] = np.random.default_rng(0).bytes(end - begin)
    path.write_bytes(data)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep only the first part of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def real_clip(name: str) -> Path:
    """One of the clips that come with Gradio: a.mp4 (1080p), b.avi, b.mp4, world.mp4 (30 s)."""
    spec = find_spec("gradio")
    assert spec is not None and spec.submodule_search_locations, "Gradio is one of the requirements"
    return Path(spec.submodule_search_locations[0]) / "media_assets" / "videos" / name


def _encode_silence(container: av.container.OutputContainer, stream: av.AudioStream, duration_s: float) -> None:
    block = 1024
    for number in range(int(duration_s * 48_000) // block):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, block), dtype=np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, number * block
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
