"""What a viewer names or sends: what is wrong is said in words, and nothing else is reached."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clips import write_clip
from tests.streaming.http_server import WebServer

if TYPE_CHECKING:
    from tests.browser.screen import Screen


HOSTILE = {
    "file:///etc/passwd": "is not a camera's",
    "/etc/passwd": "is not a camera's",
    "webcam:0": "is not a camera's",
    "concat:http://127.0.0.1/a|/etc/passwd": "is not a camera's",
    "http://169.254.169.254/latest/meta-data/": "metadata",
    "rtsp://2852039166/live": "odd notation",
    "http://[::ffff:169.254.169.254]/": "metadata",
    "rtsp://0.0.0.0/live": "no machine's address",
}


def test_hostile_urls_are_refused_in_words(screen: Screen) -> None:
    screen.choose("Camera URL")
    for url, words in HOSTILE.items():
        screen.page.get_by_label("Camera URL").last.fill(url)
        for button in ("Test camera", "Start camera"):
            screen.press(button)
            screen.outcome.get_by_text(f"{url}: ").get_by_text(words).wait_for()
    assert screen.state == "IDLE"


def test_a_playlist_that_points_inside_is_refused_and_its_password_never_shown(screen: Screen, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.settimeout(0.2)
        (tmp_path / "live.m3u8").write_text(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\nhttp://169.254.169.254/a.ts\n#EXTINF:1.2,\n"
            f"tcp://127.0.0.1:{inside.getsockname()[1]}/a.ts\n#EXT-X-ENDLIST\n"
        )
        with WebServer(tmp_path) as server:
            screen.choose("Camera URL")
            box = screen.page.get_by_label("Camera URL").last
            box.fill(server.url("file/live.m3u8", "admin:hunter22"))
            screen.press("Test camera")
            screen.outcome.get_by_text("***@127.0.0.1").wait_for()
            assert "hunter22" not in screen.outcome.inner_text()
        with pytest.raises(TimeoutError):
            inside.accept()


def test_a_camera_by_http_is_watched(screen: Screen, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", num_frames=50, size_px=(320, 240), options={"movflags": "faststart"})
    with WebServer(tmp_path) as server:
        screen.wait_model()
        screen.choose("Camera URL")
        address = screen.page.get_by_label("Camera URL").last
        address.fill(server.url("status/404"))
        screen.press("Start camera")
        screen.wait_state("FAILED")
        address.fill(server.url("file/clip.mp4", "admin:hunter22"))  # it can be put right at once
        screen.press("Test camera")
        screen.outcome.get_by_text("works").wait_for()
        screen.press("Start camera")
        screen.wait_state("REPLAY")
        screen.page.get_by_role("img", name="Picture").wait_for()
        assert "hunter22" not in screen.page.locator("body").inner_text()
        screen.wait_state("ENDED", within_s=30)


def test_what_a_trial_said_stays_with_its_source_and_its_address(screen: Screen, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    screen.choose("Camera URL")
    address = screen.page.get_by_label("Camera URL").last
    with WebServer(tmp_path) as server:
        address.fill(server.url("status/404"))
        screen.press("Test camera")
        screen.outcome.get_by_text("404").wait_for()
        for other in ("File", "Sample", "Webcam"):
            screen.choose(other)
            expect(screen.outcome).to_have_count(0)
        screen.choose("Camera URL")
        screen.outcome.get_by_text("404").wait_for()
        address.fill(server.url("status/500"))
        expect(screen.outcome).to_have_count(0)


def test_how_long_a_camera_is_waited_for_can_be_set_and_is_named(screen: Screen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        screen.choose("Camera URL")
        screen.page.get_by_label("Camera URL").last.fill(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live")
        screen.page.get_by_text("How long to wait for it").click()
        limit = screen.page.get_by_label("To connect (open_timeout_s)")
        limit.fill("1.5")
        screen.press("Test camera")
        screen.outcome.get_by_text("no answer within 1.5 s").get_by_text("raise open_timeout_s").wait_for()
        limit.fill("600")
        screen.press("Test camera")
        screen.outcome.get_by_text("open_timeout_s 600: it must be above 0 and at most 30 seconds").wait_for()


BAD_FILES = {
    "holiday.mp4": (b"this is no film", "not a video"),
    "list.mp4": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "not a video"),
    "nothing.mp4": (b"", "empty"),
}


def test_a_file_is_told_what_is_wrong_with_it_or_plays(screen: Screen, tmp_path: Path) -> None:
    screen.wait_model()
    screen.choose("File")
    for name, (content, words) in BAD_FILES.items():
        path = tmp_path / name
        path.write_bytes(content)
        screen.send_file(path)
        screen.press("Start file")
        screen.outcome.get_by_text(name).wait_for()  # two of them are told the same
        screen.outcome.get_by_text(words).wait_for()
        said = screen.outcome.inner_text()
        assert said.startswith(name) and str(tmp_path) not in said
        assert screen.state == "IDLE"
    screen.send_file(write_clip(tmp_path / "mine.mp4", num_frames=250, size_px=(320, 240)))
    screen.press("Test file")
    screen.outcome.get_by_text("320 x 240").wait_for()
    screen.press("Start file")
    screen.wait_state("REPLAY")
    assert screen.title == "mine.mp4"
