"""The host: everyone gets a turn, nobody another's trouble, and overload lowers all rates alike."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.serving.contracts import CapacityExceeded, ModelState, ModelUnavailable
from assistant.serving.model_faults import ModelBroken, breaks_the_process
from assistant.serving.scheduler import Scheduler
from models.errors import SettingsError
from models.session.steps import Job, Steps
from streaming.clock import FakeClock
from tests.assistant.host_fakes import SESSION_BYTES, FakeModelEngine, FakeServedStream, passes, saying, turn_until


class Stage:
    def __init__(self, *seats: FakeServedStream, forward_s: float = 0.01, **options: int) -> None:
        self.clock = FakeClock()
        self.engine = FakeModelEngine(self.clock, forward_s)
        self.host = Scheduler(lambda: self.engine, clock=self.clock, **options)
        self.order: list[str] = []
        for seat in seats:
            self.host.attach(seat)
        self.host.open()

    def turns(self, number: int) -> list[bool]:
        return [self.host.turn() for _ in range(number)]


class Noted(FakeServedStream):
    """Notes each of its forward passes in a common list."""

    def noting(self, order: list[str], number: int, times: int = 1) -> Noted:
        def job():
            for request in passes(number):
                yield request
                order.append(self.name)

        self.jobs.extend(job() for _ in range(times))
        return self


@given(sizes=st.lists(st.integers(1, 7), min_size=2, max_size=6))
def test_between_two_passes_of_one_there_is_one_of_each_other_at_most(sizes: list[int]) -> None:
    order: list[str] = []
    seats = [Noted(str(number)).noting(order, size, times=20) for number, size in enumerate(sizes)]
    Stage(*seats).turns(40)
    for seat in seats:
        places = [place for place, name in enumerate(order) if name == seat.name]
        for first, second in pairwise(places):
            between = order[first + 1 : second]
            assert len(between) == len(set(between)), f"{seat.name} waited for {between}"


def test_one_who_floods_does_not_starve_another_nor_submitted_work() -> None:
    flooding, quiet = FakeServedStream("flooding", always=50), FakeServedStream("quiet", jobs=deque([passes(3)]))
    stage = Stage(flooding, quiet)
    future = stage.host.submit(lambda engine: passes(4, "done"))
    stage.turns(5)
    assert [job.done for job in quiet.settled] == [True]
    assert future.result(0) == "done"


def test_what_goes_wrong_in_one_job_is_that_jobs_own() -> None:
    bad, good = (
        FakeServedStream("bad", jobs=deque([passes(1), passes(1)])),
        FakeServedStream("good", jobs=deque([passes(2)])),
    )
    stage = Stage(bad, good)
    stage.engine.failing.append(MemoryError("no room"))
    stage.turns(3)
    assert [type(job.error) for job in bad.settled] == [MemoryError, type(None)]
    assert [job.error for job in good.settled] == [None]
    assert stage.host.state is ModelState.READY


def test_one_over_the_memory_is_refused_with_what_would_fit_and_has_room_later() -> None:
    seats = [FakeServedStream(str(number)) for number in range(3)]
    stage = Stage(*seats, max_memory_bytes=2 * SESSION_BYTES + 1)
    stage.turns(1)
    assert [seat.failure for seat in seats[:2]] == [None, None]
    assert isinstance(seats[2].failure, CapacityExceeded) and seats[2].has_left
    assert "10.0 MiB" in str(seats[2].failure) and "2 such streams fit in all, 0 beside" in str(seats[2].failure)
    assert stage.host.reserved_bytes == 2 * SESSION_BYTES
    seats[0].is_over = True
    stage.turns(1)
    again = FakeServedStream("again")
    stage.host.attach(again)
    stage.turns(1)
    assert again.failure is None and seats[0].has_left


def test_a_session_may_come_to_take_more_where_there_is_room() -> None:
    seats = [FakeServedStream(str(number)) for number in range(2)]
    stage = Stage(*seats, max_memory_bytes=3 * SESSION_BYTES)
    stage.turns(1)
    stage.engine.bytes_a_session = 2 * SESSION_BYTES
    stage.host.reserve(seats[0], stage.engine.stream)
    assert stage.host.reserved_bytes == 3 * SESSION_BYTES
    with pytest.raises(CapacityExceeded, match="20.0 MiB, and 10.0 MiB of 30.0 MiB are free"):
        stage.host.reserve(seats[1], stage.engine.stream)
    assert stage.host.reserved_bytes == 3 * SESSION_BYTES


def test_more_channels_than_are_wanted_are_refused_at_once() -> None:
    stage = Stage(FakeServedStream(), max_channels=1)
    with pytest.raises(CapacityExceeded, match="at most 1"):
        stage.host.attach(FakeServedStream("another"))


def test_a_session_that_cannot_be_opened_fails_its_channel_alone() -> None:
    bad, good = (
        FakeServedStream("bad", refuses=CapacityExceeded("too small a window")),
        FakeServedStream("good", always=1),
    )
    stage = Stage(bad, good)
    stage.turns(2)
    assert str(bad.failure) == "too small a window" and bad.has_left and good.failure is None
    assert stage.host.streams == (good,)


def test_overload_lowers_every_rate_and_raises_it_again() -> None:
    busy, idle = FakeServedStream("busy", always=1), FakeServedStream("idle")
    stage = Stage(busy, idle, forward_s=0.5)
    stage.turns(60)
    assert busy.rates[:2] == [0.5, 0.25] and idle.rates == busy.rates
    busy.always = 0
    for _ in range(400):
        stage.host.turn()
        stage.clock.advance(1.0)
    assert stage.host.rate_factor == 1.0 and busy.rates[-1] == 1.0


def test_a_recording_played_as_fast_as_it_goes_is_no_overload() -> None:
    stage = Stage(FakeServedStream("recording", is_live=False, always=1), FakeServedStream("camera"), forward_s=0.5)
    stage.turns(200)
    assert stage.host.rate_factor == 1.0


def test_frames_that_come_too_fast_have_all_endedload_too() -> None:
    seat = FakeServedStream("camera", counts=(1, 1), always=1)
    stage = Stage(seat, forward_s=0.001)
    for _ in range(30):
        stage.host.turn()
        stage.clock.advance(1.0)
    assert seat.rates and seat.rates[0] == 0.5


def test_a_step_that_hangs_is_told_once_and_so_is_its_end() -> None:
    seat = FakeServedStream("camera", always=1)
    stage = Stage(seat)
    states = []

    def hang() -> None:
        stage.engine.on_step = lambda: None
        stage.host.look_for_stall()
        stage.clock.advance(31)
        stage.host.look_for_stall()
        stage.host.look_for_stall()
        states.append(stage.host.state)

    stage.engine.on_step = hang
    stage.turns(2)
    assert seat.stalls == [31.0, None]
    assert states == [ModelState.STALLED] and stage.host.state is ModelState.READY


def test_submitted_work_says_its_pieces_and_raises_what_went_wrong() -> None:
    stage = Stage()
    pieces: list[str] = []
    said = stage.host.submit(lambda engine: saying("a", "b"), pieces.append)
    failed = stage.host.submit(lambda engine: passes(1))
    cancelled = stage.host.submit(lambda engine: passes(1))
    cancelled.cancel()
    turn_until(stage.host, said.done)
    stage.engine.failing.append(MemoryError("no room"))
    stage.turns(3)
    assert said.result(0) == "a b" and pieces == ["a", "b"]
    assert isinstance(failed.exception(0), MemoryError) and cancelled.cancelled()


def test_a_listener_or_a_channel_that_raises_takes_nobody_with_it() -> None:
    class Raising(FakeServedStream):
        def on_done(self, job: Job[Any]) -> None:
            raise RuntimeError("a bug of its own")

    bad, good = Raising("bad", jobs=deque([passes(1)])), FakeServedStream("good", jobs=deque([passes(3)]))
    stage = Stage(bad, good)

    def refuse(piece: str) -> None:
        raise OSError("the listener has gone")

    def unable(engine: object) -> Steps[str]:
        raise ValueError("no such work")

    spoken, unmade = stage.host.submit(lambda engine: saying("word"), refuse), stage.host.submit(unable)
    stage.turns(4)
    assert spoken.result(0) == "word", "what was said is there, though one who listened has gone"
    assert isinstance(unmade.exception(0), ValueError)
    assert bad.has_left and isinstance(bad.failure, RuntimeError)
    assert [job.done for job in good.settled] == [True]
    assert stage.host.state is ModelState.READY


class FaultySeat(FakeServedStream):
    """Raises whatever it is told or asked."""

    def fail(self, error: BaseException) -> None:
        raise RuntimeError("a bug of its own")

    def detach(self) -> None:
        self.has_left = True
        raise RuntimeError("a bug of its own")

    def take_counts(self) -> tuple[int, int]:
        raise RuntimeError("a bug of its own")

    def set_rate(self, change: Any) -> None:
        raise RuntimeError("a bug of its own")

    def stalled(self, seconds: float | None) -> None:
        raise RuntimeError("a bug of its own")


def test_one_channel_that_raises_whatever_it_is_told_costs_the_others_nothing() -> None:
    bad, good = FaultySeat("bad", always=1), FakeServedStream("good", always=1)
    stage = Stage(bad, good, forward_s=0.5)

    def hang() -> None:
        stage.engine.on_step = lambda: None
        stage.clock.advance(31)
        stage.host.look_for_stall()

    stage.engine.on_step = hang
    stage.turns(60)
    assert good.stalls == [31.5, None] or good.stalls == [31.0, None]
    assert good.rates, "the others are told of the rate"
    bad.refuses = CapacityExceeded("too small a window")
    stage.host.detach(bad, 0.0)
    stage.host.attach(bad)
    stage.turns(2)
    assert bad.has_left and stage.host.streams == (good,)
    stage.host.stop()
    assert good.has_left and stage.host.state is ModelState.STOPPED


def test_a_step_that_raises_out_of_the_engine_is_not_taken_for_one_that_hangs() -> None:
    def raise_() -> None:
        raise RuntimeError("a bug of its own")

    stage = Stage(FakeServedStream("camera", always=1))
    stage.engine.on_step = raise_
    stage.turns(1)
    stage.clock.advance(60)
    assert stage.host.state is ModelState.READY


def test_a_channel_let_go_of_during_its_pass_is_left_alone_after_it() -> None:
    leaving, other = FakeServedStream("leaving", jobs=deque([passes(2)])), FakeServedStream("other", always=1)
    stage = Stage(leaving, other)

    def let_go() -> None:
        stage.engine.on_step = lambda: None
        stage.host.detach(leaving, 0.0)

    stage.turns(1)
    stage.engine.on_step = let_go
    stage.turns(3)
    assert leaving.has_left and leaving.failure is None and not leaving.settled
    assert stage.host.streams == (other,)


ONE_PROCESS = [
    "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: device-side assert triggered",
    "CUDA error: unspecified launch failure",
    "CUDA error: uncorrectable ECC error encountered",
    "HIP error: the launch timed out and was terminated",
]


@pytest.mark.parametrize("text", ONE_PROCESS)
def test_an_error_that_only_a_new_process_heals_ends_the_model_at_once(text: str) -> None:
    door, yard = FakeServedStream("door", jobs=deque([passes(2)])), FakeServedStream("yard", always=1)
    stage = Stage(door, yard)
    stage.engine.failing.append(RuntimeError(text))
    with pytest.raises(ModelBroken, match="only a new process heals this; start the program again") as caught:
        stage.turns(3)
    assert "\n" not in str(caught.value) and [type(job.error) for job in door.settled] == [RuntimeError]


def test_an_error_of_the_device_is_known_by_its_number_and_from_what_it_caused() -> None:
    numbered = RuntimeError("CUDA error: something new")
    numbered.error_code = 719  # type: ignore[attr-defined]
    caused = ValueError("the answer could not be closed")
    caused.__context__ = RuntimeError(ONE_PROCESS[0])
    assert breaks_the_process(numbered) and breaks_the_process(caused)
    assert not breaks_the_process(RuntimeError("CUDA error: out of memory"))
    assert not breaks_the_process(RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling cublasCreate"))
    assert not breaks_the_process(ValueError("illegal memory access, says a caption"))


def test_faults_in_a_row_over_all_channels_end_the_model() -> None:
    seats = [FakeServedStream(str(number), always=1) for number in range(4)]
    stage = Stage(*seats, most_faults=6)
    stage.engine.failing.extend(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED") for _ in range(6))
    with pytest.raises(ModelBroken, match="6 steps of the model in a row went wrong .* at most 5 may"):
        stage.turns(2)


def test_faults_between_which_something_works_go_on_and_so_do_refusals() -> None:
    bad, good, still = (
        FakeServedStream("bad", always=1),
        FakeServedStream("good", always=1),
        FakeServedStream("still", always=0),
    )
    stage = Stage(bad, good, still, most_faults=3)
    for _ in range(20):
        stage.engine.failing.append(MemoryError("no room"))
        stage.turns(1)
    stage.engine.failing.extend(SettingsError("fps 5: lower it") for _ in range(8))
    stage.turns(4)
    assert stage.host.streams == (bad, good, still)


def test_a_still_picture_that_needs_no_pass_heals_nothing() -> None:
    class Alternating(FakeServedStream):
        """A job with a pass, then one without."""

        def next_job(self) -> Job[Any]:
            return Job(passes(len(self.settled) % 2 == 0))

    stage = Stage(Alternating("camera"), most_faults=3)
    stage.engine.failing.extend(MemoryError("no room") for _ in range(3))
    with pytest.raises(ModelBroken, match="3 steps"):
        stage.turns(6)


def test_what_somebody_submitted_counts_only_where_it_breaks_the_process() -> None:
    stage = Stage(most_faults=2)
    for _ in range(4):
        stage.engine.failing.append(MemoryError("no room for so large a clip"))
        failed = stage.host.submit(lambda engine: passes(1))
        stage.turns(1)
        assert isinstance(failed.exception(0), MemoryError)
    stage.engine.failing.append(RuntimeError(ONE_PROCESS[0]))
    failed = stage.host.submit(lambda engine: passes(1))
    with pytest.raises(ModelBroken):
        stage.turns(1)
    assert isinstance(failed.exception(0), RuntimeError)


def test_a_broken_model_fails_every_channel_and_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeModelEngine(FakeClock())
    engine.failing.append(RuntimeError(ONE_PROCESS[0]))
    host, seats = (
        Scheduler(lambda: engine),
        [FakeServedStream("door", jobs=deque([passes(1)])), FakeServedStream("yard")],
    )
    for seat in seats:
        host.attach(seat)
    host.start()
    for thread in host._threads:
        thread.join(10)
    assert host.state is ModelState.FAILED and isinstance(host.failure, ModelBroken) and engine.is_closed
    assert all(seat.has_left and isinstance(seat.failure, ModelBroken) for seat in seats)
    with pytest.raises(ModelUnavailable, match="only a new process"):
        host.submit(lambda engine: passes(1))


def test_a_model_that_does_not_load_fails_all_who_wait() -> None:
    def load() -> FakeModelEngine:
        raise MemoryError("no room for the weights")

    host, seat = Scheduler(load), FakeServedStream()
    host.attach(seat)
    waiting = host.submit(lambda engine: passes(1))
    host.start()
    assert host.stop()
    assert host.state is ModelState.FAILED and isinstance(host.failure, MemoryError)
    assert isinstance(seat.failure, MemoryError) and seat.has_left and waiting.cancelled()
    with pytest.raises(ModelUnavailable):
        host.attach(FakeServedStream())
    with pytest.raises(ModelUnavailable):
        host.submit(lambda engine: passes(1))
    with pytest.raises(ModelUnavailable, match="failed"):
        host.describe()


def test_a_host_serves_on_threads_of_its_own_and_leaves_none_behind() -> None:
    before = threading.active_count()
    engine = FakeModelEngine(FakeClock())
    host, seat = Scheduler(lambda: engine), FakeServedStream("camera", jobs=deque([passes(3)]))
    host.start()
    host.attach(seat)
    future = host.submit(lambda engine: passes(2, "done"))
    assert future.result(10) == "done"
    assert host.describe().name == "fake"
    seat.is_over = True
    assert host.detach(seat) and seat.has_left and host.streams == ()
    assert host.stop() and host.state is ModelState.STOPPED and engine.is_closed
    assert threading.active_count() == before


def test_a_round_is_one_step_of_the_engine_for_all() -> None:
    seats = [FakeServedStream(str(number), always=3) for number in range(3)]
    stage, steps = Stage(*seats, FakeServedStream("idle")), []
    future = stage.host.submit(lambda engine: passes(2, "done"))
    step = stage.engine.step

    def counted(jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        steps.append(len(jobs))
        return step(jobs)

    stage.engine.step = counted  # type: ignore[method-assign]
    stage.turns(4)
    assert steps == [4, 4, 3, 3] and future.result(0) == "done"


def test_submitted_work_in_a_step_with_cameras_is_no_overload_of_theirs() -> None:
    camera = FakeServedStream("camera", always=1)
    stage = Stage(camera, forward_s=0.2)
    for _ in range(60):
        if not stage.host._work:
            stage.host.submit(lambda engine: passes(4))
        stage.host.turn()
        stage.clock.advance(0.4)
    assert stage.host.busy_s > 20 and stage.host.rate_factor == 1.0
