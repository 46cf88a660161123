"""Of several video tracks, the one that is not a thumbnail is watched, and the others are named."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest

from assistant.inputs.attachments import read_clip
from assistant.inputs.probe import probe
from streaming.open_source import open_source
from streaming.sources.base import SourceOptions
from streaming.sources.guard.upload_header import read_upload_header
from streaming.types import Frame, Notice
from tests.clips import number_of, numbered


def write_tracks(path: Path, num_pictures: tuple[int, int], codecs: tuple[str, str] = ("libx264", "libx264")) -> Path:
    """Two picture tracks, 128 x 96 and 64 x 48, each over five seconds, numbered in the second alone."""
    with av.open(str(path), "w") as container:
        packets = []
        tracks = [cast(av.VideoStream, container.add_stream(codec, rate=10)) for codec in codecs]
        for track, codec, num, (width_px, height_px) in zip(
            tracks, codecs, num_pictures, [(128, 96), (64, 48)], strict=True
        ):
            track.width, track.height = width_px, height_px
            track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for index in range(num):
                grey = np.full((height_px, width_px, 3), 90, np.uint8)
                image = grey if track is tracks[0] else numbered(index, width_px, height_px)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = index * 50 // num, Fraction(1, 10)
                packets += track.encode(frame)
            packets += track.encode(None)
        for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
            container.mux(packet)
    return path


def watch(path: Path) -> tuple[list[Frame], list[Notice]]:
    with open_source(str(path), options=SourceOptions(sample_fps=2.0)) as source:
        source.open()
        items = list(source.frames())
    return [i for i in items if isinstance(i, Frame)], [i for i in items if isinstance(i, Notice)]


@pytest.mark.parametrize("name", ["thumb.mkv", "thumb.mp4", "thumb.mov"])
@pytest.mark.parametrize("codec", ["mjpeg", "libx264"])
def test_a_thumbnail_as_first_track_is_not_what_is_watched(tmp_path: Path, name: str, codec: str) -> None:
    path = write_tracks(tmp_path / name, (1, 50), (codec, "libx264"))
    frames, notices = watch(path)
    assert [number_of(frame.image) for frame in frames] == [5 * tick for tick in range(10)]
    assert [frame.pts_s for frame in frames] == pytest.approx([tick / 2 for tick in range(10)])
    told = [notice for notice in notices if "track 0" in notice.reason]
    assert len(told) == 1 and "128 x 96" in told[0].reason
    assert (read_upload_header(path).width_px, read_upload_header(path).height_px) == (64, 48)
    assert "track 0" in probe(str(path)).text
    warnings: list[str] = []
    clip, _ = read_clip(str(path), 1.0, warnings.append)
    assert len(clip) == 5 and len(warnings) == 1 and "track 0" in warnings[0]


def test_a_preview_track_gives_way_and_of_equals_the_first_is_watched(tmp_path: Path) -> None:
    frames, _ = watch(write_tracks(tmp_path / "preview.mkv", (3, 50)))
    assert frames[0].image.shape == (48, 64, 3) and len(frames) == 10
    frames, notices = watch(write_tracks(tmp_path / "equals.mkv", (50, 50)))
    assert frames[0].image.shape == (96, 128, 3)
    assert sum("track 1" in notice.reason for notice in notices) == 1
