"""Recordings: the frames of a file are delivered unchanged, at the file's timestamps."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from streaming.clock import FakeClock
from streaming.errors import OptionError, SourceError
from streaming.sources.base import SourceOptions
from streaming.sources.pictures import Event, Orientation, orientation_from_matrix, over_white, upright
from streaming.sources.reading import VideoReader, open_reader
from streaming.sources.recordings import ReplaySource
from streaming.types import Frame, Notice, NoticeKind, SourceInfo
from tests.clips import QUADRANTS, cut, damage, number_of, quadrants, real_clip, write_clip, write_joined
from tests.streaming.closing import closed_while_opening


def play(path: Path, clock: FakeClock | None = None, **options: object) -> tuple[SourceInfo, list[Frame], list[Notice]]:
    """All items of a file."""
    with ReplaySource(str(path), SourceOptions(**options), clock) as source:  # type: ignore[arg-type]
        info = source.open()
        items = list(source.frames())
    frames = [item for item in items if isinstance(item, Frame)]
    notices = [item for item in items if isinstance(item, Notice)]
    assert items[0] is notices[0] and notices[0].kind is NoticeKind.OPENED
    assert items[-1] is notices[-1] and notices[-1].kind is NoticeKind.ENDED
    return info, frames, notices


def kinds(notices: list[Notice]) -> list[str]:
    return [str(notice.kind) for notice in notices[1:-1]]


def stamps(frames: list[Frame]) -> list[float]:
    return [frame.pts_s for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "size_px"),
    [
        ("plain.mp4", "libx264", "yuv420p", (64, 48)),
        ("plain.mkv", "libx264", "yuv420p", (64, 48)),
        ("plain.avi", "mpeg4", "yuv420p", (64, 48)),
        ("portrait.mp4", "libx264", "yuv420p", (48, 96)),
        ("odd.mkv", "ffv1", "bgr0", (33, 17)),
        ("ten_bit.mp4", "libx264", "yuv420p10le", (64, 48)),
        ("grey.mkv", "ffv1", "gray", (64, 48)),
        ("grey16.mkv", "ffv1", "gray16le", (64, 48)),
        ("full_range.mkv", "mjpeg", "yuvj420p", (64, 48)),
    ],
)
def test_every_frame_comes_once_upright_and_in_its_colours(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, size_px: tuple[int, int]
) -> None:
    path = write_clip(tmp_path / name, num_frames=40, codec=codec, pix_fmt=pix_fmt, size_px=size_px)
    info, frames, notices = play(path)
    assert (info.width_px, info.height_px) == size_px
    assert (info.fps_declared, info.is_live) == (25.0, False)
    assert info.duration_s_declared == pytest.approx(1.6, abs=0.05)
    assert [number_of(frame.image) for frame in frames] == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    assert stamps(frames) == pytest.approx([index / 25 for index in range(40)], abs=0.002)
    assert {(frame.image.shape, str(frame.image.dtype)) for frame in frames} == {((size_px[1], size_px[0], 3), "uint8")}
    assert all(frame.image.flags.c_contiguous for frame in frames)
    assert kinds(notices) == []
    assert notices[-1].details["broken"] is False


@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
def test_variable_rate_keeps_its_times(tmp_path: Path, name: str) -> None:
    stamps_s = [0.0, 0.04, 0.08, 0.5, 0.52, 2.0, 2.04, 7.5, 7.52, 7.6]
    _, frames, notices = play(write_clip(tmp_path / name, stamps_s=stamps_s))
    assert stamps(frames) == pytest.approx(stamps_s, abs=0.001)
    assert kinds(notices) == []


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    path = write_clip(tmp_path / "r.mp4", num_frames=3, rotation=rotation, mirrored=mirrored, paint=quadrants)
    info, frames, _ = play(path)
    wanted = np.rot90(quadrants(0, 64, 48), rotation // 90)
    wanted = wanted[:, ::-1] if mirrored else wanted
    assert frames[0].image.shape == wanted.shape == (info.height_px, info.width_px, 3)
    assert np.abs(frames[0].image[::8, ::8].astype(int) - wanted[::8, ::8]).max() < 60


@pytest.mark.slow
def test_looking_at_the_rotation_keeps_no_frames(tmp_path: Path) -> None:
    def num_looks() -> int:
        return sum(type(thing).__name__ == "SideDataContainer" for thing in gc.get_objects())

    path = write_clip(tmp_path / "r.mp4", num_frames=60, rotation=90)
    gc.collect()
    before = num_looks()
    gc.disable()
    try:
        assert len(play(path)[1]) == 60
        assert num_looks() - before <= 3
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("matrix", "top_left", "top_right"),
    [
        ((1, 0, 0, 1), "top left", "top right"),
        ((-1, 0, 0, 1), "top right", "top left"),
        ((1, 0, 0, -1), "bottom left", "bottom right"),
        ((-1, 0, 0, -1), "bottom right", "bottom left"),
        ((0, 1, -1, 0), "bottom left", "top left"),
        ((0, -1, 1, 0), "top right", "bottom right"),
        ((0, 1, 1, 0), "top left", "bottom left"),
        ((0, -1, -1, 0), "bottom right", "top right"),
        ((0, 0, 0, 0), "top left", "top right"),
    ],
)
def test_all_eight_orientations(matrix: tuple[int, int, int, int], top_left: str, top_right: str) -> None:
    a, b, c, d = (value << 16 for value in matrix)
    packed = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=np.int32).tobytes()
    laid = upright(quadrants(0, 8, 6), orientation_from_matrix(packed))
    assert tuple(laid[0, 0]) == QUADRANTS[top_left]
    assert tuple(laid[0, -1]) == QUADRANTS[top_right]
    assert orientation_from_matrix(packed).swaps_sides == (laid.shape == (8, 6, 3))
    assert Orientation(mirrored=False, quarter_turns=0).swaps_sides is False


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.mov", "qtrle", "argb"), ("b.mov", "png", "rgba"), ("a.webm", "libvpx-vp9", "yuva420p")],
)
def test_transparency_is_laid_over_white(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    def half_transparent(index: int, width_px: int, height_px: int) -> np.ndarray:
        image = np.full((height_px, width_px, 4), 200, dtype=np.uint8)
        image[:, : width_px // 2, 3], image[:, width_px // 2 :, 3] = 0, 128
        return image

    path = write_clip(tmp_path / name, num_frames=3, codec=codec, pix_fmt=pix_fmt, paint=half_transparent)
    _, frames, _ = play(path)
    assert len(frames) == 3
    assert frames[1].image[:, :24].min() >= 251
    assert np.abs(frames[1].image[:, 40:].astype(int) - 228).max() <= 4


def test_compositing_rounds_and_leaves_opaque_pixels() -> None:
    rgba = np.array([[[255, 100, 3, 255], [255, 100, 3, 128], [255, 100, 3, 0]]], dtype=np.uint8)
    assert over_white(rgba).tolist() == [[[255, 100, 3], [255, 177, 129], [255, 255, 255]]]


@pytest.mark.parametrize(("size_px", "mode"), [((1, 1), "RGB"), ((1, 1), "L"), ((4000, 100), "RGB"), ((3, 5), "P")])
def test_a_picture_is_a_recording_of_one_frame(tmp_path: Path, size_px: tuple[int, int], mode: str) -> None:
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.new("RGB", size_px, (200, 200, 200)).convert(mode, palette=Image.Palette.ADAPTIVE).save(path)
    info, frames, _ = play(path)
    assert (info.width_px, info.height_px) == size_px
    assert [frame.image.shape for frame in frames] == [(size_px[1], size_px[0], 3)]
    assert (frames[0].image == 200).all()


@pytest.mark.parametrize("name", ["b.avi", "b.mp4", "world.mp4"])
def test_real_clips_give_each_frame_at_ffmpegs_time(name: str) -> None:
    path = real_clip(name)
    with av.open(str(path)) as container:
        wanted = [frame.time for frame in container.decode(video=0)]
    _, frames, notices = play(path, sample_fps=1.0)
    assert notices[-1].details["num_frames"] == len(wanted)
    assert kinds(notices) == []
    for second, frame in enumerate(frames):
        assert frame.pts_s == pytest.approx(second)
        assert frame.index == max(index for index, time in enumerate(wanted) if time <= second + 0.001)


def test_a_real_clip_in_full_hd() -> None:
    info, frames, _ = play(real_clip("a.mp4"), end_s=0.2, sample_fps=10.0)
    assert (info.width_px, info.height_px, info.codec, info.fps_declared) == (1920, 1080, "h264", 30.0)
    assert [frame.image.shape for frame in frames] == [(1080, 1920, 3)] * 2


def test_each_tick_gets_the_picture_that_is_shown_then(tmp_path: Path) -> None:
    stamps_s = [0.0, 0.3, 0.45, 0.55, 1.4, 1.6, 1.7, 2.05, 2.5]
    path = write_clip(tmp_path / "s.mkv", stamps_s=stamps_s)
    _, frames, _ = play(path, sample_fps=2.0)
    assert stamps(frames) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert [number_of(frame.image) for frame in frames] == [0, 2, 3, 4, 6, 8]
    assert [number_of(frame.image) for frame in frames] == [frame.index for frame in frames]


def test_joined_recordings_go_on_and_tell_the_jump(tmp_path: Path) -> None:
    _, frames, notices = play(write_joined(tmp_path / "joined.ts", [30, 20]))
    gaps = [notice for notice in notices if notice.kind is NoticeKind.GAP]
    assert len(gaps) == 1
    assert gaps[0].details["jump_s"] == pytest.approx(-29 / 25, abs=0.05)
    assert gaps[0].pts_s == pytest.approx(29 / 25, abs=0.05)
    assert np.diff(stamps(frames)).min() >= 0
    assert stamps(frames)[-1] == pytest.approx(49 / 25, abs=0.09)
    assert notices[-1].details["broken"] is False


def test_missing_timestamps_are_worked_out_and_told(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "raw.h264", num_frames=50, container_format="h264")
    _, frames, notices = play(path)
    assert stamps(frames) == pytest.approx([index / 25 for index in range(50)])
    assert kinds(notices) == ["damaged"]
    assert notices[1].details == {"unstamped": True}
    assert notices[-1].details["num_unstamped"] == 50


def test_a_change_of_size_is_told_before_the_first_new_frame(tmp_path: Path) -> None:
    parts = [
        write_clip(tmp_path / f"{width_px}.ts", num_frames=10, codec="mpeg2video", size_px=(width_px, 48)).read_bytes()
        for width_px in (64, 96)
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    with ReplaySource(str(path), SourceOptions()) as source:
        source.open()
        items = list(source.frames())
    widths = [item.image.shape[1] if isinstance(item, Frame) else str(item.kind) for item in items]
    assert widths.index("grid_changed") + 1 == widths.index(96)
    assert [width for width in widths if isinstance(width, int)] == sorted(w for w in widths if isinstance(w, int))


def test_a_damaged_stretch_is_skipped_counted_and_told_once(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "d.mp4", num_frames=100, size_px=(96, 64), paint=_noise)
    clean = play(path)[1]
    _, frames, notices = play(damage(path, 0.4, 0.5))
    lost = [notice for notice in notices if notice.kind is NoticeKind.DAMAGED]
    assert lost
    assert sum(notice.count for notice in lost) == int(notices[-1].details["num_lost"]) > 0
    assert len(lost) <= sum(notice.count for notice in lost) <= len(clean) - len(frames)
    assert stamps(frames)[-1] == stamps(clean)[-1], "what comes after the damage is still read, at its own time"
    assert notices[-1].details["broken"] is False


@pytest.mark.parametrize(("name", "codec"), [("c.mkv", "libx264"), ("c.mp4", "libx264"), ("c.avi", "mpeg4")])
def test_a_file_that_breaks_off_gives_what_is_there_and_says_so(tmp_path: Path, name: str, codec: str) -> None:
    faststart = {"movflags": "faststart"}
    path = write_clip(
        tmp_path / name, num_frames=100, size_px=(96, 64), codec=codec, paint=_noise, options=faststart, with_sound=True
    )
    info, frames, notices = play(cut(path, 0.5))
    assert 25 < len(frames) < 75
    assert info.codec in ("h264", "mpeg4")
    assert kinds(notices)[-1] == "damaged"
    assert notices[-2].details["broken"] is True
    assert notices[-1].details["broken"] is True
    assert notices[-1].details["num_frames"] == len(frames)


def test_a_range_starts_and_ends_where_it_says_in_the_files_own_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "range.mp4", num_frames=100, gop=30)
    _, frames, notices = play(path, start_s=1.5, end_s=2.0)
    assert stamps(frames) == pytest.approx([index / 25 for index in range(38, 50)])
    assert [number_of(frame.image) for frame in frames] == list(range(38, 50))
    assert notices[-1].details["broken"] is False


def test_a_range_of_a_file_that_cannot_seek_is_decoded_up_to(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "raw.h264", num_frames=40, container_format="h264")
    _, frames, _ = play(path, start_s=1.0)
    assert [number_of(frame.image) for frame in frames] == list(range(25, 40))


def test_a_start_after_the_end_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "short.mp4", num_frames=10)
    with pytest.raises(OptionError, match="start_s=100: .*is 0.4 s long"):
        play(path, start_s=100.0)


@pytest.mark.parametrize("name", ["l.mp4", "l.mkv", "l.ts", "l.avi", "l.h264"])
def test_loops_repeat_the_frames_while_time_goes_on(tmp_path: Path, name: str) -> None:
    codec = {"l.ts": "mpeg2video", "l.avi": "mpeg4"}.get(name, "libx264")
    path = write_clip(tmp_path / name, num_frames=25, codec=codec, container_format="h264" if "h264" in name else None)
    _, frames, notices = play(path, loop=3)
    assert [number_of(frame.image) for frame in frames] == [*range(25)] * 3
    assert stamps(frames) == pytest.approx([index / 25 for index in range(75)], abs=0.003)
    assert [frame.index for frame in frames] == list(range(75))
    looped = [notice for notice in notices if notice.kind is NoticeKind.LOOPED]
    assert [notice.count for notice in looped] == [1, 2]


def test_loops_of_a_range_repeat_the_range(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "l.mp4", num_frames=50, gop=20)
    _, frames, _ = play(path, loop=2, start_s=1.0, end_s=1.2)
    assert [number_of(frame.image) for frame in frames] == [25, 26, 27, 28, 29] * 2
    assert stamps(frames) == pytest.approx([1.0 + index / 25 for index in range(10)])


def test_an_endless_loop_ends_when_it_is_closed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "l.mp4", num_frames=5)
    source = ReplaySource(str(path), SourceOptions(loop=None))
    source.open()
    num_frames = 0
    for item in source.frames():
        num_frames += isinstance(item, Frame)
        if num_frames == 23:
            source.close()
    assert num_frames == 23


def test_speed_paces_by_the_media_clock(tmp_path: Path) -> None:
    clock = FakeClock()
    stamps_s = [0.0, 0.1, 0.2, 2.0, 2.1, 4.0]
    _, frames, notices = play(write_clip(tmp_path / "p.mkv", stamps_s=stamps_s), clock, speed=2.0)
    assert [frame.captured_at_s for frame in frames] == pytest.approx([stamp_s / 2 for stamp_s in stamps_s])
    assert kinds(notices) == []


def test_a_slow_reader_slows_the_clock_once_told_and_loses_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    path = write_clip(tmp_path / "p.mp4", num_frames=50)
    items = []
    with ReplaySource(str(path), SourceOptions(speed=1.0), clock) as source:
        source.open()
        for item in source.frames():
            items.append(item)
            clock.advance(0.5 if isinstance(item, Frame) else 0.0)
    slowed = [item for item in items if isinstance(item, Notice) and item.kind is NoticeKind.SLOWED]
    frames = [item for item in items if isinstance(item, Frame)]
    assert len(frames) == 50
    assert len(slowed) == 1
    assert slowed[0].details["behind_s"] == pytest.approx(0.46)
    assert slowed[0].reason.startswith("frames are used slower")
    assert items[-1].details["slowed_s"] == pytest.approx(49 * 0.46)  # type: ignore[union-attr]


def test_a_server_that_sends_slowly_is_not_laid_to_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, events = FakeClock(), VideoReader.events

    def slowly(reader: VideoReader) -> Iterator[Event]:
        for event in events(reader):
            clock.advance(0.1)
            yield event

    monkeypatch.setattr(VideoReader, "events", slowly)
    _, _, notices = play(write_clip(tmp_path / "p.mp4", num_frames=50), clock, speed=1.0)
    (slowed,) = (notice for notice in notices if notice.kind is NoticeKind.SLOWED)
    assert slowed.reason.startswith("frames come slower than speed 1")


def test_it_can_be_closed_from_elsewhere_and_opened_again(tmp_path: Path) -> None:
    source = ReplaySource(str(write_clip(tmp_path / "o.mp4", num_frames=10)), SourceOptions())
    for _ in range(2):
        source.open()
        frames = source.frames()
        next(frames)
        source.close()
        source.close()
        assert list(frames) == []
    with pytest.raises(SourceError, match="not open"):
        next(source.frames())
    source.open()
    assert sum(isinstance(item, Frame) for item in source.frames()) == 10
    source.close()


def _noise(index: int, width_px: int, height_px: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (height_px, width_px, 3), dtype=np.uint8)


class Hesitating(VideoReader):
    """Reads on once it may, and is never closed before that."""

    def __init__(self, path: Path) -> None:
        super().__init__(av.open(str(path)), path.name, is_live=False)
        self.reading, self.may_read, self.was_closed_under_it = threading.Event(), threading.Event(), False
        self.is_closed = False

    def events(self) -> Iterator[Event]:
        self.reading.set()
        self.may_read.wait()
        self.was_closed_under_it = self.is_closed
        if not self.is_closed:
            yield from super().events()

    def close(self) -> None:
        self.is_closed = True
        super().close()


def test_closing_while_it_is_being_opened_waits_for_the_decoder(tmp_path: Path) -> None:
    reader = Hesitating(write_clip(tmp_path / "clip.mp4", num_frames=5))
    source = ReplaySource("clip.mp4", SourceOptions(), FakeClock(), lambda: reader)
    failures = closed_while_opening(source, reader.reading, reader.may_read)
    assert not reader.was_closed_under_it and reader.is_closed
    assert failures == ["it was closed while it was being opened"]


def test_the_facts_of_a_recording_outlive_its_container(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", num_frames=25)
    reader = open_reader(str(path), path.name, options={})

    def facts() -> tuple[object, ...]:
        size_px, fps, length_s = reader.coded_size_px, reader.fps_declared, reader.duration_s_declared
        return reader.codec, size_px, fps, length_s, reader.has_own_duration, reader.is_finite, reader.has_timestamps

    before = facts()
    assert before == ("h264", (64, 48), 25.0, 1.0, True, True, True)
    reader.close()
    assert facts() == before
