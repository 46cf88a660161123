"""Files that are not videos: the error is one line, and nothing stays open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streaming.errors import (
    NotAVideo,
    NoVideoStream,
    OptionError,
    PictureTooNarrow,
    SourceError,
    SourceNotFound,
    TruncatedFile,
)
from streaming.open_source import open_source
from tests.clips import cut, write_clip, write_sound


def _missing(path: Path) -> Path:
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _text(path: Path) -> Path:
    path.write_text("This is not a video.\n" * 100)
    return path


def _noise(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(0).bytes(50_000))
    return path


def _without_index(path: Path) -> Path:
    return cut(write_clip(path, num_frames=100), 0.7)


def _covered_sound(path: Path) -> Path:
    """A sound file with a cover picture, which FFmpeg shows as a video stream."""
    import av

    write_sound(path)
    cover = path.with_suffix(".jpg")
    Image.new("RGB", (32, 32)).save(cover)
    with av.open(str(path)) as sound, av.open(str(cover)) as picture, av.open(str(path) + ".mp4", "w") as out:
        streams = {}
        for container in (sound, picture):
            stream = container.streams[0]
            streams[container] = out.add_stream_from_template(stream)
        streams[picture].disposition = av.stream.Disposition.attached_pic
        for container in (sound, picture):
            for packet in container.demux():
                if packet.dts is not None:
                    packet.stream = streams[container]
                    out.mux(packet)
    return Path(str(path) + ".mp4")


def _too_narrow(path: Path) -> Path:
    Image.new("RGB", (4000, 10)).save(path)
    return path


def _playlist(path: Path) -> Path:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    return path


@pytest.mark.parametrize(
    ("name", "make", "error", "rule"),
    [
        ("missing.mp4", _missing, SourceNotFound, "there is no such file"),
        ("folder", _folder, SourceNotFound, "it is a folder"),
        ("empty.mp4", _empty, NotAVideo, "it is empty"),
        ("note.txt", _text, NotAVideo, "it is a text"),
        ("note.mp4", _text, NotAVideo, "cannot be read as a video"),
        ("noise.mp4", _noise, NotAVideo, "cannot be read as a video"),
        ("cut.mp4", _without_index, TruncatedFile, "moov"),
        ("sound.m4a", write_sound, NoVideoStream, "only audio"),
        ("covered.m4a", _covered_sound, NoVideoStream, "audio and a cover picture"),
        ("narrow.png", _too_narrow, PictureTooNarrow, "4000 x 10"),
        ("list.m3u8", _playlist, NotAVideo, "cannot be read"),
    ],
)
def test_the_right_error_in_one_line_and_nothing_left_open(
    tmp_path: Path, name: str, make: Callable[[Path], Path], error: type[SourceError], rule: str
) -> None:
    path = make(tmp_path / name)
    source = open_source(str(path))
    num_open = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for _ in range(2):
        with pytest.raises(error, match=rule) as caught:
            source.open()
        line = str(caught.value)
        assert line.startswith(f"{path}: ")
        assert "\n" not in line and line.endswith(".")
        assert caught.value.__cause__ is None
    if num_open:
        assert len(os.listdir("/proc/self/fd")) == num_open


def test_a_failed_open_can_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "late.mp4"
    source = open_source(str(path))
    with pytest.raises(SourceNotFound):
        source.open()
    write_clip(path, num_frames=5)
    assert source.open().width_px == 64
    source.close()


def test_a_playlist_may_name_other_files_but_no_network(tmp_path: Path) -> None:
    write_clip(tmp_path / "part.ts", num_frames=10, codec="mpeg2video")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\npart.ts\n#EXT-X-ENDLIST\n")
    with open_source(str(playlist)) as source:
        assert source.open().width_px == 64


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ("", "empty"),
        ("webcam:", "whole number"),
        ("webcam:front", "whole number"),
        ("synthetic:-1", "whole number"),
        ("synthetic:1.5", "whole number"),
        ("ftp://user:hunter22@host/clip.mp4", "not a kind of source"),
        ("udp://@239.0.0.1:1234", "udp:// is not read .* MediaMTX take it, and give its rtsp:// or http:// address"),
        ("RTP://user:hunter22@127.0.0.1:5004", "rtp:// is not read"),
        ("srt://127.0.0.1:9000?passphrase=hunter22", "srt:// is not read"),
    ],
)
def test_a_source_that_is_none_is_refused(spec: str, rule: str) -> None:
    with pytest.raises(OptionError, match=rule) as caught:
        open_source(spec)
    assert "hunter22" not in str(caught.value)
