"""Recordings whose timestamps jump back are found before playing, and no other recording is mistaken for one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import OptionError, TimesJumpBack
from streaming.open_source import open_source
from streaming.sources.base import SourceOptions
from streaming.sources.jumps import MOST_PACKETS, JumpBack, find_jump_back
from streaming.sources.pictures import PacketTimes
from streaming.sources.timestamps import RecordingTimeline
from streaming.types import Frame, Notice, NoticeKind
from tests.clips import number_of, real_clip, write_clip, write_joined

REFUSE = SourceOptions(jumps="refuse")


def found(
    show_s: Sequence[float | None],
    decode_s: Sequence[float | None] | None = None,
    *,
    reorders: bool = False,
    end_s: float | None = None,
) -> JumpBack | None:
    packets = map(PacketTimes, show_s, decode_s or [None] * len(show_s))
    return find_jump_back(packets, fps_declared=25.0, reorders=reorders, end_s=end_s)


def decoded_late(stamps_s: Sequence[float], depth: int) -> list[float]:
    """The order in which data come where each group of `depth` pictures refers to its last one."""
    groups = [stamps_s[at : at + depth] for at in range(0, len(stamps_s), depth)]
    return [stamp_s for group in groups for stamp_s in (group[-1], *group[:-1])]


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=60))
def test_what_the_timeline_tells_is_what_is_found(stamps_ms: list[int]) -> None:
    timeline = RecordingTimeline(25.0)
    told = [-placed.jump_s for ms in stamps_ms if (placed := timeline.place(ms / 1000)).jump_s < 0]
    jump = found([ms / 1000 for ms in stamps_ms])
    assert (jump.by_s if jump else None) == (told[0] if told else None)


@pytest.mark.parametrize("step_s", [0.04, 1.0, 30.0])
@pytest.mark.parametrize("depth", [2, 4, 16])
def test_pictures_that_refer_to_later_ones_are_no_jump(step_s: float, depth: int) -> None:
    shown = [index * step_s for index in range(10 * depth)]
    in_data = decoded_late(shown, depth)
    assert in_data != shown
    assert found(in_data, [stamp_s - depth * step_s for stamp_s in shown], reorders=True) is None
    assert found(in_data, reorders=True) is None


@pytest.mark.parametrize("back_s", [0.6, 3.0])
def test_decoding_times_that_go_back_are_a_jump_in_whatever_order_pictures_are_shown(back_s: float) -> None:
    first = [index * 0.04 for index in range(100)]
    second = [stamp_s + first[-1] - back_s for stamp_s in first]
    shown = decoded_late(first, 4) + decoded_late(second, 4)
    jump = found(shown, first + second, reorders=True)
    assert jump is not None and jump.by_s == pytest.approx(back_s) and jump.after_s == pytest.approx(first[-1])


def test_times_of_showing_that_jump_are_found_under_even_decoding_times() -> None:
    show_s = [index * 0.04 for index in range(50)] + [index * 0.04 for index in range(50)]
    decode_s = [index * 0.001 for index in range(100)]
    for reorders in (False, True):
        jump = found(show_s, decode_s, reorders=reorders)
        assert jump is not None and jump.by_s > 1 and jump.after_s == pytest.approx(49 * 0.04)


def test_what_is_late_by_less_than_half_a_second_is_no_jump() -> None:
    assert found([0.0, 0.2, 0.1, 0.3, 0.7, 0.3, 0.8, 0.9]) is None


@pytest.mark.slow
def test_nothing_is_looked_at_beyond_the_end_or_the_bound() -> None:
    assert found([0.0, 1.0, 2.0, 3.0, 0.0]) is not None
    assert found([0.0, 1.0, 2.0, 3.0, 0.0], [0.0, 1.0, 2.0, 3.0, 0.0], end_s=1.5) is None
    assert found([0.0, 1.0, 2.0, 3.0, 0.0], end_s=1.5) is None
    stamps_s = [index * 0.04 for index in range(MOST_PACKETS)]
    assert found([*stamps_s, 0.0]) is None and found([*stamps_s[1:], 0.0]) is not None


def _joined(path: Path) -> Path:
    """An H.264 recording with pictures that refer to later ones, joined to a shorter one byte by byte."""
    codec = "mpeg2video" if path.suffix == ".mpg" else "libx264"
    parts = [write_clip(path.with_name(f"{count}{path.suffix}"), num_frames=count, codec=codec) for count in (60, 40)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("name", ["joined.ts", "joined.mkv", "joined.mpg"])
def test_a_joined_recording_is_refused_and_nothing_left_open(tmp_path: Path, name: str) -> None:
    source = open_source(str(_joined(tmp_path / name)), options=REFUSE)
    num_open = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for _ in range(2):
        with pytest.raises(TimesJumpBack, match=rf"{name}: .* jump back by 2\.\d+ s after 2\.36 s") as error:
            source.open()
        assert "--jumps follow" in str(error.value)
    if num_open:
        assert len(os.listdir("/proc/self/fd")) == num_open


def _slow(path: Path) -> Path:
    return write_clip(path, stamps_s=[float(index) for index in range(40)], gop=40)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("slow.mp4", _slow),
        ("slow.mkv", _slow),
        ("slow.ts", _slow),
        ("raw.h264", lambda path: write_clip(path, container_format="h264")),
        ("plain.avi", lambda path: write_clip(path, codec="mpeg4")),
        ("uneven.mkv", lambda path: write_clip(path, stamps_s=[0.0, 0.1, 5.0, 5.01, 50.0, 50.5])),
    ],
)
def test_whole_recordings_are_not_refused(tmp_path: Path, name: str, make: Callable[[Path], Path]) -> None:
    with open_source(str(make(tmp_path / name)), options=REFUSE) as source:
        source.open()
        notices = [item for item in source.frames() if isinstance(item, Notice)]
    assert notices[-1].kind is NoticeKind.ENDED
    assert all(float(notice.details.get("jump_s", 0.0)) >= 0 for notice in notices)


@pytest.mark.parametrize("name", ["a.mp4", "b.avi", "b.mp4", "world.mp4"])
def test_real_clips_are_not_refused(name: str) -> None:
    with open_source(str(real_clip(name)), options=REFUSE) as source:
        source.open()


def test_what_is_not_watched_may_jump(tmp_path: Path) -> None:
    path = _joined(tmp_path / "joined.ts")
    with open_source(str(path), options=SourceOptions(jumps="refuse", end_s=1.0)) as source:
        assert source.open().width_px == 64
        assert sum(isinstance(item, Frame) for item in source.frames()) == 25


def test_followed_from_the_middle_the_same_frames_have_the_same_times(tmp_path: Path) -> None:
    path = _joined(tmp_path / "joined.ts")

    def seen(start_s: float) -> list[tuple[float, int]]:
        with open_source(str(path), options=SourceOptions(start_s=start_s)) as source:
            assert source.open().duration_s_declared is None, "the header cannot know"
            return [(item.pts_s, number_of(item.image)) for item in source.frames() if isinstance(item, Frame)]

    whole = seen(0.0)
    assert len(whole) == 100
    for start_s in (1.0, 3.0):
        assert seen(start_s) == [frame for frame in whole if frame[0] >= start_s - 1e-3]


def test_followed_in_a_loop_each_round_has_every_frame(tmp_path: Path) -> None:
    path = write_joined(tmp_path / "joined.ts", [30, 20])
    with open_source(str(path), options=SourceOptions(loop=2)) as source:
        source.open()
        frames = [item for item in source.frames() if isinstance(item, Frame)]
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers[: len(numbers) // 2] == numbers[len(numbers) // 2 :] and len(numbers) >= 2 * 48


def test_frames_that_are_late_are_told_once_and_counted(tmp_path: Path) -> None:
    # AVI keeps times of decoding alone, so that H.264 comes with times out of order.
    path = write_clip(tmp_path / "late.avi", num_frames=60)
    with open_source(str(path), options=REFUSE) as source:
        source.open()
        items = list(source.frames())
    gaps = [item for item in items if isinstance(item, Notice) and item.kind is NoticeKind.GAP]
    ended = items[-1]
    assert len(gaps) == 1 and 0 < float(gaps[0].details["late_s"]) < 0.5
    assert isinstance(ended, Notice) and int(ended.details["num_late"]) > 1
    times_s = [item.pts_s for item in items if isinstance(item, Frame)]
    assert times_s == sorted(times_s)


def test_another_word_is_refused() -> None:
    with pytest.raises(OptionError, match="follow or refuse"):
        SourceOptions(jumps="skip")  # type: ignore[arg-type]
