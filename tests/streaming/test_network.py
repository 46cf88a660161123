"""URLs: recordings and cameras by HTTP, servers that fail, and credentials that stay hidden."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming.buffer import Item
from streaming.errors import (
    LoginRefused,
    NotAVideo,
    OptionError,
    SourceError,
    SourceNotFound,
    SourceTimeout,
    SourceUnreachable,
)
from streaming.open_source import open_source
from streaming.sources.base import RetryPolicy, SourceOptions
from streaming.types import Frame, Notice, NoticeKind, SourceInfo
from tests.clips import number_of, write_clip
from tests.streaming.http_server import WebServer

LOGIN = "admin:p@s:s/w#r%d.?x"
SECRET = LOGIN.partition(":")[2]
QUICK = SourceOptions(open_timeout_s=1.0, read_timeout_s=0.3, retry=RetryPolicy(max_retries=0))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    write_clip(tmp_path / "clip.mp4", num_frames=30, options={"movflags": "faststart"})
    write_clip(tmp_path / "clip.ts", num_frames=30, codec="mpeg2video", size_px=(320, 240))
    with WebServer(tmp_path, LOGIN) as running:
        yield running


def play(url: str, options: SourceOptions = QUICK) -> tuple[SourceInfo, list[Item]]:
    with open_source(url, options=options) as source:
        info = source.open()
        assert source.is_live is info.is_live
        return info, list(source.frames())


def frames_of(items: list[Item]) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])
def test_a_file_on_a_server_is_a_recording(server: WebServer, name: str) -> None:
    info, items = play(server.url(f"file/{name}"))
    assert not info.is_live
    assert [number_of(frame.image) for frame in frames_of(items)] == list(range(30))
    assert isinstance(items[-1], Notice) and items[-1].details["broken"] is False


def test_a_recording_on_a_server_that_cannot_seek_is_looped_all_the_same(server: WebServer) -> None:
    _, items = play(server.url("file/clip.ts"), SourceOptions(loop=2, end_s=0.2, start_s=0.08))
    assert [number_of(frame.image) for frame in frames_of(items)] == [2, 3, 4, 2, 3, 4]


def test_a_server_that_stalls_breaks_the_recording_off(server: WebServer) -> None:
    _, items = play(server.url("stall/clip.ts"))
    assert 0 < len(frames_of(items)) < 30
    damaged, ended = items[-2:]
    assert isinstance(damaged, Notice) and "nothing came within the time limit" in damaged.reason
    assert isinstance(ended, Notice) and ended.details["broken"] is True


def test_a_series_of_jpegs_is_live_and_timed_by_arrival(server: WebServer) -> None:
    info, items = play(server.url("camera/20"))
    assert info.is_live
    frames = frames_of(items)
    assert len(frames) >= 15
    # FFmpeg's own times for such a series would come to 0.76 s.
    assert frames[-1].pts_s == pytest.approx(frames[-1].captured_at_s - frames[0].captured_at_s, abs=0.25)
    ended = items[-1]
    assert isinstance(ended, Notice) and ended.kind is NoticeKind.ENDED and ended.details["broken"] is True


def test_a_live_stream_cannot_be_looped(server: WebServer) -> None:
    with pytest.raises(OptionError, match="loop=2: .*live"):
        play(server.url("camera/20"), SourceOptions(loop=2))


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("status/401", LoginRefused),
        ("status/403", LoginRefused),
        ("status/404", SourceNotFound),
        ("status/500", SourceUnreachable),
        ("page/", NotAVideo),
    ],
)
def test_what_a_server_refuses_is_told_apart(server: WebServer, path: str, error: type[SourceError]) -> None:
    with pytest.raises(error) as caught:
        play(server.url(path))
    assert caught.type is error
    assert "\n" not in str(caught.value)


def test_special_characters_log_in(server: WebServer) -> None:
    info, items = play(server.url("private/clip.mp4", LOGIN))
    assert len(frames_of(items)) == 30
    assert info.name == server.url("private/clip.mp4", "***")
    assert {item.source for item in items} == {info.name}
    assert SECRET not in repr([item for item in items if isinstance(item, Notice)])


def test_a_wrong_login_is_refused_and_not_shown(server: WebServer) -> None:
    with pytest.raises(LoginRefused, match="refused this user or password") as caught:
        play(server.url("private/clip.mp4", f"admin:{SECRET}wrong"))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(LoginRefused, match="wants a login. Write user:password@"):
        play(server.url("private/clip.mp4"))


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
def test_nobody_there_is_told_without_the_credentials(scheme: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"{scheme}://{LOGIN}@127.0.0.1:{unused.getsockname()[1]}/live?token=t0k3n"
        source = open_source(url, options=QUICK)
        for _ in range(2):
            with pytest.raises(SourceUnreachable) as caught:
                source.open()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + source.name
    assert not [secret for secret in (SECRET, "p%40s", "admin", "t0k3n") if secret in shown]
    assert "127.0.0.1" in shown


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_host_that_does_not_exist_is_named(scheme: str) -> None:
    with pytest.raises(SourceUnreachable, match="its host name is not known"):
        open_source(f"{scheme}://nowhere.invalid/live", options=QUICK).open()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_says_nothing_is_given_up_in_time(scheme: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/live"
        with pytest.raises(SourceTimeout, match="no answer within 0.4 s"):
            open_source(url, options=SourceOptions(open_timeout_s=0.4, read_timeout_s=0.4)).open()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in Linux's way")
def test_a_failed_open_leaves_no_socket(tmp_path: Path) -> None:
    num_open = len(os.listdir("/proc/self/fd"))
    with WebServer(tmp_path) as server:
        for path in ("status/404", "page/"):
            with pytest.raises(SourceError):
                play(server.url(path))
        with pytest.raises(OptionError):
            play(server.url("camera/5"), SourceOptions(loop=2))
    assert len(os.listdir("/proc/self/fd")) == num_open


def test_a_playlist_from_the_network_may_not_read_local_files(tmp_path: Path) -> None:
    part = write_clip(tmp_path / "secret.ts", num_frames=30, codec="mpeg2video")
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\nfile://{part}\n#EXT-X-ENDLIST\n"
    )
    with WebServer(tmp_path) as server, pytest.raises(SourceError):
        play(server.url("file/list.m3u8"))
