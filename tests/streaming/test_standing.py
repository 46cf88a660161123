"""Recordings with an uneven rate: each tick gets the picture shown at that time, at the times of a player."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from PIL import Image

from streaming.clock import FakeClock
from streaming.errors import OptionError
from streaming.masks import MaskRegion, Masks
from streaming.open_source import open_source
from streaming.sources.base import SourceOptions
from streaming.sources.pictures import Damage, DecodedPicture, Event
from streaming.sources.timestamp_spreading import spread_crowds
from streaming.sources.timestamps import FORWARD_GAP_S, MAX_STANDING_S, RecordingTimeline
from streaming.tap import Tap, Viewers
from streaming.types import Frame, Notice, NoticeKind, SourceInfo
from tests.clips import number_of, numbered, write_clip

SLIDES_S = [0.0, 0.44, 0.96, 1.48, 8.96, 9.28, 30.0]


def watch(path: Path, fps: float | None = 2.0, **options: object) -> tuple[SourceInfo, list[Frame], list[Notice]]:
    """The sampled items of a recording."""
    with open_source(str(path), options=SourceOptions(sample_fps=fps, **options)) as source:  # type: ignore[arg-type]
        info = source.open()
        items = list(source.frames())
    return info, [i for i in items if isinstance(i, Frame)], [i for i in items if isinstance(i, Notice)]


def shown_at(stamps_s: list[float], time_s: float) -> int:
    return max(index for index, stamp_s in enumerate(stamps_s) if stamp_s <= time_s + 0.001)


def gaps(notices: list[Notice]) -> list[float]:
    return [float(notice.details["gap_s"]) for notice in notices if notice.kind is NoticeKind.GAP]


def animated(path: Path, durations_ms: list[int]) -> Path:
    """A GIF or APNG of numbered pictures."""
    pictures = [Image.fromarray(numbered(index, 64, 48)) for index in range(len(durations_ms))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations_ms, loop=0)
    return path


def copied(path: Path, out: Path, *, late_s: float = 0.0, sound_s: float = 0.0, durations: bool = True) -> Path:
    """The pictures of a clip in another container, later by `late_s`, beside so much silence from zero on."""
    with av.open(str(path)) as given, av.open(str(out), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        sound = made.add_stream("aac", rate=48_000) if sound_s else None
        for number in range(int(sound_s * 48_000) // 1024):
            assert sound is not None
            silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            silence.sample_rate, silence.pts = 48_000, number * 1024
            made.mux(sound.encode(silence))
        if sound is not None:
            made.mux(sound.encode(None))
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
                late = round(late_s / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + late, packet.dts + late, stream
                made.mux(packet)
    return out


@pytest.mark.parametrize("name", ["slides.mp4", "slides.mkv", "slides.ts", "slides.avi"])
def test_a_picture_stands_until_the_next_however_long(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    _, frames, notices = watch(write_clip(tmp_path / name, stamps_s=SLIDES_S, codec=codec))
    frames = frames[:61]  # the last stands a little longer where the duration is one in the order of decoding
    assert [frame.pts_s for frame in frames] == pytest.approx([tick / 2 for tick in range(61)], abs=0.05)
    assert [number_of(frame.image) for frame in frames] == [shown_at(SLIDES_S, tick / 2) for tick in range(61)]
    assert gaps(notices) == []
    pictures = {frame.index: frame.image for frame in frames}
    assert len(pictures) == 7, "each picture is converted once"
    assert all(frame.image is pictures[frame.index] for frame in frames)
    firsts = [frame for frame in frames if not frame.is_repeated]
    assert [frame.index for frame in firsts] == list(range(7))


@pytest.mark.parametrize("name", ["a.gif", "a.png"])
def test_animations_play_by_their_delays_to_the_end_of_the_last(tmp_path: Path, name: str) -> None:
    _, frames, notices = watch(animated(tmp_path / name, [3200, 200, 200, 12_400, 2000]))
    assert [frame.pts_s for frame in frames] == pytest.approx([tick / 2 for tick in range(36)])
    starts_s = [0.0, 3.2, 3.4, 3.6, 16.0]
    assert [number_of(frame.image) for frame in frames] == [shown_at(starts_s, tick / 2) for tick in range(36)]
    assert gaps(notices) == []


def test_without_a_rate_each_picture_comes_once(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slides.mp4", stamps_s=SLIDES_S)
    _, frames, _ = watch(path, None)
    assert [frame.pts_s for frame in frames] == pytest.approx(SLIDES_S)
    assert [frame.pts_s for frame in watch(path, None, start_s=2.0)[1]] == pytest.approx(SLIDES_S[4:])


def test_a_range_begins_with_what_is_shown_there_and_loops_over_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slides.mp4", stamps_s=SLIDES_S)
    _, frames, notices = watch(path, start_s=20.0, end_s=21.2, loop=2)
    assert [frame.pts_s for frame in frames] == pytest.approx([20.0, 20.5, 21.0, 21.5, 22.0])
    assert {number_of(frame.image) for frame in frames} == {5}
    assert [notice.pts_s for notice in notices if notice.kind is NoticeKind.LOOPED] == [21.0]
    assert notices[-1].details["broken"] is False


def test_the_model_gets_what_stands_at_its_ticks_beside_viewers(tmp_path: Path) -> None:
    clock, viewers = FakeClock(), Viewers()
    seen: list[float] = []
    viewers.add(lambda frame: seen.append(frame.pts_s))
    tap = Tap(2.0, viewers, clock=clock)
    path = write_clip(tmp_path / "slides.mp4", stamps_s=SLIDES_S)
    model: list[tuple[float, int]] = []
    with open_source(str(path), options=SourceOptions(chooser=tap, speed=1.0), clock=clock) as source:
        source.open()
        for item in source.frames():
            if isinstance(item, Frame) and tap.deliver(item):
                model.append((item.pts_s, item.index))
    assert model[:61] == [(tick / 2, shown_at(SLIDES_S, tick / 2)) for tick in range(61)]
    assert seen
    assert clock.now_s() == pytest.approx(30.0, abs=0.6)


def test_a_standing_picture_is_masked_once(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slides.mp4", stamps_s=[0.0, 20.0])
    masks = Masks([MaskRegion.from_mapping({"rectangle": [0, 0, 0.5, 1]})])
    _, frames, _ = watch(path, masks=masks)
    assert len(frames) == 41 and len({id(frame.image) for frame in frames}) == 2
    assert not np.array_equal(frames[0].image, numbered(0, 64, 48))


def test_hours_of_a_standing_picture_keep_one_picture(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "still.mp4", stamps_s=[0.0, 0.5, 10_800.0])
    num_frames, images = 0, set()
    with open_source(str(path), options=SourceOptions(sample_fps=2.0)) as source:
        source.open()
        for item in source.frames():
            if isinstance(item, Frame):
                num_frames += 1
                images.add(id(item.image))
            else:
                assert item.kind is not NoticeKind.GAP
    assert num_frames == 21_601 and len(images) <= 3


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4", "late.ts", "late.mov"])
def test_time_counts_from_the_containers_start_and_a_whole_file_is_not_cut(tmp_path: Path, name: str) -> None:
    path = copied(write_clip(tmp_path / "clip.mp4"), tmp_path / name, late_s=4.0, sound_s=6.0)
    info, frames, notices = watch(path, 25.0)
    assert info.duration_s_declared == pytest.approx(6.0, abs=0.1)
    assert frames[0].pts_s == pytest.approx(4.0, abs=0.05)
    assert number_of(frames[0].image) == 0 and notices[-1].details["broken"] is False
    _, later, _ = watch(path, 25.0, start_s=5.0)
    assert later[0].pts_s == pytest.approx(5.0, abs=0.05)
    assert number_of(later[0].image) in (24, 25, 26)


def test_a_cut_matroska_file_is_still_called_so(tmp_path: Path) -> None:
    path = copied(write_clip(tmp_path / "clip.mp4", num_frames=200), tmp_path / "late.mkv", late_s=4.0, sound_s=12.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert watch(path)[2][-1].details["broken"] is True


def test_a_clock_that_leaps_ahead_is_a_gap_after_what_may_have_stood(tmp_path: Path) -> None:
    stamps_s = [index / 10 for index in range(60)] + [10_806.0 + index / 10 for index in range(80)]
    _, frames, notices = watch(write_clip(tmp_path / "leap.mkv", stamps_s=stamps_s))
    assert gaps(notices) == pytest.approx([10_800.1 - FORWARD_GAP_S])
    assert len(frames) == 12 + 20 + 16
    assert frames[-1].pts_s == pytest.approx(10_813.5)


STEADY_S = [index / 10 for index in range(14)]
UNEVEN_S = [0.0, 0.033, 0.2, 0.233, 0.3, 0.7, 0.733, 0.766, 1.0, 1.1, 1.133, 1.2, 1.25, 1.3]


@pytest.mark.parametrize("name", ["leap.mp4", "leap.mov"])
@pytest.mark.parametrize(
    ("before_s", "stands_s", "is_told"),
    [
        (STEADY_S, 600.0, True),
        (STEADY_S, 180.0, True),
        (STEADY_S, 120.0, False),
        (UNEVEN_S, 600.0, False),
        (UNEVEN_S, 1800.0, True),
        (STEADY_S[:5], 600.0, False),
        ([index / 29.97 for index in range(14)], 600.0, True),
        ([20.0 * index for index in range(14)], 190.0, False),
    ],
)
def test_a_clock_that_leaps_within_steady_pictures_is_told_where_each_stands_until_the_next(
    tmp_path: Path, name: str, before_s: list[float], stands_s: float, is_told: bool
) -> None:
    begins_s = before_s[-1]
    after_s = [begins_s + stands_s + stamp_s for stamp_s in before_s]
    _, frames, notices = watch(write_clip(tmp_path / name, stamps_s=before_s + after_s), 1.0)
    told = [notice for notice in notices if notice.kind is NoticeKind.GAP]
    assert len(told) == is_told
    if told:
        assert told[0].details["stood_s"] == pytest.approx(stands_s, abs=0.2)
        assert told[0].details["from_s"] == pytest.approx(begins_s, abs=0.1)
    assert [frame.pts_s for frame in frames] == pytest.approx(list(range(len(frames))), abs=0.05), "it stands meanwhile"


@pytest.mark.parametrize(("name", "num_gaps"), [("lapse.mkv", 1), ("lapse.mp4", 0)])
def test_the_interval_of_a_time_lapse_is_learnt_at_its_second(tmp_path: Path, name: str, num_gaps: int) -> None:
    stamps_s = [20.0 * index for index in range(8)]
    _, frames, notices = watch(write_clip(tmp_path / name, stamps_s=stamps_s))
    assert len(gaps(notices)) == num_gaps
    after = [frame for frame in frames if frame.pts_s >= 20.0]
    assert [frame.pts_s for frame in after] == pytest.approx([tick / 2 for tick in range(40, 281)])
    assert [number_of(frame.image) for frame in after] == [tick // 40 for tick in range(40, 281)]


def test_intervals_are_learnt_though_they_differ_a_little() -> None:
    timeline = RecordingTimeline(25.0)
    stamps_s = [0.0, 20.0, 41.0, 60.5, 80.0, 3680.0, 3700.0]
    assert [timeline.place(stamp_s, 0.04).hole_s for stamp_s in stamps_s] == pytest.approx([0, 10, 0, 0, 0, 3590, 0])


def test_what_a_frames_own_duration_covers_is_no_hole() -> None:
    timeline = RecordingTimeline(25.0)
    assert timeline.place(0.0, 50.0).hole_s == 0
    assert timeline.place(50.0, 0.04).hole_s == 0
    assert timeline.place(50.04, 0.04).hole_s == 0
    assert RecordingTimeline(25.0, has_holes=False).place(0.0).hole_s == 0


def test_no_picture_stands_for_years() -> None:
    timeline = RecordingTimeline(25.0, has_holes=False)
    timeline.place(0.0, 0.04)
    year_s = 365 * 86_400.0
    assert timeline.place(year_s, 2 * year_s).hole_s == year_s - MAX_STANDING_S
    assert timeline.end_s == year_s + MAX_STANDING_S


@pytest.mark.parametrize("name", ["spot.mp4", "spot.mkv", "spot.ts"])
def test_pictures_that_lie_at_one_time_get_times_by_the_rate(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    codec = "mpeg2video" if name.endswith("ts") else "libx264"
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = Fraction(1, 90_000)
        packets = []
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(numbered(index, 64, 48), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode(None)]:
            packet.time_base = Fraction(1, 90_000)
            container.mux(packet)
    info, frames, notices = watch(path)
    assert [frame.pts_s for frame in frames] == pytest.approx([tick / 2 for tick in range(10)], abs=0.001)
    assert [number_of(frame.image) for frame in frames] == [5 * tick for tick in range(10)]
    told = [notice for notice in notices if notice.details.get("spread")]
    assert len(told) == 1 and "10 a second" in told[0].reason
    assert notices[-1].details["num_spread"] == 49 and notices[-1].details["broken"] is False
    assert info.duration_s_declared is None
    assert number_of(watch(path, start_s=2.0)[1][0].image) == 20


def test_a_crowd_is_spread_and_what_follows_goes_on_from_its_end() -> None:
    def picture(stamp_s: float | None) -> DecodedPicture:
        return DecodedPicture(stamp_s, 0.0, (2, 2), lambda: pytest.fail("nothing is converted here"))

    def spread(stamps_s: list[float | None]) -> list[float | None]:
        events: list[Event] = [picture(stamp_s) for stamp_s in stamps_s]
        return [event.stamp_s for event in spread_crowds(events, 10.0) if isinstance(event, DecodedPicture)]

    usual = [0.0, 0.04, 0.08, 0.081, 0.12, None, 0.16, 0.2, 0.1]
    assert spread(usual) == usual
    at_960 = [index / 960 for index in range(50)]
    assert spread([*at_960]) == at_960
    got = spread([0.0, 1.0, *[2.0 + index * 1e-4 for index in range(10)], 2.5, 3.0])
    assert got == pytest.approx([0.0, 1.0, *[2.0 + index / 10 for index in range(10)], 3.0, 3.5])
    events: list[Event] = [picture(0.0), picture(0.0), Damage("x", 1), picture(0.0)]
    assert list(spread_crowds(events, None)) == events


def test_closing_ends_a_picture_that_stands_for_hours(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "still.mp4", stamps_s=[0.0, 10_800.0])
    source = open_source(str(path), options=SourceOptions(sample_fps=2.0))
    source.open()
    num_frames, closer = 0, threading.Timer(0, source.close)
    for item in source.frames():
        num_frames += isinstance(item, Frame)
        if num_frames == 5:
            closer.run()
    assert num_frames == 5


def test_a_start_is_refused_by_what_is_there_where_the_header_is_wrong(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "b_frames.mp4", stamps_s=SLIDES_S)
    _, frames, _ = watch(path, start_s=20.0)
    assert frames[0].pts_s == 20.0 and number_of(frames[0].image) == 5
    with pytest.raises(OptionError, match="60: .* is 10.0 s long"):
        watch(path, start_s=60.0)
