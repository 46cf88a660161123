"""Memory that a host hands out: to cameras and to questions alike, within what was said or what the device has."""

from __future__ import annotations

import pytest

from assistant.serving.contracts import CapacityExceeded
from assistant.serving.memory_budget import MemoryNeed
from assistant.serving.scheduler import Scheduler
from assistant.serving.work_queue import MOST_WORK
from assistant.stream.question_queue import TooManyQuestions
from streaming.clock import FakeClock
from tests.assistant.host_fakes import SESSION_BYTES, FakeModelEngine, FakeServedStream, passes
from tests.assistant.test_scheduler import Stage


def test_a_question_about_files_is_counted_while_it_is_answered() -> None:
    seat = FakeServedStream("camera")
    stage = Stage(seat, max_memory_bytes=2 * SESSION_BYTES)
    stage.turns(1)
    future = stage.host.submit(
        lambda engine: passes(3, "done"), size=lambda engine: MemoryNeed(engine.ask_bytes("What?"))
    )
    stage.turns(1)
    assert stage.host.reserved_bytes == 2 * SESSION_BYTES
    late = FakeServedStream("late")
    stage.host.attach(late)
    stage.turns(1)
    assert isinstance(late.failure, CapacityExceeded)
    stage.turns(3)
    assert future.result(0) == "done" and stage.host.reserved_bytes == SESSION_BYTES


def test_the_largest_step_is_counted_once_beside_what_all_keep() -> None:
    engine = FakeModelEngine(FakeClock(), bytes_a_step=SESSION_BYTES // 2)
    host = Scheduler(lambda: engine, clock=engine.clock, max_memory_bytes=3 * SESSION_BYTES)
    seats = [FakeServedStream(name) for name in "abc"]
    for seat in seats:
        host.attach(seat)
    host.open()
    host.turn()
    assert host.reserved_bytes == 2 * SESSION_BYTES + SESSION_BYTES // 2
    assert [seat.name for seat in seats if seat.failure is not None] == ["c"]
    assert "5.0 MiB of 30.0 MiB are free, and 5.0 MiB are set aside for a step of the model" in str(seats[2].failure)
    assert "2 such streams fit in all, 0 beside those that run" in str(seats[2].failure)
    larger = MemoryNeed(SESSION_BYTES // 4, SESSION_BYTES)
    refused = host.submit(lambda engine: passes(1), size=lambda engine: larger)
    host.turn()
    with pytest.raises(CapacityExceeded, match="10.0 MiB are set aside"):
        refused.result(0)


def test_a_question_that_does_not_fit_is_refused_with_what_is_free() -> None:
    stage = Stage(FakeServedStream("camera"), max_memory_bytes=SESSION_BYTES + 5)
    stage.turns(1)
    future = stage.host.submit(lambda engine: passes(1), size=lambda engine: MemoryNeed(SESSION_BYTES))
    after = stage.host.submit(lambda engine: passes(1, "small"))
    stage.turns(3)
    with pytest.raises(CapacityExceeded, match="a question about files: .* 10.0 MiB, and 0.0 MiB of 10.0 MiB are free"):
        future.result(0)
    assert after.result(0) == "small" and stage.host.reserved_bytes == SESSION_BYTES


def test_what_waits_for_the_model_is_bounded() -> None:
    stage = Stage()
    futures = [stage.host.submit(lambda engine: passes(1, "done")) for _ in range(MOST_WORK)]
    with pytest.raises(TooManyQuestions, match=f"{MOST_WORK} questions wait"):
        stage.host.submit(lambda engine: passes(1))
    stage.turns(MOST_WORK + 1)
    assert all(future.result(0) == "done" for future in futures)
    stage.host.submit(lambda engine: passes(1))


@pytest.mark.parametrize(("given", "refused"), [(None, ["c"]), (3 * SESSION_BYTES, []), (SESSION_BYTES, ["b", "c"])])
def test_the_limit_is_the_devices_own_where_none_was_given(given: int | None, refused: list[str]) -> None:
    engine = FakeModelEngine(FakeClock(), memory_limit=2 * SESSION_BYTES + 7)
    host = Scheduler(lambda: engine, clock=engine.clock, max_memory_bytes=given)
    seats = [FakeServedStream(name) for name in "abc"]
    for seat in seats:
        host.attach(seat)
    host.open()
    host.turn()
    assert [seat.name for seat in seats if isinstance(seat.failure, CapacityExceeded)] == refused
    if given is None:
        assert "raise --max-memory, free memory of the device" in str(seats[2].failure)
