"""Encodes pictures as H.264 and decodes them again, for realistic coding errors. For any thread; PyAV loads on use."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def through_h264(
    pictures: Sequence[np.ndarray], fps: float, *, crf: int = 28, gop: int = 50, preset: str = "veryfast"
) -> list[np.ndarray]:
    """The pictures after encoding by libx264 (constant rate factor `crf`, a key frame every `gop`) and decoding.

    pictures: uint8 RGB `[height, width, 3]`, all of one size; the result has the same number and size. Odd sides are
    padded for the encoder only.
    """
    import av
    from av.video.frame import VideoFrame

    if not pictures:
        return []
    height, width = pictures[0].shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = width + width % 2, height + height % 2
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, 1000)
    encoder.framerate = Fraction(fps).limit_denominator(1000)
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), "g": str(gop), "preset": preset, "tune": "zerolatency"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = []
    for index, picture in enumerate(pictures):
        padded = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame.pts = round(index * 1000 / fps)
        frame.time_base = encoder.time_base
        packets.extend(encoder.encode(frame))
    packets.extend(encoder.encode(None))
    decoded = [frame for packet in packets for frame in decoder.decode(packet)]
    decoded.extend(decoder.decode(None))
    return [frame.to_ndarray(format="rgb24")[:height, :width] for frame in decoded]
