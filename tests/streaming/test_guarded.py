"""Untrusted URLs: only allowed addresses are reached, despite host names, redirects and playlists."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streaming.buffer import Item
from streaming.errors import AddressRefused, LoginRefused, NotAVideo, SourceError, SourceNotFound, SourceTimeout
from streaming.network_policy import NetworkPolicy, PinnedHosts
from streaming.open_source import open_source
from streaming.sources.addresses import parse_url
from streaming.sources.base import RetryPolicy, SourceOptions
from streaming.sources.guard.relay import RedirectFilter
from streaming.types import Frame, SourceInfo
from tests.clips import number_of, write_clip
from tests.faults.lab import wait_until
from tests.streaming.http_server import WebServer
from tests.streaming.rtsp import RtspServer

LOGIN = "admin:p@s:s/w#r%d.?x"
METADATA = "169.254.169.254"


def options(*networks: str, open_timeout_s: float = 3.0) -> SourceOptions:
    reach = NetworkPolicy(tuple(ipaddress.ip_network(network) for network in networks) or None)
    return SourceOptions(
        open_timeout_s=open_timeout_s, read_timeout_s=1.0, retry=RetryPolicy(max_retries=0), reach=reach
    )


def play(url: str, *networks: str) -> tuple[SourceInfo, list[Item]]:
    with open_source(url, options=options(*networks)) as source:
        info = source.open()
        return info, list(source.frames())


def numbers(items: list[Item]) -> list[int]:
    return [number_of(item.image) for item in items if isinstance(item, Frame)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    write_clip(tmp_path / "clip.mp4", num_frames=30, options={"movflags": "faststart"})
    write_clip(tmp_path / "clip.ts", num_frames=30, codec="mpeg2video", size_px=(320, 240))
    with WebServer(tmp_path, LOGIN) as running:
        yield running


@pytest.mark.parametrize("path", ["file/clip.mp4", "file/clip.ts", "parts/clip.mp4", "to/clip.mp4"])
def test_a_recording_plays_as_it_does_unguarded(server: WebServer, path: str) -> None:
    info, items = play(server.url(path))
    assert not info.is_live
    assert numbers(items) == list(range(30))


def test_a_camera_of_jpegs_is_live(server: WebServer) -> None:
    info, items = play(server.url("camera/20"))
    assert info.is_live
    assert len([item for item in items if isinstance(item, Frame)]) >= 15


def test_logins_work_and_stay_hidden(server: WebServer) -> None:
    info, items = play(server.url("private/clip.mp4", LOGIN))
    assert len(numbers(items)) == 30
    assert "p@s" not in info.name
    with pytest.raises(LoginRefused, match="refused this user or password") as caught:
        play(server.url("private/clip.mp4", f"{LOGIN}wrong"))
    assert "p@s" not in str(caught.value)


def test_failures_are_told_apart(server: WebServer) -> None:
    with pytest.raises(SourceNotFound):
        play(server.url("status/404"))
    with pytest.raises(NotAVideo):
        play(server.url("page/"))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for scheme in ("rtsp", "http"):
            url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/live"
            with pytest.raises(SourceTimeout):
                open_source(url, options=options(open_timeout_s=0.5)).open()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "concat:http://10.0.0.1/a|file:///etc/passwd",
        "tcp://127.0.0.1:22",
        "crypto+http://10.0.0.1/a",
        "subfile,,start,0,end,10,,:/etc/passwd",
        "rtmp://10.0.0.1/live",
        "http://",
        "http:///etc/passwd",
        f"http://{METADATA}/latest/meta-data/",
        "http://0xa9fea9fe/",
        "http://2852039166/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        f"http://[::ffff:{METADATA}]/",
        f"http://[::{METADATA}]/",
        f"http://[64:ff9b::{METADATA}]/",
        "http://[2002:a9fe:a9fe::1]/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1]/",
        "rtsp://0.0.0.0:8554/live",
        "rtsp://[::]:8554/live",
        "http://224.0.0.1/",
        "http://ⓛocalhost/",
        "http://127。0。0。1/",
        "http://10.0.0.1\\@example.com/",
        "http://10.0.0.1 /",
        "http://10.0.0.1\r\nX: y/",
        "http://10.0.0.1:99999/",
    ],
)
def test_hostile_urls_are_refused_before_anything_is_connected_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object, **__: object) -> None:
        raise AssertionError(f"{url} was connected to")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(AddressRefused):
        if url.startswith(("rtsp:", "http:")):
            open_source(url, options=options()).open()
        else:
            parse_url(url)


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("127.0.0.1", (), True),
        ("192.168.1.7", (), True),
        ("93.184.216.34", (), True),
        ("fd12::7", (), True),
        ("169.254.7.7", (), False),
        ("169.254.7.7", ("169.254.0.0/16",), False),
        ("fd00:ec2::254", ("::/0",), False),
        ("192.168.1.7", ("192.168.1.0/24",), True),
        ("::ffff:192.168.1.7", ("192.168.1.0/24",), True),
        ("192.168.2.7", ("192.168.1.0/24",), False),
        ("127.0.0.1", ("192.168.1.0/24",), False),
        ("2002:c0a8:107::1", ("192.168.1.0/24",), False),
        ("::1", ("192.168.1.0/24",), False),
    ],
)
def test_which_addresses_may_be_reached(address: str, networks: tuple[str, ...], allowed: bool) -> None:
    reach = NetworkPolicy(tuple(ipaddress.ip_network(network) for network in networks) or None)
    assert (not reach.refusal(ipaddress.ip_address(address))) is allowed


def test_a_name_is_resolved_once_so_that_it_cannot_move() -> None:
    answers = [["192.168.1.7"], ["169.254.169.254"]]
    hosts = PinnedHosts("camera", NetworkPolicy(), lambda host, port: answers.pop(0))
    assert hosts.addresses("Camera.example.", 80) == hosts.addresses("camera.example", 8080) == ("192.168.1.7",)
    assert answers == [["169.254.169.254"]]


def test_one_bad_address_of_a_name_is_enough() -> None:
    hosts = PinnedHosts("camera", NetworkPolicy(), lambda host, port: ["192.168.1.7", METADATA])
    with pytest.raises(AddressRefused, match="metadata"):
        hosts.addresses("camera.example", 80)


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/clip.mp4", "file:///etc/passwd", "ftp://127.0.0.1/a", "rtsp://127.0.0.1/a"]
)
def test_a_redirect_is_checked_like_the_first_address(server: WebServer, target: str) -> None:
    with pytest.raises(SourceError) as caught:
        play(server.url(f"redirect/{target}"))
    assert isinstance(caught.value, AddressRefused) or "redirect" in str(caught.value) or "scheme" in str(caught.value)


def test_redirects_in_a_circle_end(server: WebServer) -> None:
    with pytest.raises(AddressRefused, match="redirects more than"):
        play(server.url("circle/"))


@pytest.mark.parametrize(
    "line",
    ["http://169.254.169.254/clip.ts", "file:///etc/passwd", "crypto+http://127.0.0.1/a.ts", "tcp://127.0.0.1:1/a.ts"],
)
def test_a_playlist_reaches_nothing_else(server: WebServer, tmp_path: Path, line: str) -> None:
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n"
    (tmp_path / "good.m3u8").write_text(f"{head}clip.ts\n#EXT-X-ENDLIST\n")
    assert numbers(play(server.url("file/good.m3u8"))[1]) == list(range(30))
    (tmp_path / "bad.m3u8").write_text(f"{head}{line}\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError):
        play(server.url("file/bad.m3u8"))


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'file:///etc/passwd'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/9\n",
        "[Reference]\nRef1=http://127.0.0.1/a.ts\n",
    ],
)
def test_a_text_that_names_other_streams_is_no_video(server: WebServer, tmp_path: Path, text: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(NotAVideo):
        play(server.url("file/list.txt"))


def test_a_redirecting_camera_is_cut_off() -> None:
    target = socket.create_server(("127.0.0.1", 0))
    target.settimeout(0.5)
    with target, socket.create_server(("127.0.0.1", 0)) as camera:

        def redirect() -> None:
            player, _ = camera.accept()
            with player:
                player.recv(4096)
                url = f"rtsp://127.0.0.1:{target.getsockname()[1]}/live"
                player.sendall(f"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: {url}\r\n\r\n".encode())
                player.recv(4096)

        thread = threading.Thread(target=redirect)
        thread.start()
        with pytest.raises(AddressRefused, match="it redirects elsewhere"):
            play(f"rtsp://127.0.0.1:{camera.getsockname()[1]}/live")
        thread.join()
        with pytest.raises(TimeoutError):
            target.accept()


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ([b"RTSP/1.0 200 OK\r\n\r\n", b"RTSP/1.0 404 Not Found\r\n"], False),
        ([b"$\0\0\4abc\rRT", b"SP/1.0", b"  30", b"1 Moved"], True),
        ([b"R\rTSP/1.0 \r+0", b"302\r\n"], True),
        ([b"RTSP/1.0 200 OK\r\n", b"x" * 9000, b"RTSP/2.0\t399\n"], True),
        ([b"RTSP/1.0 2", b"00 OK\nCSeq: 302\n"], False),
    ],
)
def test_redirects_are_seen_however_they_are_cut(pieces: list[bytes], found: bool) -> None:
    redirects = RedirectFilter()
    assert any([redirects.finds(piece) for piece in pieces]) is found


def test_nothing_is_left_open(server: WebServer) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("file/clip.mp4", "camera/5", "status/404", "page/"):
        with suppress(SourceError):
            play(server.url(path))
    # The server's own ends of the connections, which are in this process too, are closed by its threads a little later.
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, 10.0, "every connection is closed")
    assert not [thread for thread in threading.enumerate() if thread.name == "relay"]


@pytest.mark.needs_rtsp
def test_a_camera_plays_through_the_relay() -> None:
    with RtspServer() as camera:
        with open_source(camera.url(), options=options("127.0.0.0/8")) as source:
            info = source.open()
            taken = [item for item, _ in zip(source.frames(), range(12), strict=False) if isinstance(item, Frame)]
        assert info.is_live and len(taken) >= 8
        with pytest.raises(AddressRefused, match="none of the networks"):
            play(camera.url(), "10.0.0.0/8")
