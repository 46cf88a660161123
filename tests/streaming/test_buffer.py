"""Queues between threads: `LatestFrame` counts the frames it drops, `FrameQueue` drops none."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.buffer import FrameQueue, HandOver, Item, LatestFrame
from streaming.clock import FakeClock
from streaming.errors import OptionError
from streaming.types import Frame, Notice, NoticeKind

IMAGE = np.zeros((2, 2, 3), dtype=np.uint8)


def frame(index: int) -> Frame:
    return Frame(IMAGE, index, index / 10, 0.0, "cam")


def notice(number: int, kind: NoticeKind = NoticeKind.GAP) -> Notice:
    return Notice(kind, "cam", 0.0, f"number {number}", number)


def drain(buffer: HandOver) -> list[Item]:
    items = []
    while (item := buffer.get(0.0)) is not None:
        items.append(item)
    return items


def label(item: Item) -> str:
    return f"F{item.index}" if isinstance(item, Frame) else f"{item.kind}{item.count}"


def test_newest_frame_wins_and_the_others_are_counted() -> None:
    buffer = LatestFrame(FakeClock())
    for index in range(5):
        buffer.put(frame(index))
    assert [label(item) for item in drain(buffer)] == ["dropped4", "F4"]
    assert buffer.num_dropped == 4


def test_a_reader_that_keeps_up_loses_nothing() -> None:
    buffer = LatestFrame(FakeClock())
    got = []
    for index in range(5):
        buffer.put(frame(index))
        got += drain(buffer)
    assert [label(item) for item in got] == ["F0", "F1", "F2", "F3", "F4"]


def test_notices_keep_their_place_among_the_frames() -> None:
    buffer = LatestFrame(FakeClock())
    for item in (notice(1), frame(0), notice(2), frame(1), notice(3)):
        buffer.put(item)
    assert [label(item) for item in drain(buffer)] == ["gap1", "gap2", "dropped1", "F1", "gap3"]


def test_drops_are_told_at_most_once_a_second_and_before_the_end() -> None:
    clock = FakeClock()
    buffer = LatestFrame(clock)
    told = []
    for index in range(0, 40, 2):
        buffer.put(frame(index))
        buffer.put(frame(index + 1))
        told += [item for item in drain(buffer) if isinstance(item, Notice)]
        clock.advance(0.125)
    assert [item.count for item in told] == [1, 8, 8]
    buffer.put(notice(0, NoticeKind.ENDED))
    assert [label(item) for item in drain(buffer)] == ["dropped3", "ended0"]
    assert buffer.num_dropped == 20


def test_the_last_drops_are_told_before_the_end() -> None:
    buffer = LatestFrame(FakeClock())
    for index in range(3):
        buffer.put(frame(index))
    assert [label(item) for item in drain(buffer)] == ["dropped2", "F2"]
    for index in range(3, 6):
        buffer.put(frame(index))
    buffer.put(notice(0, NoticeKind.ENDED))
    buffer.finish()
    assert [label(item) for item in drain(buffer)] == ["F5", "dropped2", "ended0"]
    assert buffer.is_drained


def test_drops_are_told_even_where_the_end_is_not() -> None:
    buffer = LatestFrame(FakeClock())
    items = []
    for index in range(6):
        buffer.put(frame(index))
        if index in (1, 4, 5):
            items += drain(buffer)
    buffer.finish()
    items += drain(buffer)
    assert [label(item) for item in items] == ["dropped1", "F1", "F4", "F5", "dropped2"]
    assert buffer.num_dropped == 3
    assert buffer.is_drained


@given(script=st.lists(st.sampled_from(["frame", "notice", "get", "wait"]), max_size=80))
def test_every_item_is_got_or_counted(script: list[str]) -> None:
    clock = FakeClock()
    buffer = LatestFrame(clock)
    put: list[Item] = []
    got: list[Item] = []
    for step in script:
        if step == "frame":
            put.append(frame(len(put)))
            buffer.put(put[-1])
        elif step == "notice":
            put.append(notice(len(put)))
            buffer.put(put[-1])
        elif step == "wait":
            clock.advance(0.6)
        elif (item := buffer.get(0.0)) is not None:
            got.append(item)
    buffer.finish()
    got += drain(buffer)
    num_told = sum(item.count for item in got if isinstance(item, Notice) and _is_drop(item))
    others = [item for item in got if not _is_drop(item)]
    num_frames = sum(isinstance(item, Frame) for item in put)
    assert [item for item in others if isinstance(item, Notice)] == [item for item in put if isinstance(item, Notice)]
    assert sum(isinstance(item, Frame) for item in others) + num_told == num_frames
    indices = [item.index for item in others if isinstance(item, Frame)]
    assert indices == sorted(indices)
    if num_frames:
        assert indices[-1] == max(item.index for item in put if isinstance(item, Frame))


def _is_drop(item: Item) -> bool:
    return isinstance(item, Notice) and item.kind is NoticeKind.DROPPED


def test_get_gives_up_after_its_limit() -> None:
    for buffer in (LatestFrame(clock := FakeClock()), FrameQueue(2, clock)):
        assert buffer.get(0.5) is None
        assert not buffer.is_drained
    assert clock.waits_s == [0.5, 0.5]


def test_a_queue_makes_its_writer_wait_and_drops_nothing() -> None:
    queue = FrameQueue(max_items=2)
    progress: list[int] = []

    def write() -> None:
        for index in range(50):
            assert queue.put(frame(index))
            progress.append(index)
        queue.finish()

    writer = threading.Thread(target=write)
    writer.start()
    got: list[str] = []
    while (item := queue.get()) is not None:
        assert len(progress) <= len(got) + 4
        got.append(label(item))
    writer.join()
    assert got == [f"F{index}" for index in range(50)]
    assert queue.is_drained
    assert queue.num_dropped == 0


@pytest.mark.parametrize("make", [lambda: FrameQueue(1), LatestFrame])
def test_cancel_wakes_the_writer_and_the_reader(make: type[LatestFrame]) -> None:
    buffer = make()
    results: list[object] = []

    def write() -> None:
        number = 0
        while buffer.put(notice(number)):
            number += 1
        results.append("writer")

    def read() -> None:
        while buffer.get() is not None:
            pass
        results.append("reader")

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    buffer.cancel()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["reader", "writer"]
    assert buffer.is_drained


def test_a_writer_of_notices_waits_before_they_fill_the_memory() -> None:
    buffer = LatestFrame()
    num_put = 0

    def write() -> None:
        nonlocal num_put
        while buffer.put(notice(num_put)):
            num_put += 1

    writer = threading.Thread(target=write)
    writer.start()
    first = [buffer.get() for _ in range(300)]
    buffer.cancel()
    writer.join()
    assert [item.count for item in first if isinstance(item, Notice)] == list(range(300))
    assert num_put <= 300 + 256


def test_a_queue_of_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="max_items=0"):
        FrameQueue(0)
