"""A clip has the recorded pictures at their times, and is complete or does not exist."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from streaming.errors import OptionError
from streaming.recording import ClipNotWritten, ClipResult, ClipWriter, cut_clip, encode_clip
from streaming.thumbnails import decode_jpeg, encode_jpeg


def picture(level: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), level, np.uint8)


def levels(path: Path) -> list[tuple[float, int]]:
    """Each picture's time and mean level."""
    with av.open(str(path)) as container:
        return [
            (round(frame.time or 0.0, 3), round(float(frame.to_ndarray(format="rgb24").mean())))
            for frame in container.decode(video=0)
        ]


def steps(num: int, start_s: float = 100.0) -> list[tuple[np.ndarray, float]]:
    return [(picture(20 * number), start_s + number / 4) for number in range(num)]


def test_a_clip_plays_back_its_pictures_at_their_times(tmp_path: Path) -> None:
    result = encode_clip(tmp_path / "a" / "clip.mp4", steps(10))
    assert (result.num_frames, result.start_s, result.end_s) == (10, 100.0, 102.25)
    assert result.size_bytes == (tmp_path / "a" / "clip.mp4").stat().st_size
    shown = levels(result.path)
    assert [time_s for time_s, _ in shown] == [number / 4 for number in range(10)]
    assert all(abs(level - 20 * number) <= 3 for number, (_, level) in enumerate(shown))
    with av.open(str(result.path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_uneven_times_and_times_that_run_back_are_taken(tmp_path: Path) -> None:
    times_s = [5.0, 5.001, 5.5, 5.2, 5.5, 9.0]
    result = encode_clip(tmp_path / "clip.mp4", [(picture(100), time_s) for time_s in times_s])
    assert [time_s for time_s, _ in levels(result.path)] == [0.0, 0.001, 0.5, 4.0]


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (3, 500)])
def test_any_size_can_be_recorded(tmp_path: Path, size: tuple[int, int]) -> None:
    result = encode_clip(tmp_path / "clip.mp4", [(picture(90, size), 0.0), (picture(90, (80, 60)), 0.1)])
    assert len(levels(result.path)) == 2


def test_a_picture_of_another_size_keeps_its_form_in_the_clip(tmp_path: Path) -> None:
    upright = np.full((96, 32, 3), 200, np.uint8)
    result = encode_clip(tmp_path / "clip.mp4", [(picture(90), 0.0), (upright, 0.1)])
    with av.open(str(result.path)) as container:
        second = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][1]
    assert second.shape == (48, 64, 3)
    assert second[:, :20].max() < 30 and second[:, 44:].max() < 30 and second[:, 28:36].min() > 170


def test_a_clip_says_by_which_matrix_its_colours_were_made(tmp_path: Path) -> None:
    result = encode_clip(tmp_path / "clip.mp4", [(np.full((720, 64, 3), (205, 40, 40), np.uint8), 0.0)])
    with av.open(str(result.path)) as container:
        (frame,) = container.decode(video=0)
        assert (frame.colorspace, frame.color_range) == (6, 1)
        assert np.abs(frame.to_ndarray(format="rgb24")[300, 30].astype(int) - (205, 40, 40)).max() <= 4


