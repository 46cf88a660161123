"""Frames pushed by another thread."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from streaming.buffer import Item
from streaming.clock import FakeClock
from streaming.errors import OptionError, PictureTooNarrow, SourceError
from streaming.sources.base import SourceOptions
from streaming.sources.push import PushSource
from streaming.types import Frame, Notice


def image(level: int = 0, width_px: int = 8) -> np.ndarray:
    return np.full((6, width_px, 3), level, dtype=np.uint8)


def label(item: Item) -> str:
    return f"F{item.image[0, 0, 0]}" if isinstance(item, Frame) else f"{item.kind}{item.count or ''}"


def test_the_newest_frame_wins_and_drops_are_counted() -> None:
    source = PushSource("tab", clock=FakeClock())
    source.open()
    assert all(source.push(image(level)) for level in range(4))
    source.end()
    assert [label(item) for item in source.frames()] == ["opened", "dropped3", "F3", "ended4"]
    assert source.num_dropped == 3
    source.close()


def test_a_reader_that_keeps_up_gets_every_frame_with_its_time() -> None:
    clock = FakeClock(now_s=50.0)
    source = PushSource("tab", clock=clock)
    source.open()
    items = source.frames()
    next(items)
    frames = []
    for number in range(3):
        source.push(image(number), pts_s=1000.0 + 0.5 * number)
        item = next(items)
        assert isinstance(item, Frame)
        frames.append(item)
        clock.advance(0.51)
    assert [frame.pts_s for frame in frames] == [0.0, 0.5, 1.0]
    assert [frame.captured_at_s for frame in frames] == pytest.approx([50.0, 50.51, 51.02])
    assert [frame.index for frame in frames] == [0, 1, 2]
    source.close()


def test_without_a_time_the_time_of_arrival_counts() -> None:
    clock = FakeClock(now_s=50.0)
    source = PushSource("tab", clock=clock)
    source.open()
    items = source.frames()
    next(items)
    source.push(image())
    first = next(items)
    clock.advance(2.5)
    source.push(image())
    second = next(items)
    assert [first.pts_s, second.pts_s] == [0.0, 2.5]
    source.close()


def test_a_sender_that_vanished_ends_the_stream() -> None:
    clock = FakeClock()
    source = PushSource("tab", clock=clock, idle_timeout_s=30.0)
    source.open()
    source.push(image())
    items = list(source.frames())
    assert [label(item) for item in items] == ["opened", "F0", "ended1"]
    assert isinstance(items[-1], Notice) and "nothing came for 30 s" in items[-1].reason
    assert clock.now_s() == 30.0
    source.close()


def test_a_turned_phone_is_told() -> None:
    source = PushSource("tab", clock=FakeClock())
    source.open()
    items = source.frames()
    got = [label(next(items))]
    for width_px in (8, 8, 12):
        source.push(image(width_px=width_px))
        got.append(label(next(items)))
    got.append(label(next(items)))
    assert got == ["opened", "F0", "F0", "grid_changed", "F0"]
    source.close()


def test_sampling_applies() -> None:
    clock = FakeClock()
    source = PushSource("tab", SourceOptions(sample_fps=1.0), clock, idle_timeout_s=0.5)
    source.open()
    times = []
    pushed = 0.0
    source.push(image(), pushed)
    for item in source.frames():
        if isinstance(item, Frame):
            times.append(item.pts_s)
        if isinstance(item, Frame) and pushed < 3:
            pushed += 1.0
            clock.advance(1.0)
            source.push(image(), pushed)
    assert times == [0.0, 1.0, 2.0, 3.0]
    source.close()


def test_closing_wakes_the_reader_and_stops_the_sender() -> None:
    source = PushSource("tab")
    source.open()
    got: list[Item] = []
    reader = threading.Thread(target=lambda: got.extend(source.frames()))
    reader.start()
    source.close()
    reader.join(5.0)
    assert not reader.is_alive()
    assert not source.push(image())
    assert "ended" not in [label(item) for item in got]


def test_before_it_is_open_nothing_is_taken() -> None:
    source = PushSource("tab")
    assert not source.push(image())
    with pytest.raises(SourceError, match="not open"):
        next(source.frames())
    source.open()
    assert source.push(image())
    source.close()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((6, 8), dtype=np.uint8),
        np.zeros((6, 8, 4), dtype=np.uint8),
        np.zeros((6, 8, 3), dtype=np.float32),
        np.zeros((0, 8, 3), dtype=np.uint8),
        None,
    ],
)
def test_what_is_no_image_is_refused(wrong: np.ndarray) -> None:
    with PushSource("tab") as source:
        source.open()
        with pytest.raises(OptionError):
            source.push(wrong)


def test_too_narrow_an_image_and_no_time_are_refused() -> None:
    with PushSource("tab") as source:
        source.open()
        with pytest.raises(PictureTooNarrow):
            source.push(np.zeros((1, 201, 3), dtype=np.uint8))
        with pytest.raises(OptionError):
            source.push(image(), pts_s=float("nan"))
    with pytest.raises(OptionError):
        PushSource("tab", idle_timeout_s=0.0)
