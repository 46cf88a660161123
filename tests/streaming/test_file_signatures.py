"""Formats that FFmpeg cannot read are read in another way, or named in an error with a remedy."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assistant.inputs.limits import UploadLimits, UploadRefused
from streaming.errors import NotAVideo
from streaming.open_source import open_source
from streaming.sources.base import SourceOptions
from streaming.sources.file_signatures import kind_of
from streaming.types import Frame
from tests.clips import FPS, number_of, numbered, write_clip

HEADS = {
    "clips.mp4": (b"PK\x03\x04" + bytes(200), "ZIP archive", "unpack"),
    "photo.heic": (b"\0\0\0\x18ftypheic" + bytes(200), "HEIC", "JPEG"),
    "drawing.mp4": (b"8BPS\0\x01" + bytes(200), "Photoshop", "export"),
    "page.mp4": (b"%PDF-1.7\n" + bytes(200), "PDF", "pages"),
    "new.jxl": (b"\xff\x0a" + bytes(200), "JPEG XL", "export"),
    "list.mp4": (b"#EXTM3U\n#EXTINF:1,\nclip.ts\n", "playlist", "recording itself"),
    "dash.mp4": (b"<?xml version='1.0'?>\n<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>\n", "DASH", "recording itself"),
    "page.webm": (b"<!DOCTYPE html><html></html>", "web page", "save"),
    "note.mp4": (b"It is not a film at all.\n" * 9, "text", "video"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_refusal_names_the_format_and_the_way_out(tmp_path: Path, name: str) -> None:
    content, said, remedy = HEADS[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UploadRefused, match=said) as refused:
        UploadLimits().check_clip(path, "mine")
    assert remedy in str(refused.value) and str(refused.value).startswith("mine: ")
    with pytest.raises(NotAVideo, match=said), open_source(str(path)) as source:
        source.open()


def test_what_cannot_be_told_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(b"\x01\x9c" + np.random.default_rng(0).bytes(5000))
    assert kind_of(path) is None and kind_of(tmp_path / "missing") is None
    path.write_bytes("naïve ".encode() * 900)
    assert kind_of(path) is not None


def animation(path: Path, lengths_ms: list[int], *, alpha: int = 255) -> Path:
    pictures = []
    for index in range(len(lengths_ms)):
        rgba = np.dstack([numbered(index + 1, 66, 48), np.full((48, 66), alpha, np.uint8)])
        pictures.append(Image.fromarray(rgba))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=lengths_ms, lossless=True)
    return path


def test_an_animated_webp_is_a_recording(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", [400, 200, 1400])
    with open_source(str(path), options=SourceOptions()) as source:
        info = source.open()
        items = list(source.frames())
    assert (info.codec, info.width_px, info.height_px, info.duration_s_declared) == ("webp", 66, 48, 2.0)
    numbers = [number_of(item.image) for item in items if isinstance(item, Frame)]
    assert list(dict.fromkeys(numbers)) == [1, 2, 3]
    facts = UploadLimits().check_clip(path)
    assert (facts.codec, facts.duration_s) == ("webp", 2.0)


def test_an_animated_webp_is_laid_over_white(tmp_path: Path) -> None:
    with open_source(str(animation(tmp_path / "a.webp", [100, 100], alpha=0))) as source:
        source.open()
        frame = next(item for item in source.frames() if isinstance(item, Frame))
    assert frame.image.min() == 255


def test_an_animated_webp_that_is_cut_off_or_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = animation(tmp_path / "a.webp", [100, 100, 100])
    monkeypatch.setattr("streaming.sources.animations._MOST_PIXELS_IN_ALL", 1000)
    with pytest.raises(NotAVideo, match="3 pictures of 66 x 48; at most 1,000"), open_source(str(path)) as source:
        source.open()
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(NotAVideo, match="animated WebP"), open_source(str(path)) as source:
        source.open()


def recorder_file(path: Path, num_frames: int) -> Path:
    """A Dahua recorder's file: its blocks around H.264."""
    clip = write_clip(path.with_suffix(".h264"), num_frames=num_frames, container_format="h264", gop=num_frames)
    import av

    blocks = []
    with av.open(str(clip)) as container:
        for index, packet in enumerate(p for p in container.demux(video=0) if p.size):
            extra = bytes([0x80, 0, 8, 6, 0x81, 0, 2, FPS])
            data = bytes(packet)
            date = 26 << 26 | 11 << 22 | 30 << 17 | 10 << 12 | index // FPS
            length = 24 + len(extra) + len(data) + 8
            head = b"DHAV" + bytes([0xFC if index else 0xFD, 0, 0, 0])
            head += struct.pack("<IIIH", index, length, date, 1000 * index // FPS & 0xFFFF) + bytes([len(extra)])
            blocks.append(head + bytes([sum(head) & 0xFF]) + extra + data + b"dhav" + struct.pack("<I", length))
    path.write_bytes(b"".join(blocks))
    return path


def test_a_recorders_own_format_is_taken_from_viewers(tmp_path: Path) -> None:
    facts = UploadLimits().check_clip(recorder_file(tmp_path / "a.dav", 10))
    assert (facts.codec, facts.width_px, facts.height_px) == ("h264", 64, 48)
