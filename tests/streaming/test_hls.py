"""Playlists at untrusted URLs: encrypted or not, in one file or many, they play or are refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming.errors import SourceError
from streaming.network_policy import NetworkPolicy
from streaming.open_source import open_source
from streaming.sources.base import RetryPolicy, SourceOptions
from streaming.types import Frame, Notice, NoticeKind
from tests.clips import number_of, write_clip
from tests.streaming.http_server import WebServer

KEY = b"0123456789abcdef"
KINDS: dict[str, dict[str, str]] = {
    "plain": {},
    "keyed": {"hls_key_info_file": "info"},
    "ranges": {"hls_flags": "single_file"},
    "fragments": {"hls_segment_type": "fmp4"},
    "fragment ranges": {"hls_segment_type": "fmp4", "hls_flags": "single_file"},
}


def write_list(folder: Path, name: str = "list", **options: str) -> Path:
    """Thirty numbered pictures in four parts, their key beside them where the options ask for one."""
    (folder / "key.bin").write_bytes(KEY)
    info = folder / "info"
    info.write_text(f"key.bin\n{folder / 'key.bin'}\n000102030405060708090a0b0c0d0e0f\n")
    end = "m4s" if options.get("hls_segment_type") == "fmp4" else "ts"
    number = "" if "hls_flags" in options else "%d"
    given = {
        "hls_time": "0.4",
        "hls_playlist_type": "vod",
        "hls_segment_filename": str(folder / f"{name}{number}.{end}"),
        **options,
    }
    if "hls_key_info_file" in given:
        given["hls_key_info_file"] = str(info)
    return write_clip(folder / f"{name}.m3u8", num_frames=30, size_px=(96, 64), container_format="hls", options=given)


def watch(url: str) -> tuple[list[int], list[Notice]]:
    """The numbers of the pictures, and the notices."""
    options = SourceOptions(
        reach=NetworkPolicy(), retry=RetryPolicy(max_retries=0), open_timeout_s=3.0, read_timeout_s=1.0
    )
    with open_source(url, options=options) as source:
        source.open()
        items = list(source.frames())
    frames = [number_of(item.image) for item in items if isinstance(item, Frame)]
    return frames, [item for item in items if isinstance(item, Notice)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    with WebServer(tmp_path) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_playlist_plays(
    server: WebServer, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write_list(tmp_path, **KINDS[kind])
    frames, notices = watch(server.url("parts/list.m3u8"))
    assert frames == list(range(30))
    assert not [notice for notice in notices if notice.kind is NoticeKind.DAMAGED]
    assert "Traceback" not in capfd.readouterr().err


def test_a_master_playlist_leads_to_an_encrypted_one(server: WebServer, tmp_path: Path) -> None:
    write_list(tmp_path, **KINDS["keyed"])
    (tmp_path / "master.m3u8").write_text(
        '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=96x64,CODECS="avc1.42c00a"\nlist.m3u8\n'
    )
    assert watch(server.url("parts/master.m3u8"))[0] == list(range(30))


def test_without_a_vector_the_number_of_the_part_is_taken(server: WebServer, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    path = write_list(tmp_path)
    for number, part in enumerate(sorted(tmp_path.glob("list*.ts"))):
        padder = PKCS7(128).padder()
        padded = padder.update(part.read_bytes()) + padder.finalize()
        encryptor = Cipher(algorithms.AES(KEY), modes.CBC(number.to_bytes(16))).encryptor()
        part.write_bytes(encryptor.update(padded) + encryptor.finalize())
    key = '#EXT-X-KEY:METHOD=AES-128,URI="key.bin"\n#EXTINF'
    path.write_text(path.read_text().replace("#EXTINF", key, 1))
    assert watch(server.url("parts/list.m3u8"))[0] == list(range(30))


REFUSED = {
    'METHOD=AES-128,URI="http://169.254.169.254/key"': "169.254.169.254.*metadata",
    'METHOD=AES-128,URI="missing.bin"': r"missing.bin.*\(404\)",
    'METHOD=AES-128,URI="file:///etc/passwd"': "AES-128, its key at file:",
    'METHOD=AES-128,URI="skd://asset"': "AES-128, its key at skd:",
    'METHOD=AES-128,URI="other.bin"': "does not decrypt with the key",
    'METHOD=SAMPLE-AES,URI="skd://a",KEYFORMAT="com.apple.fps"': "not played.*SAMPLE-AES, com.apple",
    'METHOD=SAMPLE-AES-CTR,URI="key.bin"': "not played.*SAMPLE-AES-CTR.*AES-128 with a plain key is played",
}


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_cannot_be_had_or_used_is_refused_in_words(
    server: WebServer, tmp_path: Path, key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_list(tmp_path, **KINDS["keyed"])
    (tmp_path / "other.bin").write_bytes(bytes(16))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"#EXT-X-KEY:{key}" if line.startswith("#EXT-X-KEY") else line for line in lines) + "\n")
    with pytest.raises(SourceError, match=REFUSED[key]):
        watch(server.url("parts/list.m3u8"))
    assert "Traceback" not in capfd.readouterr().err


def test_parts_that_are_gone_are_told_and_the_rest_is_seen(
    server: WebServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_list(tmp_path)
    (tmp_path / "list1.ts").unlink()
    frames, notices = watch(server.url("parts/list.m3u8"))
    assert frames == sorted(frames) and 15 <= len(frames) < 30
    assert (frames[0], frames[-1]) == (0, 29)
    told = [notice.reason for notice in notices if notice.kind is NoticeKind.DAMAGED]
    assert sum("list1.ts" in reason and "(404)" in reason for reason in told) == 1
    assert "Traceback" not in capfd.readouterr().err
