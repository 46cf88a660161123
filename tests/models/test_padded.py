"""Padded steps, which CUDA graphs hold, give what unpadded passes give, and slots of a pool stay where they are."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from models.checkpoint.loader import Checkpoint
from models.engine import Engine
from models.errors import LogitsError
from models.network.decoder import Segment
from models.network.graphs import Replay, StepGraphs
from models.network.network import Network
from models.network.padded import StepBuffers, padded_step
from models.network.pool import PooledSlot
from models.network.slots import Slot
from models.session.steps import Job
from models.session.token_sampling import SamplingSettings, TokenSampler
from tests.models.streams import check_whole, frame, picture, small_settings, watch

ROOM = 700


@pytest.fixture(autouse=True)
def _as_the_engine_runs() -> Iterator[None]:
    with torch.inference_mode():
        yield


def as_it_is(step: Replay) -> Replay:
    """A capture that runs the step itself."""
    return step


def pooled(checkpoint: Checkpoint, num_slots: int = 5, capture: Callable[[Replay], Replay] = as_it_is) -> Network:
    network = Network(checkpoint.model)
    list(network.reserve(num_slots, ROOM, capture))
    return network


def filled(network: Network, num_tokens: int, seed: int) -> Slot:
    """A slot with random tokens."""
    slot = network.new_slot(ROOM)
    ids = torch.randint(0, 400, (num_tokens,), generator=torch.Generator().manual_seed(seed)).tolist()
    if ids:
        network.logits([Segment(slot, network.embed(ids), ())])
    return slot


def one(network: Network, slot: Slot, token: int) -> Segment:
    return Segment(slot, network.embed([token]), (0,))


@pytest.mark.parametrize("lengths", [[0], [1, 300], [511, 3, 90], [512, 600, 0, 17], [650, 1, 2, 3, 4]])
def test_padding_changes_nothing(checkpoint: Checkpoint, lengths: list[int]) -> None:
    """Rows padded to buckets of sessions, keys to buckets of lengths, over several steps."""
    network, plain = pooled(checkpoint), Network(checkpoint.model)
    slots = [filled(network, length, seed) for seed, length in enumerate(lengths)]
    others = [filled(plain, length, seed) for seed, length in enumerate(lengths)]
    for step in range(4):
        tokens = [(7 * step + number) % 400 for number in range(len(lengths))]
        chosen = network.next_tokens([one(network, slot, token) for slot, token in zip(slots, tokens, strict=True)])
        expected = plain.logits([one(plain, slot, token) for slot, token in zip(others, tokens, strict=True)])
        assert chosen is not None
        for row, logits in zip(chosen, expected, strict=True):
            torch.testing.assert_close(row.logits, logits, atol=1e-5, rtol=1e-5)
            assert row.token == int(logits.argmax()) and row.is_finite
            assert row.logprob == pytest.approx(float(logits[0].log_softmax(-1).max()), abs=1e-5)
    for slot, other, length in zip(slots, others, lengths, strict=True):
        assert slot.length == other.length == length + 4
        for mine, theirs in zip(slot.layers, other.layers, strict=True):
            for name in ("keys", "unrotated_keys", "values"):
                torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), atol=1e-5, rtol=1e-5)


def test_neighbours_and_what_lies_behind_a_slots_end_change_nothing(checkpoint: Checkpoint) -> None:
    network = pooled(checkpoint)
    assert network._pool is not None
    slots = [filled(network, 20 + number, number) for number in range(3)]
    before = [states.clone() for states in network._pool.states]
    (clean,) = network.next_tokens([one(network, slots[1], 9)]) or []
    for now, then in zip(network._pool.states, before, strict=True):
        for index in (0, 2, 3, 4):
            assert torch.equal(now[index], then[index])
    slots[1].truncate(21)
    for states in network._pool.states:
        states[1, :, 22:] = math.nan
        states[network._pool.padding] = math.nan
    (again,) = network.next_tokens([one(network, slots[1], 9)]) or []
    assert torch.equal(again.logits, clean.logits)


def test_what_is_not_a_single_token_in_the_pool_is_left_to_plain_passes(checkpoint: Checkpoint) -> None:
    network = pooled(checkpoint, num_slots=2)
    slots, outside = [filled(network, 9, seed) for seed in range(2)], filled(network, 9, 3)
    assert isinstance(slots[0], PooledSlot) and not isinstance(outside, PooledSlot)
    assert not isinstance(network.new_slot(ROOM + 1), PooledSlot)
    for segments in (
        [one(network, outside, 1)],
        [one(network, slots[0], 1), one(network, outside, 1)],
        [Segment(slots[0], network.embed([1, 2]), (1,))],
        [Segment(slots[0], network.embed([1]), ())],
        [Segment(slots[0], network.embed([1]), (0,), (1,))],
    ):
        assert network.next_tokens(segments) is None
    slots[0].length = ROOM
    assert network.next_tokens([one(network, slots[0], 1)]) is None
    assert Network(checkpoint.model).next_tokens([one(network, slots[1], 1)]) is None


def test_a_slot_goes_back_to_the_pool_with_its_session(checkpoint: Checkpoint) -> None:
    network = pooled(checkpoint, num_slots=2)
    pool = network._pool
    assert pool is not None and pool.num_bytes == 3 * ROOM * network.shape.bytes_per_token
    first, second = filled(network, 30, 0), filled(network, 5, 1)
    addresses = [states.data_ptr() for states in second.states]
    assert pool.num_free == 0
    first.set_capacity(ROOM + 100)
    assert first.room == ROOM + 100 and first.length == 30, "too large for the pool, it moves out"
    assert network.next_tokens([one(network, first, 1)]) is None
    del first, second
    gc.collect()
    assert pool.num_free == 2
    third, fourth = network.new_slot(10), network.new_slot(10)
    assert addresses in [[states.data_ptr() for states in slot.states] for slot in (third, fourth)]
    assert third.length == fourth.length == 0 and third.num_bytes == ROOM * network.shape.bytes_per_token


def test_each_bucket_is_captured_once_at_start_and_then_replayed(checkpoint: Checkpoint) -> None:
    captured: list[Any] = []

    def capture(step: Replay) -> Replay:
        captured.append(step)
        return step

    network = Network(checkpoint.model)
    assert list(network.reserve(5, 1800, capture)) == [(number + 1, 12) for number in range(12)]
    assert len(captured) == 12, "1, 2, 4 and 5 sessions, with 512, 1,024 and 1,800 keys"
    slots = [filled(network, 5, seed) for seed in range(4)]
    for _ in range(3):
        assert network.next_tokens([one(network, slot, 4) for slot in slots[:3]])
    assert len(captured) == 12


def test_where_nothing_can_be_captured_steps_run_as_they_are_which_is_said_once(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(step: Replay) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing")

    with caplog.at_level(logging.WARNING):
        network = pooled(checkpoint, capture=refuse)
    assert caplog.text.count("cannot be captured here (operation not permitted") == 1
    (row,) = network.next_tokens([one(network, filled(network, 40, 0), 5)]) or []
    plain = Network(checkpoint.model)
    (expected,) = plain.logits([one(plain, filled(plain, 40, 0), 5)])
    torch.testing.assert_close(row.logits, expected, atol=1e-5, rtol=1e-5)


def test_a_step_launches_the_same_work_however_long_its_slots_are(checkpoint: Checkpoint) -> None:
    """What a graph repeats may not depend on values: operations and shapes are those of another step."""
    network = pooled(checkpoint)
    assert network._pool is not None
    buffers = StepBuffers.of(network._decoder, network._pool, 4)

    class Noting(torch.overrides.TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[Any] = []

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            shapes = [tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor)]
            self.calls.append((func.__name__, shapes))
            assert func.__name__ not in ("item", "tolist", "__bool__", "__int__", "__float__", "nonzero", "cpu")
            return func(*args, **(kwargs or {}))

    noted = []
    for positions in ([0, 0, 0, 0], [500, 3, 77, 0]):
        buffers.positions.copy_(torch.tensor(positions))
        with Noting() as mode:
            padded_step(network._decoder, network._pool, buffers, 512)
        noted.append(mode.calls)
    assert noted[0] == noted[1] and len(noted[0]) > 20


def talk(engine: Engine, sampler: TokenSampler | None = None) -> list[Any]:
    """Three sessions that answer at once, with the tokens and log-probabilities of each."""
    sessions = [engine.open_session(small_settings(), sampler=sampler) for _ in range(3)]
    for number, session in enumerate(sessions):
        watch(engine, session, 2 + number)
    jobs = [Job(session.answer("What is it?", max_tokens=8 + number)) for number, session in enumerate(sessions)]
    rest: list[Job[Any]] = list(jobs)
    while rest:
        rest = engine.step(rest)
    said = [job.outcome() for job in jobs]
    for session in sessions:
        check_whole(session)
        engine.run(session.feed_text([5, 6]))
    going_on = [Job(session.continue_text(6)) for session in sessions]
    rest = list(going_on)
    while rest:
        rest = engine.step(rest)
    return [
        (one.token_ids, pytest.approx(one.logprob, abs=1e-3), more.outcome())
        for one, more in zip(said, going_on, strict=True)
    ]


@pytest.mark.parametrize("settings", [SamplingSettings(), SamplingSettings(repetition_penalty=1.5)])
def test_sessions_say_the_same_in_slots_of_a_pool(checkpoint: Checkpoint, settings: SamplingSettings) -> None:
    heard: list[list[Any]] = []
    for is_pooled in (False, True):
        engine = Engine(checkpoint)
        if is_pooled:
            assert isinstance(engine._network, Network)
            engine._reserve(engine._network, 3, as_it_is)
        heard.append(talk(engine, TokenSampler(settings)))
    assert heard[0] == heard[1]


def test_steps_of_a_pool_are_used_for_tokens(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sizes, run = Engine(checkpoint), [], StepGraphs.run
    assert isinstance(engine._network, Network)
    engine._reserve(engine._network, 3, as_it_is)

    def counted(graphs: StepGraphs, slots: Any, embeddings: torch.Tensor) -> Any:
        sizes.append(len(slots))
        return run(graphs, slots, embeddings)

    monkeypatch.setattr(StepGraphs, "run", counted)
    talk(engine)
    assert 3 in sizes and len(sizes) > 4


def test_numbers_that_overflow_in_a_padded_step_are_an_error_of_their_session(checkpoint: Checkpoint) -> None:
    engine = Engine(checkpoint)
    assert isinstance(engine._network, Network)
    engine._reserve(engine._network, 2, as_it_is)
    good, bad = (engine.open_session(small_settings()) for _ in range(2))
    for session in (good, bad):
        engine.run(session.see(frame(picture(0), 0, 0.0)))
    jobs: list[Job[Any]] = [Job(session.answer("What is it?", max_tokens=6)) for session in (good, bad)]
    engine.step(jobs)
    length = bad.context.cache.length
    for states in bad.context.cache.states:
        states[:, 0] = math.nan
    rest = jobs
    while rest:
        rest = engine.step(rest)
    assert jobs[0].outcome().token_ids and isinstance(jobs[1].error, LogitsError)
    assert bad.context.cache.length <= length


@pytest.mark.parametrize("num_bytes", [1 << 20, 1 << 40])
def test_a_processor_sets_nothing_aside(checkpoint: Checkpoint, num_bytes: int) -> None:
    engine = Engine(checkpoint)
    engine.prepare(num_bytes)
    assert isinstance(engine._network, Network) and engine._network._pool is None
