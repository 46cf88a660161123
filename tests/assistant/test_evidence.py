"""An event finds the pictures that it was made from, and they take bounded room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from assistant.events import Alert, StatusEvent, StatusKind
from assistant.evidence import EvidenceKeeper
from streaming.clock import FakeClock
from streaming.thumbnails import encode_jpeg
from tests.assistant.timelines import frame, gap, keeper_with, noon, remark

CELLS = np.array([True, False, True, False, False, False])
OLD = np.array([False, False, True, False, False, False])


def test_a_frame_is_kept_small_with_its_times_and_cells() -> None:
    keeper = EvidenceKeeper()
    keeper.add(frame(3, level=200), CELLS, OLD, 1_000.0, rows=2, cols=3)
    (kept,) = keeper.around(1.5, 0, 0)
    assert (kept.frame_index, kept.time_s, kept.wall_s) == (3, 1.5, 1_000.0)
    assert kept.cells() == "#.r\n..."
    assert abs(int(kept.image()[20, 50, 0]) - 200) < 8 and kept.image().shape == (48, 64, 3)


def test_a_picture_that_the_capture_thread_encoded_is_not_encoded_again() -> None:
    keeper = EvidenceKeeper()
    thumbnail = encode_jpeg(np.zeros((12, 16, 3), np.uint8))
    keeper.add(replace(frame(0), thumbnail=thumbnail), CELLS, OLD, 0.0, rows=2, cols=3)
    assert keeper.around(0, 0, 0)[0].picture is thumbnail


def test_later_changes_of_the_masks_do_not_reach_what_is_kept() -> None:
    keeper, cells = EvidenceKeeper(), CELLS.copy()
    keeper.add(frame(0), cells, OLD, 0.0, rows=2, cols=3)
    cells[:] = False
    assert keeper.around(0, 0, 0)[0].cells() == "#.r\n..."


def test_an_event_shows_its_frame_and_those_a_second_apart_before_it() -> None:
    keeper = keeper_with(20, noon())
    assert [f.frame_index for f in keeper.for_event(remark(11))] == [7, 9, 11]
    assert [f.frame_index for f in keeper.for_event(remark(0))] == [0]
    assert [f.frame_index for f in keeper.for_event(remark(11), most=1)] == [11]


def test_an_alert_shows_the_frames_that_decided() -> None:
    keeper = keeper_with(10, FakeClock())
    raised = Alert(source="c", time_s=4.0, text="Dark.", frame_index=8, hits=((1.0, 0.9), (3.5, 0.9), (4.0, 0.9)))
    assert [frame.time_s for frame in keeper.for_event(raised)] == [1.0, 3.5, 4.0]


def test_an_event_without_a_frame_number_shows_the_last_frame_before_it() -> None:
    keeper = keeper_with(8, noon())
    assert keeper.for_event(gap(3.1, 60.0))[-1].frame_index == 6
    assert keeper.for_event(gap(-1.0, 60.0)) == ()


def test_events_about_the_memory_show_nothing() -> None:
    evicted = StatusEvent(source="cam", time_s=1.0, text="", kind=StatusKind.EVICTED, frame_index=2)
    assert keeper_with(8, noon()).for_event(evicted) == ()


def test_frames_are_found_by_a_span_of_time() -> None:
    keeper = keeper_with(20, FakeClock())
    assert [f.frame_index for f in keeper.around(5.0, 1.0, 0.5)] == [8, 9, 10, 11]
    assert keeper.around(100.0, 1.0, 1.0) == ()


def test_room_and_time_are_bounded() -> None:
    keeper = EvidenceKeeper(kept_s=10.0, most_bytes=1 << 20)
    for index in range(100):
        keeper.add(frame(index), CELLS, OLD, index / 2, rows=2, cols=3)
    assert [keeper.around(50, 100, 100)[0].frame_index, len(keeper.around(50, 100, 100))] == [79, 21]
    size = keeper.num_bytes // 21
    small = EvidenceKeeper(most_bytes=5 * size + 10)
    for index in range(100):
        small.add(frame(index), CELLS, OLD, index / 2, rows=2, cols=3)
    assert small.num_bytes <= 5 * size + 10 and 4 <= len(small.around(50, 100, 100)) <= 6
    small.clear()
    assert small.num_bytes == 0 and small.around(50, 100, 100) == ()


def test_a_recording_that_is_played_anew_shows_its_newest_frames() -> None:
    keeper = keeper_with(8, noon())
    keeper.add(frame(2, level=220), CELLS, OLD, 99.0, rows=2, cols=3)
    assert keeper.for_event(remark(2))[-1].wall_s == 99.0
