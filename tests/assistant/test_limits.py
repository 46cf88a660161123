"""What viewers may reach and send, and who is let in."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assistant.config.app import load_config
from assistant.errors import ConfigError
from assistant.inputs.limits import CameraPolicy, UploadLimits, UploadRefused
from assistant.viewers.passwords import Authenticator, make_line, read_users
from streaming.errors import AddressRefused
from streaming.sources.base import SourceOptions
from streaming.thumbnails import decode_jpeg
from tests.clips import numbered, write_clip, write_resized


def png_header(width_px: int, height_px: int) -> bytes:
    """A PNG of some hundred bytes that unpacks to as many pixels as it says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width_px, height_px, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (width_px // 8 + 1) * min(height_px, 4096))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "spec",
    ["/etc/passwd", "webcam:0", "file:///etc/passwd", "synthetic:1", "rtmp://a/b", "", "http://169.254.169.254/"],
)
def test_only_camera_urls_pass_for_cameras(spec: str) -> None:
    with pytest.raises(AddressRefused):
        CameraPolicy.bound_to("127.0.0.1").check(spec)


def test_what_may_be_reached_follows_where_the_app_is_bound() -> None:
    assert CameraPolicy.bound_to("127.0.0.1").reach.networks is None
    assert CameraPolicy.bound_to("0.0.0.0").reach.networks == ()
    listed = CameraPolicy.bound_to("0.0.0.0", ["192.168.1.0/24"])
    assert [str(network) for network in listed.reach.networks or ()] == ["192.168.1.0/24"]
    guarded = listed.guard(SourceOptions(rtsp_transport="udp"))
    assert guarded.reach == listed.reach and guarded.rtsp_transport == "tcp"


def test_the_configuration_lists_networks_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("page: {networks: [10.1.0.0/16], max_sessions: 3, uploads: {max_mib: 2, max_minutes: 1}}")
    page = load_config(path).page
    assert page.networks == ("10.1.0.0/16",) and page.max_sessions == 3
    limits = page.uploads.limits()
    assert (limits.max_bytes, limits.max_seconds, limits.max_pixels) == (2 * 2**20, 60, 36_000_000)
    path.write_text("page: {networks: [10.1.0.7/16]}")
    with pytest.raises(ConfigError, match=r"page\.networks\.0.*10\.1\.0\.7/16.*write it as"):
        load_config(path)


def test_a_clip_passes_and_is_described(tmp_path: Path) -> None:
    facts = UploadLimits().check_clip(write_clip(tmp_path / "clip.mp4", num_frames=30))
    assert (facts.width_px, facts.height_px, facts.codec) == (64, 48, "h264")
    assert facts.duration_s == pytest.approx(1.2)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_clips_length_is_that_of_its_pictures_not_the_headers(tmp_path: Path, name: str) -> None:
    stamps_s = [index / 10 for index in range(30)] + [20_000.0 + index / 10 for index in range(30)]
    facts = UploadLimits().check_clip(write_clip(tmp_path / name, stamps_s=stamps_s))
    assert facts.duration_s == pytest.approx(5.9, abs=0.2)


def test_a_clip_whose_header_says_no_length_is_held_to_the_limit_too(tmp_path: Path) -> None:
    path = write_resized(tmp_path / "call.webm", [(64, 48)] * 4, numbered)
    with pytest.raises(UploadRefused, match="minutes long"):
        UploadLimits(max_seconds=2.0).check_clip(path)
    assert UploadLimits(max_seconds=5.0).check_clip(path).duration_s == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (UploadLimits(max_bytes=1000), "clip.mp4: it has .* MiB; at most"),
        (UploadLimits(max_seconds=1.0), "minutes long"),
        (UploadLimits(max_pixels=1000), "its picture is 64 x 48"),
    ],
)
def test_a_clip_beyond_a_limit_is_refused(tmp_path: Path, limits: UploadLimits, words: str) -> None:
    with pytest.raises(UploadRefused, match=words):
        limits.check_clip(write_clip(tmp_path / "clip.mp4", num_frames=30))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\nclip.ts\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile clip.ts\n"),
        ("movie.mp4", "not a movie"),
        ("movie.mp4", ""),
    ],
)
def test_a_file_that_is_no_clip_is_refused_under_its_own_name(tmp_path: Path, name: str, content: str) -> None:
    write_clip(tmp_path / "clip.ts", num_frames=30, codec="mpeg2video")
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UploadRefused, match="^my movie: ") as caught:
        UploadLimits().check_clip(path, "my movie")
    assert str(tmp_path) not in str(caught.value)


def test_a_picture_is_read_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30), (10, 20, 30)).save(path)
    assert UploadLimits().read_picture(path).shape == (30, 40, 3)
    with pytest.raises(UploadRefused, match="40 x 30; at most"):
        UploadLimits(max_pixels=1000).read_picture(path)
    path.write_bytes(png_header(60000, 60000))
    with pytest.raises(UploadRefused, match="picture"):
        UploadLimits().read_picture(path)
    path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(UploadRefused, match="not a picture"):
        UploadLimits().read_picture(path)


def test_a_pushed_picture_must_be_a_jpeg_of_a_sane_size() -> None:
    with pytest.raises(ValueError, match="not a JPEG"):
        decode_jpeg(png_header(30000, 30000))
    bomb = b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", 65000, 65000) + b"\x03" + b"\0" * 20
    with pytest.raises(ValueError, match="not a JPEG"):
        decode_jpeg(bomb)
    import io

    held = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(held, "JPEG")
    assert decode_jpeg(held.getvalue()).shape == (30, 40, 3)


def test_users_are_let_in_by_their_own_password(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"{make_line('ada', 'correct horse', rounds=4)}\n")
    path.chmod(0o600)
    now_s = 0.0
    keeper = Authenticator(read_users(path), lambda: now_s)
    assert keeper.admits("ada", "correct horse")
    assert not keeper.admits("bob", "correct horse")
    assert not keeper.admits("ada", "wrong horse")
    assert keeper.admits("ada", "correct horse"), "one slip costs nothing"
    for _ in range(2):
        assert not keeper.admits("ada", "wrong horse")
    assert not keeper.admits("ada", "correct horse"), "a name that is tried in vain has to wait"
    now_s = 60.0
    assert keeper.admits("ada", "correct horse")


@pytest.mark.parametrize("content", ["", "ada", "ada:secret123", "ada:$2b$12$short"])
def test_a_file_of_users_that_holds_none_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "users"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="video-assistant password NAME"):
        read_users(path)
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod go-w"):
        read_users(path)
