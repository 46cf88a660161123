"""Cameras by RTSP, against a real server in a process of its own."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import pytest

from streaming.capture import Capture
from streaming.errors import LoginRefused, SourceNotFound, SourceTimeout
from streaming.open_source import open_source
from streaming.sources.base import RetryPolicy, SourceOptions
from streaming.types import Frame, Notice, NoticeKind
from tests.clips import real_clip
from tests.streaming.rtsp import RtspServer

pytestmark = pytest.mark.needs_rtsp

PASSWORD = "p@s:s/w#r%d.?x"
WRONG = "hunter22"
RETRY = RetryPolicy(max_retries=40, first_delay_s=0.05, max_delay_s=0.1)
OPTIONS = SourceOptions(open_timeout_s=3.0, read_timeout_s=1.0, retry=RETRY)


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer() as running:
        yield running


def wait_for(capture: Capture, kind: NoticeKind) -> Notice:
    """The next notice of this kind."""
    return next(item for item in capture if isinstance(item, Notice) and item.kind is kind)


def wait_for_frames(capture: Capture, count: int) -> list[Frame]:
    """The next frames."""
    frames: list[Frame] = []
    while len(frames) < count:
        item = capture.get(10.0)
        assert item is not None, "no frames within ten seconds"
        if isinstance(item, Frame):
            frames.append(item)
    return frames


def test_frames_arrive_in_time_with_the_cameras_timestamps(server: RtspServer) -> None:
    with Capture(open_source(server.url(), options=OPTIONS)) as capture:
        assert capture.info.is_live
        assert (capture.info.width_px, capture.info.height_px, capture.info.codec) == (160, 120, "h264")
        frames = wait_for_frames(capture, 20)
    assert frames[0].pts_s == 0.0
    steps_s = [after.pts_s - before.pts_s for before, after in zip(frames, frames[1:], strict=False)]
    assert sorted(steps_s)[len(steps_s) // 2] == pytest.approx(0.05, abs=0.002), "the server sends 20 a second"
    assert {frame.image.shape for frame in frames} == {(120, 160, 3)}
    assert frames[0].image.max() > 200, "a white ball"


def test_a_killed_camera_is_told_and_seen_again_after_its_restart(server: RtspServer) -> None:
    with Capture(open_source(server.url(), options=OPTIONS)) as capture:
        before = wait_for_frames(capture, 5)[-1]
        server.kill()
        lost = wait_for(capture, NoticeKind.RECONNECTING)
        assert "lost: " in lost.reason
        server.start()
        gap = wait_for(capture, NoticeKind.GAP)
        after = wait_for_frames(capture, 3)
    assert float(gap.details["gap_s"]) > 0
    assert after[0].pts_s - before.pts_s == pytest.approx(after[0].captured_at_s - before.captured_at_s, abs=0.5)
    assert after[0].index > before.index


def test_a_camera_that_stays_away_ends_the_stream(server: RtspServer) -> None:
    options = SourceOptions(retry=RetryPolicy(max_retries=2, first_delay_s=0.05))
    with Capture(open_source(server.url(), options=options)) as capture:
        wait_for_frames(capture, 1)
        server.kill()
        ended = wait_for(capture, NoticeKind.ENDED)
        assert list(capture) == []
    assert ended.details["broken"] is True
    assert "not back after 2 attempts" in ended.reason


def test_a_frozen_camera_is_noticed_within_the_read_limit(server: RtspServer) -> None:
    with Capture(open_source(server.url(), options=OPTIONS)) as capture:
        last = wait_for_frames(capture, 5)[-1]
        server.freeze()
        freezing_until_s = capture.clock.now_s() + 20.0
        for item in capture:
            assert capture.clock.now_s() < freezing_until_s, "frames still come from a stopped server"
            if isinstance(item, Frame):
                last = item
            elif item.kind is NoticeKind.RECONNECTING:
                break
        assert "nothing came within the time limit" in item.reason  # type: ignore[union-attr]
        noticed_after_s = capture.clock.now_s() - last.captured_at_s
        server.kill()
    assert noticed_after_s < 2.5 * OPTIONS.read_timeout_s


def test_a_frozen_camera_does_not_hold_up_the_stop(server: RtspServer) -> None:
    capture = Capture(open_source(server.url(), options=OPTIONS))
    capture.start()
    wait_for_frames(capture, 2)
    server.freeze()
    capture.stop(timeout_s=5.0)
    with pytest.raises(SourceTimeout, match="no answer within 0.5 s"):
        open_source(server.url(), options=SourceOptions(open_timeout_s=0.5)).open()


@pytest.mark.parametrize("method", [[], ["--digest"]])
def test_a_password_with_special_characters_logs_in_and_is_never_shown(method: list[str]) -> None:
    with RtspServer("--user", "admin", "--password", PASSWORD, *method) as server:
        url = server.url(f"admin:{PASSWORD}")
        with Capture(open_source(url, options=OPTIONS)) as capture:
            frame = wait_for_frames(capture, 1)[0]
            server.kill()
            lost = wait_for(capture, NoticeKind.RECONNECTING)
            shown = f"{capture.info} {capture.name} {lost} {frame.source}"
        assert PASSWORD not in shown and "p%40s" not in shown and "admin" not in shown
        assert frame.source == server.url("***")


def test_a_wrong_login_is_refused_without_showing_it() -> None:
    with RtspServer("--user", "admin", "--password", PASSWORD) as server:
        with pytest.raises(LoginRefused, match="refused this user or password") as caught:
            open_source(server.url(f"admin:{WRONG}"), options=OPTIONS).open()
        assert WRONG not in "".join(traceback.format_exception(caught.value))
        with pytest.raises(LoginRefused, match="wants a login"):
            open_source(server.url(), options=OPTIONS).open()


def test_a_path_that_the_server_does_not_have(server: RtspServer) -> None:
    with pytest.raises(SourceNotFound, match="no such stream"):
        open_source(f"{server.url()}/nowhere", options=OPTIONS).open()


def test_a_recording_served_as_a_camera_is_live() -> None:
    with RtspServer("--file", str(real_clip("b.mp4"))) as server:  # noqa: SIM117
        with Capture(open_source(server.url(), options=OPTIONS)) as capture:
            assert capture.info.is_live
            assert {frame.image.shape for frame in wait_for_frames(capture, 3)} == {(270, 480, 3)}