def test_part_of_a_clip_can_be_cut_out(tmp_path: Path) -> None:
    encode_clip(tmp_path / "clip.mp4", steps(12))
    cut = cut_clip(tmp_path / "clip.mp4", tmp_path / "cut.mp4", 1.0, 2.0)
    assert cut.num_frames == 5 and abs(levels(cut.path)[0][1] - 80) <= 3
    with pytest.raises(ClipNotWritten, match="no picture"):
        cut_clip(tmp_path / "clip.mp4", tmp_path / "none.mp4", 50.0, 60.0)
    (tmp_path / "bad.mp4").write_bytes(b"no clip")
    with pytest.raises(ClipNotWritten, match="bad.mp4"):
        cut_clip(tmp_path / "bad.mp4", tmp_path / "none.mp4", 0.0, 1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.mp4", "clip.mp4", "cut.mp4"]


@pytest.fixture
def done() -> list[ClipResult]:
    return []


def test_one_thread_writes_the_clips_of_many_cameras(tmp_path: Path, done: list[ClipResult]) -> None:
    writer = ClipWriter()
    for key in ("door", "hall"):
        writer.begin(key, tmp_path / f"{key}.mp4", done.append)
    for image, time_s in steps(8):
        for key in ("door", "hall"):
            assert writer.add(key, encode_jpeg(image).data, time_s)
    assert not writer.add("garden", b"", 0.0)
    writer.finish("hall")
    assert writer.close()
    assert [(result.path.name, result.num_frames, result.failure) for result in done] == [
        ("hall.mp4", 8, ""),
        ("door.mp4", 8, ""),
    ]
    assert not [thread for thread in threading.enumerate() if thread.name == "clips"]
    with pytest.raises(ClipNotWritten, match="closed"):
        writer.begin("door", tmp_path / "late.mp4", done.append)


def test_what_comes_too_fast_is_dropped_and_counted(tmp_path: Path, done: list[ClipResult]) -> None:
    jpegs = [encode_jpeg(image).data for image, _ in steps(8)]
    writer = ClipWriter(most_queued_bytes=2 * max(map(len, jpegs)))
    gate = threading.Event()

    def wait_at_the_end(result: ClipResult) -> None:
        gate.wait()
        done.append(result)

    writer.begin("first", tmp_path / "first.mp4", wait_at_the_end)
    writer.add("first", jpegs[0], 0.0)
    writer.finish("first")
    writer.begin("door", tmp_path / "door.mp4", done.append)
    while writer._tasks:  # the thread takes the first clip's end and waits
        pass
    taken = [writer.add("door", jpeg, number / 4) for number, jpeg in enumerate(jpegs)]
    gate.set()
    writer.close()
    assert taken == [True] * 2 + [False] * 6
    assert [(result.num_frames, result.num_dropped) for result in done] == [(1, 0), (2, 6)]


def test_a_clip_that_cannot_be_written_says_why_and_leaves_nothing(tmp_path: Path, done: list[ClipResult]) -> None:
    (tmp_path / "file").write_text("in the way")
    writer = ClipWriter()
    writer.begin("door", tmp_path / "file" / "clip.mp4", done.append)
    writer.begin("hall", tmp_path / "hall.mp4", done.append)
    writer.begin("empty", tmp_path / "empty.mp4", done.append)
    for number in range(4):
        writer.add("door", encode_jpeg(picture(50)).data, number / 4)
        writer.add("hall", encode_jpeg(picture(50)).data if number != 2 else b"no jpeg", number / 4)
    writer.close()
    assert [bool(result.failure) for result in done] == [True, True, True]
    assert "no pictures" in done[2].failure and "JPEG" in done[1].failure
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_thumbnails_are_small_and_keep_their_shape() -> None:
    made = encode_jpeg(picture(77, (200, 1000)))
    assert (made.width_px, made.height_px) == (320, 64)
    assert encode_jpeg(picture(77, (2, 4000))).height_px == 1
    assert encode_jpeg(picture(77, (20, 30))).width_px == 30
    red = np.zeros((40, 40, 3), np.uint8)
    red[:, :, 0] = 255
    assert abs(decode_jpeg(encode_jpeg(red).data).mean(axis=(0, 1)) - (254, 0, 0)).max() < 4


@pytest.mark.parametrize("change", [lambda d: b"", lambda d: b"no", lambda d: d[:30], lambda d: huge(d)])
def test_what_is_no_picture_is_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(OptionError, match="not a JPEG"):
        decode_jpeg(change(encode_jpeg(picture(77)).data))


def huge(jpeg: bytes) -> bytes:
    """The same with a header that promises 65,535 x 65,535 pixels."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :]
