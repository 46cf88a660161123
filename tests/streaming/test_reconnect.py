"""Live sources that are lost and reconnect, on a fake clock."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from streaming.buffer import Item
from streaming.clock import FakeClock
from streaming.errors import LoginRefused, OptionError, SourceError, SourceUnreachable
from streaming.sources.base import WATCH_RETRY, RetryPolicy, SourceOptions
from streaming.sources.pictures import Broken, Damage, DecodedPicture, Event, Undecoded
from streaming.sources.reading import TIMED_OUT
from streaming.sources.reconnect import LiveSource
from streaming.types import Frame, Notice, NoticeKind
from tests.streaming.closing import closed_while_opening

SIZE_PX = (8, 6)


def picture(stamp_s: float | None, size_px: tuple[int, int] = SIZE_PX) -> DecodedPicture:
    return DecodedPicture(stamp_s, 0.0, size_px, lambda: np.zeros((size_px[1], size_px[0], 3), dtype=np.uint8))


class FakeConnection:
    """Plays a script: an event, or seconds that pass before the next."""

    codec = "fake"
    fps_declared = 10.0

    def __init__(
        self,
        clock: FakeClock,
        script: list[Event | float],
        has_timestamps: bool = True,
        is_bursty: bool = False,
        size_px: tuple[int, int] = SIZE_PX,
    ) -> None:
        self._clock = clock
        self._script = script
        self.has_timestamps = has_timestamps
        self.is_bursty = is_bursty
        self.is_finite = False
        self.coded_size_px = size_px
        self.num_closed = 0

    def events(self) -> Iterator[Event]:
        for step in self._script:
            if isinstance(step, float):
                self._clock.advance(step)
            else:
                yield step

    def close(self) -> None:
        self.num_closed += 1


class FakeServer:
    """Returns one scripted connection after another, or raises the error in its place."""

    def __init__(self, *answers: FakeConnection | SourceError) -> None:
        self._answers = list(answers)
        self.given: list[FakeConnection] = []

    def __call__(self) -> FakeConnection:
        answer = self._answers.pop(0) if self._answers else SourceUnreachable("cam", "nobody answers")
        if isinstance(answer, SourceError):
            raise answer
        self.given.append(answer)
        return answer


def watch(server: Callable[[], FakeConnection], clock: FakeClock, **options: object) -> list[Item]:
    options.setdefault("retry", RetryPolicy(max_retries=3, jitter=0.0))
    with LiveSource("cam", server, SourceOptions(**options), clock, random.Random(0)) as source:  # type: ignore[arg-type]
        source.open()
        return list(source.frames())


def steady(clock: FakeClock, num_frames: int, interval_s: float = 0.1, start_s: float = 0.0) -> FakeConnection:
    script: list[Event | float] = []
    for index in range(num_frames):
        script += [picture(start_s + index * interval_s), interval_s]
    return FakeConnection(clock, script)


def labels(items: list[Item]) -> list[str]:
    return ["F" if isinstance(item, Frame) else str(item.kind) for item in items]


def of_kind(items: list[Item], kind: NoticeKind) -> list[Notice]:
    return [item for item in items if isinstance(item, Notice) and item.kind is kind]


def test_a_clean_end_is_a_disconnect_and_frames_go_on_after_it() -> None:
    clock = FakeClock()
    server = FakeServer(steady(clock, 3), SourceUnreachable("cam", "refused"), steady(clock, 2, start_s=500.0))
    items = watch(server, clock)
    assert labels(items)[:9] == ["opened", "F", "F", "F", "reconnecting", "reconnecting", "gap", "F", "F"]
    assert labels(items)[-1] == "ended"
    assert [connection.num_closed for connection in server.given] == [1, 1]
    gap = of_kind(items, NoticeKind.GAP)[0]
    frames = [item for item in items if isinstance(item, Frame)]
    assert gap.details["gap_s"] == pytest.approx(0.1 + 0.5 + 1.0)
    assert gap.pts_s == pytest.approx(0.2)
    assert [frame.pts_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 1.8, 1.9])
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]


def test_attempts_are_bounded_and_delays_grow_to_their_cap() -> None:
    clock = FakeClock()
    retry = RetryPolicy(max_retries=6, first_delay_s=1.0, max_delay_s=10.0, jitter=0.0)
    items = watch(FakeServer(steady(clock, 1)), clock, retry=retry)
    tried = of_kind(items, NoticeKind.RECONNECTING)
    assert [notice.details["delay_s"] for notice in tried] == [1, 2, 4, 8, 10, 10]
    assert [notice.count for notice in tried] == [1, 2, 3, 4, 5, 6]
    assert "nobody answers" in tried[-1].reason
    ended = items[-1]
    assert isinstance(ended, Notice) and ended.kind is NoticeKind.ENDED
    assert ended.details["broken"] is True
    assert ended.details["num_frames"] == 1


def test_a_refused_login_is_tried_slowly() -> None:
    clock = FakeClock()
    refused = LoginRefused("cam", "the server refused this user or password")
    retry = RetryPolicy(max_retries=4, first_delay_s=1.0, login_refused_delay_s=60.0, jitter=0.0)
    server = FakeServer(steady(clock, 1), refused, SourceUnreachable("cam", "no answer"), refused)
    items = watch(server, clock, retry=retry)
    assert [notice.details["delay_s"] for notice in of_kind(items, NoticeKind.RECONNECTING)] == [1, 60, 4, 60]


def test_jitter_spreads_the_delays_within_their_cap() -> None:
    policy, rng = RetryPolicy(first_delay_s=1.0, max_delay_s=4.0, jitter=0.5), random.Random(0)
    first = [policy.delay_s(1, login_refused=False, rng=rng) for _ in range(200)]
    late = [policy.delay_s(100_000, login_refused=False, rng=rng) for _ in range(200)]
    assert 0.5 <= min(first) < 0.6 and 1.4 < max(first) <= 1.5
    assert 3.9 < max(late) <= 4.0 and min(late) < 1.6, "those at the cap stay spread"


def test_a_steady_connection_starts_the_count_of_attempts_anew() -> None:
    clock = FakeClock()
    retry = RetryPolicy(max_retries=2, steady_s=10.0, jitter=0.0)
    answers = [steady(clock, 150) for _ in range(5)]
    items = watch(FakeServer(*answers), clock, retry=retry)
    assert [notice.count for notice in of_kind(items, NoticeKind.RECONNECTING)] == [1, 1, 1, 1, 1, 2]
    flapping = watch(FakeServer(*[steady(clock, 5) for _ in range(5)]), clock, retry=retry)
    assert [notice.count for notice in of_kind(flapping, NoticeKind.RECONNECTING)] == [1, 2]


def test_damage_is_told_at_most_once_a_second_with_its_count() -> None:
    clock = FakeClock()
    script: list[Event | float] = [picture(0.0)]
    for _ in range(30):
        script += [0.1, Damage("bad slice", num_lost=1)]
    script += [picture(3.1)]
    items = watch(FakeServer(FakeConnection(clock, script)), clock, retry=RetryPolicy(max_retries=0))
    told = of_kind(items, NoticeKind.DAMAGED)
    assert 3 <= len(told) <= 4
    assert sum(notice.count for notice in told) == 30
    assert isinstance(items[-1], Notice) and items[-1].details["num_lost"] == 30


def test_a_connection_without_pictures_is_given_up() -> None:
    clock = FakeClock()
    script: list[Event | float] = [picture(0.0)]
    for _ in range(1000):
        script += [1.0, Damage("no key frame", num_lost=1)]
    items = watch(FakeServer(FakeConnection(clock, script)), clock, retry=RetryPolicy(max_retries=1, jitter=0.0))
    assert "no picture could be decoded for 30 s" in of_kind(items, NoticeKind.RECONNECTING)[0].reason
    assert clock.now_s() < 40.0


def test_packets_that_never_give_a_picture_are_given_up() -> None:
    clock = FakeClock()
    script: list[Event | float] = [picture(0.0)]
    for _ in range(1000):
        script += [0.5, Undecoded()]
    options = {"retry": RetryPolicy(max_retries=1, jitter=0.0), "picture_timeout_s": 8.0}
    items = watch(FakeServer(FakeConnection(clock, script)), clock, **options)
    assert "no picture could be decoded for 8 s" in of_kind(items, NoticeKind.RECONNECTING)[0].reason
    assert clock.now_s() < 10.0
    assert not of_kind(items, NoticeKind.DAMAGED)


def test_a_camera_whose_first_key_frame_does_not_come_is_given_up_by_the_limit_that_is_named() -> None:
    clock = FakeClock()
    script: list[Event | float] = [event for _ in range(300) for event in (0.1, Undecoded())]
    connection = FakeConnection(clock, script, size_px=(0, 0))
    items = watch(FakeServer(connection), clock, retry=RetryPolicy(max_retries=0), picture_timeout_s=12.0)
    assert "size not known yet" in of_kind(items, NoticeKind.OPENED)[0].reason
    ended = of_kind(items, NoticeKind.ENDED)[0].reason
    assert "no key frame came within 12 s (picture_timeout_s); raise that" in ended and "lost: " in ended
    assert clock.now_s() == pytest.approx(12.1, abs=0.15)


def test_a_size_that_comes_with_the_first_picture_is_no_change_of_size() -> None:
    clock = FakeClock()
    script: list[Event | float] = [5.0, Undecoded(), 3.0, picture(8.0), 0.1, picture(8.1)]
    items = watch(FakeServer(FakeConnection(clock, script, size_px=(0, 0))), clock, retry=RetryPolicy(max_retries=0))
    assert [item.kind for item in items if isinstance(item, Notice)] == [NoticeKind.OPENED, NoticeKind.ENDED]
    assert sum(isinstance(item, Frame) for item in items) == 2


def test_a_camera_that_falls_silent_is_told_with_the_limit_that_was_passed() -> None:
    clock = FakeClock()
    script: list[Event | float] = [picture(0.0), Broken(TIMED_OUT)]
    options = {"retry": RetryPolicy(max_retries=1), "read_timeout_s": 7.0}
    items = watch(FakeServer(FakeConnection(clock, script)), clock, **options)
    assert "7 s (read_timeout_s)" in of_kind(items, NoticeKind.RECONNECTING)[0].reason


def test_timestamps_at_another_rate_are_a_gap_with_what_was_left_out_and_nothing_is_called_lost() -> None:
    clock = FakeClock()
    script: list[Event | float] = [event for number in range(300) for event in (picture(0.04 * number), 0.1)]
    items = watch(FakeServer(FakeConnection(clock, script)), clock, retry=RetryPolicy(max_retries=0))
    (gap,) = of_kind(items, NoticeKind.GAP)
    assert gap.details["rate"] == pytest.approx(0.4, abs=0.02)
    assert 2.0 < float(gap.details["gap_s"]) < 4.0
    assert f"{gap.details['gap_s']:.1f} s of media time were left out" in gap.reason
    last = [item for item in items if isinstance(item, Frame)][-1]
    assert last.pts_s == pytest.approx(29.9, abs=0.15)
    assert not of_kind(items, NoticeKind.DAMAGED)


def test_a_camera_that_is_not_there_at_first_is_waited_for() -> None:
    clock = FakeClock()
    refused = LoginRefused("cam", "the server refused this user or password")
    server = FakeServer(SourceUnreachable("cam", "refused"), refused, steady(clock, 2))
    source = LiveSource("cam", server, SourceOptions(retry=WATCH_RETRY), clock, random.Random(0))
    info = source.open()
    assert (info.is_live, info.width_px, server.given) == (True, 0, []), "opening does not connect"
    items = []
    for item in source.frames():
        items.append(item)
        if len(items) == 5:
            source.close()
    assert labels(items) == ["reconnecting", "reconnecting", "opened", "F", "F"]
    assert isinstance(items[0], Notice) and items[0].reason.startswith("not there: refused; trying again in ")
    assert isinstance(items[2], Notice) and items[2].details["width_px"] == 8
    assert 5.0 <= clock.waits_s[0] <= 7.5 and 240.0 <= clock.waits_s[1] <= 360.0


def test_a_watched_camera_that_comes_back_after_an_hour_is_seen_again() -> None:
    clock = FakeClock()
    gone = [SourceUnreachable("cam", "no answer")] * 70
    server = FakeServer(steady(clock, 30), *gone, steady(clock, 3, start_s=7.0))
    source = LiveSource("cam", server, SourceOptions(retry=WATCH_RETRY), clock, random.Random(1))
    source.open()
    items = []
    for item in source.frames():
        items.append(item)
        if sum(isinstance(item, Frame) for item in items) == 33:
            source.close()
    delays_s = [float(notice.details["delay_s"]) for notice in of_kind(items, NoticeKind.RECONNECTING)]
    assert len(delays_s) == 71
    assert all(5.0 <= delay_s <= 60.0 for delay_s in delays_s)
    assert len(set(delays_s[-20:])) == 20, "cameras that went together do not come back together"
    gap = of_kind(items, NoticeKind.GAP)[0]
    frames = [item for item in items if isinstance(item, Frame)]
    assert float(gap.details["gap_s"]) > 2700
    assert frames[30].pts_s - frames[29].pts_s == pytest.approx(float(gap.details["gap_s"]), abs=0.2)


def test_a_picture_that_is_too_narrow_is_tried_again_like_a_loss() -> None:
    clock = FakeClock()
    narrow = FakeConnection(clock, [picture(0.0), picture(0.1, (4000, 2)), picture(0.2)])
    items = watch(FakeServer(narrow, steady(clock, 2)), clock)
    assert labels(items)[:6] == ["opened", "F", "reconnecting", "gap", "F", "F"]
    assert "4000 x 2" in of_kind(items, NoticeKind.RECONNECTING)[0].reason


def test_pictures_that_never_came_are_counted() -> None:
    clock = FakeClock()
    script: list[Event | float] = []
    for index in range(60):
        if index not in (30, 31, 45):
            script += [picture(index / 10), 0.1]
    items = watch(FakeServer(FakeConnection(clock, script)), clock, retry=RetryPolicy(max_retries=0))
    told = of_kind(items, NoticeKind.DAMAGED)
    assert sum(notice.count for notice in told) == 3
    assert "never came" in told[0].reason


def test_a_camera_of_uneven_rate_misses_nothing() -> None:
    clock, rng, stamp_s = FakeClock(), random.Random(0), 0.0
    script: list[Event | float] = []
    for _ in range(200):
        stamp_s += rng.choice((0.04, 0.08, 0.2))
        script.append(picture(stamp_s))
    items = watch(FakeServer(FakeConnection(clock, script)), clock, retry=RetryPolicy(max_retries=0))
    assert not of_kind(items, NoticeKind.DAMAGED)


def test_damaged_timestamps_do_not_flood() -> None:
    clock = FakeClock()
    script: list[Event | float] = []
    for index in range(100):
        script += [picture(index / 10 + (5000.0 if index % 2 else 0.0)), 0.1]
    items = watch(FakeServer(FakeConnection(clock, script)), clock, retry=RetryPolicy(max_retries=0))
    told = of_kind(items, NoticeKind.GAP)
    assert 5 <= len(told) <= 11
    assert sum(notice.count for notice in told) >= 85
    stamps_s = [item.pts_s for item in items if isinstance(item, Frame)]
    assert stamps_s == sorted(stamps_s) and stamps_s[-1] < 15.0


def test_why_it_broke_off_is_said() -> None:
    clock = FakeClock()
    script: list[Event | float] = [picture(0.0), Broken("nothing came within the time limit")]
    items = watch(FakeServer(FakeConnection(clock, script)), clock)
    assert "nothing came within the time limit" in of_kind(items, NoticeKind.RECONNECTING)[0].reason


def test_made_up_timestamps_give_way_to_the_time_of_arrival() -> None:
    clock = FakeClock()
    script: list[Event | float] = [picture(0.0), 2.0, picture(0.04), 1.0, picture(0.08)]
    items = watch(FakeServer(FakeConnection(clock, script, has_timestamps=False)), clock)
    assert [item.pts_s for item in items if isinstance(item, Frame)] == [0.0, 2.0, 3.0]


def test_bursts_are_played_in_real_time() -> None:
    clock = FakeClock()
    burst: list[Event | float] = [picture(index / 10) for index in range(60)]
    items = watch(FakeServer(FakeConnection(clock, burst, is_bursty=True)), clock, retry=RetryPolicy(max_retries=0))
    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.captured_at_s for frame in frames] == pytest.approx([index / 10 for index in range(60)])


def test_a_change_of_size_is_told() -> None:
    clock = FakeClock()
    script: list[Event | float] = [picture(0.0), picture(0.1, (6, 8)), picture(0.2, (6, 8))]
    items = watch(FakeServer(FakeConnection(clock, script)), clock)
    assert labels(items)[:5] == ["opened", "F", "grid_changed", "F", "F"]
    assert of_kind(items, NoticeKind.GRID_CHANGED)[0].details["old_width_px"] == 8


def test_sampling_takes_frames_by_media_time_over_connections() -> None:
    clock = FakeClock()
    items = watch(FakeServer(steady(clock, 25), steady(clock, 25)), clock, sample_fps=1.0)
    assert [item.pts_s for item in items if isinstance(item, Frame)] == pytest.approx([0, 1, 2, 3, 4, 5])


def test_closing_while_it_waits_ends_it_without_an_end() -> None:
    clock = FakeClock()
    server = FakeServer(steady(clock, 1))
    source = LiveSource("cam", server, SourceOptions(retry=RetryPolicy(max_retries=None)), clock)
    source.open()
    items = []
    for item in source.frames():
        items.append(item)
        if len(items) == 10:
            source.close()
    assert labels(items) == ["opened", "F", *["reconnecting"] * 8]
    assert server.given[0].num_closed == 1


def test_closing_while_it_reads_releases_the_camera_when_the_read_returns() -> None:
    reading, may_return = threading.Event(), threading.Event()

    class Hanging(FakeConnection):
        def events(self) -> Iterator[Event]:
            reading.set()
            may_return.wait()
            yield picture(0.0)

    connection = Hanging(FakeClock(), [])
    source = LiveSource("cam", FakeServer(connection), SourceOptions(), FakeClock())
    source.open()
    got: list[Item] = []
    reader = threading.Thread(target=lambda: got.extend(source.frames()))
    reader.start()
    reading.wait()
    source.close()
    assert connection.num_closed == 0, "it must not be closed under the reader"
    may_return.set()
    reader.join()
    assert connection.num_closed == 1
    assert "ended" not in labels(got)


class SlowServer(FakeServer):
    """Connects once it may."""

    def __init__(self, *answers: FakeConnection | SourceError) -> None:
        super().__init__(*answers)
        self.connecting, self.may_connect = threading.Event(), threading.Event()

    def __call__(self) -> FakeConnection:
        self.connecting.set()
        self.may_connect.wait()
        return super().__call__()


def test_closing_while_it_is_being_opened_leaves_nothing_open() -> None:
    clock = FakeClock()
    server = SlowServer(steady(clock, 1), steady(clock, 1))
    source = LiveSource("cam", server, SourceOptions(), clock)
    failures = closed_while_opening(source, server.connecting, server.may_connect)
    assert failures == ["it was closed while it was being opened"] and server.given[0].num_closed == 1
    assert source.open().is_live, "it can be opened again"
    source.close()


def test_closing_a_watched_camera_while_it_connects_says_nothing_of_it() -> None:
    clock = FakeClock()
    server = SlowServer(steady(clock, 1))
    source = LiveSource("cam", server, SourceOptions(retry=WATCH_RETRY), clock)
    source.open()
    got: list[Item] = []
    reader = threading.Thread(target=lambda: got.extend(source.frames()))
    reader.start()
    server.connecting.wait()
    source.close()
    server.may_connect.set()
    reader.join()
    assert got == [] and server.given[0].num_closed == 1


def test_a_failed_open_can_be_tried_again() -> None:
    clock = FakeClock()
    server = FakeServer(SourceUnreachable("cam", "refused"), steady(clock, 2))
    source = LiveSource("cam", server, SourceOptions(), clock)
    with pytest.raises(SourceUnreachable, match="refused"):
        source.open()
    with pytest.raises(SourceError, match="not open"):
        next(source.frames())
    assert source.open().is_live
    source.close()


@pytest.mark.parametrize("option", [{"start_s": 1.0}, {"end_s": 1.0}, {"loop": 2}, {"speed": 2.0}])
def test_options_of_recordings_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(option))}=.*live"):
        LiveSource("cam", FakeServer(), SourceOptions(**option))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option",
    [
        {"sample_fps": 0.0},
        {"start_s": -1.0},
        {"start_s": 5.0, "end_s": 5.0},
        {"loop": 0},
        {"speed": 0.0},
        {"open_timeout_s": 0.0},
        {"read_timeout_s": float("nan")},
        {"rtsp_transport": "carrier pigeon"},
    ],
)
def test_bad_options_are_refused_where_they_are_made(option: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        SourceOptions(**option)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [{"max_retries": -1}, {"first_delay_s": -1.0}, {"factor": 0.5}, {"jitter": 1.0}])
def test_bad_retry_policies_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        RetryPolicy(**option)  # type: ignore[arg-type]
