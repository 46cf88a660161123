"""One source for viewers and the model, pause and speed, and a capture that opens in its own thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.capture import Capture
from streaming.clock import FakeClock, SystemClock
from streaming.errors import OptionError, SourceNotFound
from streaming.frame_sampling import FrameSampler
from streaming.masks import MaskRegion, Masks
from streaming.open_source import open_source
from streaming.sources.base import SourceOptions
from streaming.sources.pacing import Pacer, Playback
from streaming.tap import Tap, Viewers
from streaming.types import Frame, SourceInfo
from tests.clips import write_clip
from tests.streaming.test_capture import Scripted


def frame(pts_s: float) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), round(pts_s * 25), pts_s, 0.0, "x")


class Watched:
    """A tap with a clock that moves with the media."""

    def __init__(self, fps: float, view_fps: float = 30.0) -> None:
        self.clock = FakeClock()
        self.tap = Tap(fps, Viewers(), clock=self.clock, view_fps=view_fps)
        self.shown: list[float] = []
        self.modelled: list[float] = []
        self.converted = 0

    def play(self, times_s: list[float]) -> None:
        for pts_s in times_s:
            self.clock.advance(pts_s - self.clock.now_s())
            if self.tap.wants(pts_s):
                self.converted += 1
                if self.tap.deliver(frame(pts_s)):
                    self.modelled.append(pts_s)


TIMES = [number / 25 for number in range(100)]


def test_the_model_is_shown_the_next_picture_where_somebody_asks() -> None:
    watched = Watched(2.0)
    watched.play(TIMES[:3])
    watched.tap.request_frame()
    watched.play(TIMES[3:14])
    assert watched.modelled == [0.0, 0.12, 0.52]  # and goes on at its own rate
    watched.tap.is_model_paused = True
    watched.tap.request_frame()
    watched.play(TIMES[14:20])
    assert watched.modelled[3:] == []
    watched.tap.is_model_paused = False
    watched.play(TIMES[20:22])
    assert watched.modelled[3:] == [0.8]


def test_the_model_gets_the_same_frames_whoever_looks() -> None:
    alone, seen = Watched(2.0), Watched(2.0)
    seen.tap.viewers.add(lambda frame: seen.shown.append(frame.pts_s))
    alone.play(TIMES)
    seen.play(TIMES)
    sampler = FrameSampler(2.0)
    assert alone.modelled == seen.modelled == [pts_s for pts_s in TIMES if sampler.wants(pts_s)]
    assert seen.shown == TIMES and alone.converted == len(alone.modelled)


def test_viewers_are_shown_no_more_than_they_take_and_may_leave() -> None:
    watched = Watched(2.0, view_fps=5.0)
    leave = watched.tap.viewers.add(lambda frame: watched.shown.append(frame.pts_s))
    watched.play(TIMES[:50])
    assert 9 <= len(watched.shown) <= 13
    leave()
    before = len(watched.shown)
    watched.play(TIMES[50:])
    assert len(watched.shown) == before and len(watched.tap.viewers) == 0


def test_a_shut_tap_shows_people_alone() -> None:
    watched = Watched(2.0)
    watched.tap.viewers.add(lambda frame: watched.shown.append(frame.pts_s))
    watched.tap.is_model_paused = True
    watched.play(TIMES[:50])
    assert watched.modelled == [] and len(watched.shown) == 50
    watched.tap.is_model_paused = False
    watched.play(TIMES[50:])
    assert len(watched.modelled) == 4


@given(first=st.sampled_from([1.0, 2.0, 5.0]), second=st.sampled_from([0.5, 1.0, 4.0]))
def test_another_rate_starts_one_tick_after_the_last_frame(first: float, second: float) -> None:
    watched = Watched(first)
    watched.play(TIMES[:50])
    last_s = watched.modelled[-1]
    watched.tap.fps = second
    watched.play([2 + number / 25 for number in range(200)])
    later = [pts_s for pts_s in watched.modelled if pts_s > last_s]
    assert later[0] == pytest.approx(max(2.0, last_s + 1 / second), abs=0.041)
    gaps = np.diff(later)[1:]
    assert np.allclose(gaps, 1 / second, atol=0.041)


def test_the_rate_of_decoding_is_measured() -> None:
    watched = Watched(2.0)
    watched.play(TIMES)
    assert watched.tap.fps_decoded(watched.clock.now_s()) == pytest.approx(25, abs=0.5)


def test_speed_and_pause_act_on_a_recording_that_plays() -> None:
    clock, playback = FakeClock(), Playback(2.0)
    pacer = Pacer(clock, None, threading.Event(), playback)
    for pts_s in (0.0, 1.0, 2.0):
        pacer.wait(pts_s)
    assert clock.now_s() == pytest.approx(1.0)
    playback.set_speed(0.5)
    pacer.wait(3.0)
    pacer.wait(4.0)
    assert clock.now_s() == pytest.approx(3.0)
    playback.set_speed(None)
    assert pacer.wait(100.0) == 0.0 and clock.now_s() == pytest.approx(3.0)
    with pytest.raises(OptionError, match="above 0"):
        playback.set_speed(0.0)


def test_a_paused_recording_stands_still_and_is_not_late_afterwards() -> None:
    clock, playback, done = SystemClock(), Playback(1.0), threading.Event()
    pacer = Pacer(clock, None, threading.Event(), playback)
    late: list[float] = []
    playback.pause()

    def play() -> None:
        late.extend(pacer.wait(pts_s) for pts_s in (0.0, 0.01))
        done.set()

    thread = threading.Thread(target=play)
    thread.start()
    assert not done.wait(0.4)
    playback.resume()
    thread.join(5)
    assert late == [0.0, 0.0]


def test_one_frame_is_let_through_a_pause_and_a_close_ends_it() -> None:
    playback, closed = Playback(), threading.Event()
    playback.pause()
    playback.allow_frames(1)
    assert not playback.wait_while_paused(FakeClock(), closed)
    closed.set()
    assert not playback.wait_while_paused(FakeClock(), closed)


def test_a_capture_that_opens_in_its_own_thread_raises_from_get(tmp_path: Path) -> None:
    path, news = tmp_path / "late.mp4", threading.Semaphore(0)
    capture = Capture(open_source(str(path)), on_item=news.release)
    capture.begin()
    assert news.acquire(timeout=5)
    with pytest.raises(SourceNotFound):
        capture.get(0.0)
    capture.stop()
    write_clip(path, num_frames=5)
    capture.begin()
    assert sum(isinstance(item, Frame) for item in capture) == 5
    capture.stop()


def test_what_is_let_go_while_it_opens_is_told_at_once_and_closed_again_by_its_own_thread() -> None:
    """The source puts the first close off until its opening is over (`test_live`, `test_replay`); the second is for
    what a source opened after it."""
    opening, go_on = threading.Event(), threading.Event()

    class Slow(Scripted):
        def open(self) -> SourceInfo:
            opening.set()
            assert go_on.wait(5)
            return super().open()

        def close(self) -> None:
            closers.append(threading.current_thread().name)
            super().close()

    closers: list[str] = []
    capture = Capture(Slow(10, is_live=True))
    capture.begin()
    assert opening.wait(5)
    capture.close()
    assert closers == ["MainThread"]
    go_on.set()
    capture.stop()
    assert closers[-1] == "capture:scripted" and capture.get(0.0) is None


def test_items_can_be_kept_back_on_their_way() -> None:
    capture = Capture(Scripted(5, is_live=False), accept=lambda item: not isinstance(item, Frame) or item.index > 2)
    with capture:
        assert [item.index for item in capture if isinstance(item, Frame)] == [3, 4]


def test_masks_that_do_not_fit_a_later_picture_end_it_rather_than_show_it() -> None:
    class Resized(Scripted):
        def frames(self) -> Iterator[Frame]:
            yield Frame(np.zeros((8, 8, 3), np.uint8), 0, 0.0, 0.0, self.name)
            yield Frame(np.zeros((4, 4, 3), np.uint8), 1, 0.1, 0.0, self.name)

    from streaming.sources.masked import MaskedSource

    region = MaskRegion.rectangle(5, 5, 2, 2, units="pixels")
    source = MaskedSource(Resized(2, is_live=True), Masks([region]))
    items = source.frames()
    assert isinstance(next(items), Frame)
    with pytest.raises(OptionError, match="outside the picture"):
        next(items)


def test_sources_ask_the_chooser_that_they_are_given(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", num_frames=50)
    tap = Tap(5.0)
    with Capture(open_source(str(path), options=SourceOptions(chooser=tap))) as capture:
        assert sum(isinstance(item, Frame) for item in capture) == 10
