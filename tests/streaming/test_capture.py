"""The capture thread: the items it passes on, how it ends, and who gets its errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streaming.buffer import Item
from streaming.capture import Capture
from streaming.clock import FakeClock
from streaming.errors import CaptureStuck, SourceError, SourceNotFound, StreamingError
from streaming.masks import MID_GREY, MaskRegion, Masks
from streaming.open_source import open_source
from streaming.sources.base import BaseSource, SourceOptions
from streaming.types import Frame, Notice, NoticeKind, SourceInfo
from tests.clips import number_of, write_clip


class Scripted(BaseSource):
    """A source that yields frames until `num_frames`, an error, or `close`; it can wait before a frame."""

    def __init__(
        self, num_frames: int, *, is_live: bool, error: Exception | None = None, gate: threading.Event | None = None
    ) -> None:
        super().__init__("scripted", SourceOptions(), FakeClock())
        self.is_live = is_live
        self._num_frames = num_frames
        self._error = error
        self._gate = gate
        self.num_given = 0
        self.thread_name = ""
        self.num_released = 0

    def open(self) -> SourceInfo:
        self._start()
        self.num_given = 0
        return SourceInfo(self.name, self.is_live, 2, 2, None, None, "none")

    def frames(self) -> Iterator[Item]:
        self.thread_name = threading.current_thread().name
        yield self._notice(NoticeKind.OPENED, "scripted")
        for index in range(self._num_frames):
            if self._closed.is_set():
                return
            self.num_given += 1
            yield Frame(np.zeros((2, 2, 3), dtype=np.uint8), index, index / 10, 0.0, self.name)
        if self._gate is not None:
            self._gate.wait()
        if self._error is not None:
            raise self._error
        yield self._notice(NoticeKind.ENDED, "scripted")

    def _release(self) -> None:
        self.num_released += 1


def test_a_recording_is_handed_over_whole_by_a_named_thread(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", num_frames=60)
    with Capture(open_source(str(path))) as capture:
        assert capture.info.width_px == 64
        names = [thread.name for thread in threading.enumerate()]
        items = list(capture)
        assert capture.is_drained
    assert f"capture:{path}" in names
    assert [number_of(item.image) for item in items if isinstance(item, Frame)] == list(range(60))
    assert capture.num_dropped == 0
    assert isinstance(items[-1], Notice) and items[-1].kind is NoticeKind.ENDED


def test_a_recording_waits_for_its_reader() -> None:
    source = Scripted(1000, is_live=False)
    with Capture(source, max_items=3) as capture:
        for number, _ in zip(range(50), capture, strict=False):
            assert source.num_given <= number + 5
    assert source.num_given < 100


def test_a_live_source_keeps_the_newest_and_counts_the_others() -> None:
    gate = threading.Event()
    capture = Capture(Scripted(100, is_live=True, gate=gate))
    capture.start()
    while capture.num_dropped < 99:
        pass
    gate.set()
    items = list(capture)
    capture.stop()
    assert [item.index for item in items if isinstance(item, Frame)] == [99]
    assert sum(item.count for item in items if isinstance(item, Notice) and item.kind is NoticeKind.DROPPED) == 99
    assert [str(item.kind) for item in items if isinstance(item, Notice)] == ["opened", "dropped", "ended"]


def test_a_failure_is_raised_after_what_came_before_it_and_once() -> None:
    failure = SourceError("scripted", "it broke")
    source = Scripted(3, is_live=False, error=failure)
    capture = Capture(source)
    capture.start()
    got = []
    with pytest.raises(SourceError, match="it broke") as caught:
        for item in capture:
            got.append(item)
    assert caught.value is failure
    assert sum(isinstance(item, Frame) for item in got) == 3
    assert capture.get() is None
    capture.stop()
    assert source.num_released >= 1


def test_a_failure_that_nobody_met_is_raised_by_stop() -> None:
    capture = Capture(Scripted(0, is_live=True, error=ValueError("a bug")))
    capture.start()
    while capture.failure is None:
        pass
    with pytest.raises(ValueError, match="a bug"):
        capture.stop()
    capture.stop()


def test_the_owners_own_error_is_not_hidden_by_a_failure() -> None:
    with pytest.raises(KeyError), Capture(Scripted(0, is_live=True, error=ValueError("a bug"))) as capture:
        while capture.failure is None:
            pass
        raise KeyError("the owner's")


def test_leaving_early_ends_the_thread_and_it_can_be_started_again() -> None:
    source = Scripted(10_000, is_live=False)
    capture = Capture(source, max_items=3)
    for _ in range(2):
        with capture:
            for item in capture:
                if isinstance(item, Frame) and item.index == 5:
                    break
            while source.num_given < 10:
                pass  # six taken, three waiting: the thread stands before a full queue
        assert not [thread for thread in threading.enumerate() if thread.name == "capture:scripted"]
    assert source.thread_name == "capture:scripted"


def test_starting_twice_is_a_mistake() -> None:
    with Capture(Scripted(1, is_live=False)) as capture, pytest.raises(StreamingError, match="runs already"):
        capture.start()
    with pytest.raises(StreamingError, match="not started"):
        _ = Capture(Scripted(1, is_live=False)).info


def test_a_failed_open_is_raised_at_the_start_and_can_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "late.mp4"
    capture = Capture(open_source(str(path)))
    with pytest.raises(SourceNotFound):
        capture.start()
    write_clip(path, num_frames=5)
    with capture:
        assert sum(isinstance(item, Frame) for item in capture) == 5


def test_a_thread_that_does_not_end_is_told_within_the_limit() -> None:
    gate = threading.Event()
    capture = Capture(Scripted(0, is_live=True, gate=gate))
    capture.start()
    with pytest.raises(CaptureStuck, match=r"within 0\.05 s"):
        capture.stop(timeout_s=0.05)
    gate.set()
    capture.stop()


def test_letting_go_while_it_opens_is_no_failure() -> None:
    opening, may_open = threading.Event(), threading.Event()

    class Slow(Scripted):
        def open(self) -> SourceInfo:
            opening.set()
            may_open.wait()
            raise SourceError(self.name, "it was closed while it was being opened", "open it again")

    capture = Capture(Slow(1, is_live=True))
    capture.begin()
    opening.wait()
    capture.close()
    may_open.set()
    capture.stop()
    assert capture.failure is None and not capture.is_running


def test_letting_go_of_it_does_not_turn_what_that_breaks_into_a_failure() -> None:
    gate = threading.Event()
    capture = Capture(Scripted(0, is_live=False, error=StreamingError("scripted", "it is not open", "?"), gate=gate))
    capture.begin()
    assert isinstance(capture.get(5.0), Notice)
    capture.close()
    gate.set()
    while capture.is_running:
        pass
    assert capture.is_drained and capture.get(0.0) is None
    capture.stop()


def test_get_with_a_limit_gives_nothing_where_nothing_comes() -> None:
    gate = threading.Event()
    with Capture(Scripted(0, is_live=True, gate=gate)) as capture:
        first = capture.get()
        assert isinstance(first, Notice)
        assert capture.get(0.01) is None
        assert not capture.is_drained
        gate.set()


def test_masks_lie_over_what_a_capture_gives(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", num_frames=3)
    options = SourceOptions(masks=Masks([MaskRegion.rectangle(0.0, 0.0, 1.0, 0.5)]))
    with Capture(open_source(str(path), options=options)) as capture:
        images = [item.image for item in capture if isinstance(item, Frame)]
    assert len(images) == 3
    assert all((image[:24] == MID_GREY).all() for image in images)
    assert not any((image[24:] == MID_GREY).all() for image in images)


@pytest.mark.parametrize("is_live", [True, False])
def test_what_takes_long_with_a_frame_is_done_in_the_thread(is_live: bool) -> None:
    source = Scripted(1, is_live=is_live)
    capture = Capture(source)
    threads: list[str] = []

    def prepare(frame: Frame) -> Frame:
        threads.append(threading.current_thread().name)
        return replace(frame, on_grid=frame.image[:1])

    capture.prepare = prepare
    with capture:
        (frame,) = (item for item in capture if isinstance(item, Frame))
    assert threads == [source.thread_name] == ["capture:scripted"]
    assert frame.on_grid is not None and frame.on_grid.shape == (1, 2, 3)
