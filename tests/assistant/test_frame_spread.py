"""A question about a clip sees what is really there, whatever the clip says of its length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assistant.inputs import attachments
from assistant.inputs.attachments import BadPicture, read_clip
from streaming.clock import FakeClock
from tests.clips import number_of, write_clip
from tests.streaming.odd_server import OddServer, Request, jpegs, series


@pytest.mark.parametrize("name", ["leap.mkv", "leap.mp4"])
def test_frames_are_spread_over_pictures_not_over_a_length_that_is_not_true(tmp_path: Path, name: str) -> None:
    stamps_s = [index / 10 for index in range(30)] + [10_800.0 + index / 10 for index in range(30)]
    told: list[str] = []
    frames, times_s = read_clip(str(write_clip(tmp_path / name, stamps_s=stamps_s)), 2.0, told.append)
    assert {number_of(frame) for frame in frames} >= {0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55}
    assert len(frames) <= attachments.MOST_FRAMES and times_s == sorted(times_s)
    assert any("leap ahead once" in line for line in told) == name.endswith("mkv")


def test_pictures_that_stand_take_no_place_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MOST_FRAMES", 40)
    stamps_s = [600.0 * index for index in range(10)]
    frames, times_s = read_clip(str(write_clip(tmp_path / "slides.mp4", stamps_s=stamps_s)), 1.0)
    assert {number_of(frame) for frame in frames} == set(range(10))
    assert 20 <= len(frames) <= 40 and times_s == sorted(times_s)
    assert np.diff(times_s).max() <= 600.0


def test_a_short_clip_of_standing_pictures_is_seen_second_by_second(tmp_path: Path) -> None:
    frames, times_s = read_clip(str(write_clip(tmp_path / "slides.mkv", stamps_s=[0.0, 2.5, 9.0])), 1.0)
    assert times_s[:10] == pytest.approx(list(range(10)))
    assert [number_of(frame) for frame in frames[:10]] == [0, 0, 0, 1, 1, 1, 1, 1, 1, 2]


def test_a_clock_that_may_have_leapt_is_told_where_each_picture_stands_until_the_next(tmp_path: Path) -> None:
    stamps_s = [index / 10 for index in range(30)] + [10_800.0 + index / 10 for index in range(30)]
    told: list[str] = []
    read_clip(str(write_clip(tmp_path / "leap.mp4", stamps_s=stamps_s)), 2.0, told.append)
    assert any("one picture stands for 10797.1 s, from 2.90 s" in line and "clock" in line for line in told), told
    told.clear()
    slides_s = [0.0, 1.0, 2.0, 3.0, 300.0, 301.0]
    read_clip(str(write_clip(tmp_path / "slides.mp4", stamps_s=slides_s)), 2.0, told.append)
    assert not told


@pytest.mark.parametrize(("leap_s", "is_told"), [(0.0, False), (3600.0, True)])
def test_the_interval_of_a_time_lapse_is_no_leap_in_the_end(tmp_path: Path, leap_s: float, is_told: bool) -> None:
    stamps_s = [20.0 * index + leap_s * (index >= 6) for index in range(12)]
    told: list[str] = []
    read_clip(str(write_clip(tmp_path / "lapse.mkv", stamps_s=stamps_s)), 1.0, told.append)
    leaps = [line for line in told if "leap ahead" in line]
    assert len(leaps) == is_told
    assert not leaps or "leap ahead once, first by 3620.0 s" in leaps[0]


PART = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"


def test_a_live_answer_of_a_web_server_is_no_clip() -> None:
    with (
        OddServer({"live": series(list(jpegs(40)), lambda num_bytes: PART)}) as server,
        pytest.raises(BadPicture, match="it is live, so it has no end"),
    ):
        read_clip(server.url("live"), 1.0)


def test_a_clip_behind_a_url_whose_end_does_not_come_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server that repeats the clip for ever, as fast as it is read, in place of a recording."""
    clip = write_clip(tmp_path / "clip.ts", num_frames=50, codec="mpeg2video", size_px=(320, 240)).read_bytes()
    clock = FakeClock()

    def endless(request: Request) -> None:
        request.begin(("Content-Type", "video/mp2t"), ("Transfer-Encoding", "chunked"), ("ETag", '"1"'))
        while not request.server.closing.is_set():
            request.wfile.write(b"%x\r\n" % len(clip) + clip + b"\r\n")
            clock.advance(30.0)

    rule = "it was read for 600 s and its end did not come.*download it and give the file"
    with OddServer({"clip": endless}) as server, pytest.raises(BadPicture, match=rule):
        read_clip(server.url("clip"), 1.0, clock=clock)
