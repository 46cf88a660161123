"""Changes of several steps that fail halfway: afterwards the memory is consistent and equals a fresh prefill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from models.checkpoint.fake import FakeSizes, make_checkpoint
from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.engine import Engine
from models.network.slots import Slot
from models.session.probes import Probes
from models.session.session import MOST_GAP_S, Session
from models.session.steps import Job
from models.spans import SpanKind
from streaming.difffp.live import Kind
from tests.models.streams import (
    Script,
    check_whole,
    each,
    frame,
    last,
    picture,
    read,
    recomputed,
    small_settings,
    watch,
)

NUM_LAYERS = 5


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint with more than two layers."""
    folder = make_checkpoint(tmp_path_factory.mktemp("deep"), sizes=FakeSizes(layers=NUM_LAYERS))
    return load_checkpoint(folder, device="cpu")


@pytest.fixture
def engine(deep: Checkpoint) -> Iterator[Engine]:
    engine = Engine(deep)
    yield engine
    engine.close()


@pytest.fixture
def memory_ends(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], Callable[[], bool]]:
    """Make the compaction of a layer fail once, before any of it moved or halfway; returns whether it has failed."""

    def arrange(number: int, where: str) -> Callable[[], bool]:
        compact, calls, failed = Slot._compact, 0, False

        def failing(slot: Slot, index: int, moved: torch.Tensor, first: int, *angles: torch.Tensor) -> None:
            nonlocal calls, failed
            calls += 1
            if failed or calls <= number:
                compact(slot, index, moved, first, *angles)
                return
            failed = True
            if where == "half way":
                states = slot.states[index]
                states[1:, first : first + len(moved)] = states[1:].index_select(1, moved)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

        monkeypatch.setattr(Slot, "_compact", failing)
        return lambda: failed

    return arrange


def check_fresh(session: Session, checkpoint: Checkpoint) -> None:
    """Check that every layer holds the ledger's tokens, and that the model continues as after a fresh prefill of
    them."""
    check_whole(session)
    torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)


def see(engine: Engine, session: Session, step: int) -> Any:
    return engine.run(session.see(frame(picture(step), step, float(step))))


@pytest.mark.parametrize(("number", "where"), [(0, "half way"), (1, "before"), (3, "half way"), (4, "half way")])
def test_an_eviction_that_fails_in_one_layer_is_made_up_for(
    engine: Engine, deep: Checkpoint, memory_ends: Callable[[int, str], Callable[[], bool]], number: int, where: str
) -> None:
    session = engine.open_session(small_settings(), instruction="Tell me all.")
    has_failed = memory_ends(number, where)
    step = 0
    while not has_failed():
        try:
            see(engine, session, step)
        except torch.OutOfMemoryError:
            assert session.context.is_stale
        step += 1
    evictions = session.take_evictions()
    assert [eviction.num_frames > 0 for eviction in evictions] == [True], "what left is told, failure or not"
    assert see(engine, session, step).kind is Kind.WHOLE
    check_fresh(session, deep)
    assert session.context.ledger.cells_in_view(16).all() and "Tell me all." in read(session, deep)
    for later in range(step + 1, step + 30):
        see(engine, session, later)
        check_whole(session)


@pytest.mark.parametrize("number", [0, NUM_LAYERS - 1])
def test_words_that_leave_in_a_failing_eviction_leave_it_whole(
    engine: Engine, deep: Checkpoint, memory_ends: Callable[[int, str], Callable[[], bool]], number: int
) -> None:
    session = engine.open_session(small_settings(), sampler=Script(deep, *["A red circle enters"] * 40))
    watch(engine, session, 2)
    has_failed = memory_ends(number, "half way")
    while not has_failed():
        try:
            engine.run(session.answer("Is it a red circle or is it not?"))
        except torch.OutOfMemoryError:
            assert session.context.is_stale
    assert engine.run(session.answer("And now?")).text == "A red circle enters"
    check_whole(session)
    see(engine, session, 2)
    check_whole(session)


@pytest.mark.parametrize("number", [0, 3])
def test_an_instruction_whose_predecessor_left_half_way_comes_with_the_next_frame(
    engine: Engine, deep: Checkpoint, memory_ends: Callable[[int, str], Callable[[], bool]], number: int
) -> None:
    session = engine.open_session(small_settings(), instruction="Tell me all.")
    watch(engine, session, 4)
    memory_ends(number, "half way")
    with pytest.raises(torch.OutOfMemoryError):
        engine.run(session.instruct("Say nothing."))
    assert [eviction.reason for eviction in session.take_evictions()] == ["standing instruction replaced"]
    see(engine, session, 4)
    assert "Tell me all." not in read(session, deep) and read(session, deep).count("Say nothing.") == 1
    check_fresh(session, deep)


def test_a_slot_that_is_not_as_long_as_its_ledger_is_prefilled_anew(engine: Engine, deep: Checkpoint) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 3)
    session.context.cache.truncate(20)
    see(engine, session, 3)
    check_fresh(session, deep)


def test_a_turn_that_is_open_when_the_cache_is_torn_is_closed_with_all_its_words(
    engine: Engine, deep: Checkpoint
) -> None:
    session = engine.open_session(small_settings(), sampler=Script(deep, "A red circle enters"))
    watch(engine, session, 3)
    job = Job(session.answer("What is it?"))
    for _ in range(5):
        engine.step([job])
    job.cancel()
    said = "".join(job.take_pieces())
    session.context.cache.truncate(10)
    cut = engine.run(session.cut())
    assert said and cut is not None and cut.text == said.strip()
    assert read(session, deep).endswith(f"What is it?<|im_end|>\n<|im_start|>assistant\n{said}<|im_end|>\n")
    check_whole(session)


def test_a_pass_that_fails_between_two_layers_is_taken_back(
    engine: Engine, deep: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 2)
    length, calls = session.context.cache.length, 0

    def failing(weights: Any, layer: Any, hidden: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden

    with monkeypatch.context() as patched:
        patched.setattr("models.network.decoder.mlp", failing)
        with pytest.raises(torch.OutOfMemoryError):
            see(engine, session, 2)
    assert calls == 3 and session.context.cache.length == length
    see(engine, session, 3)
    check_fresh(session, deep)


def out_of_memory(*given: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_what_failed_after_a_frame_was_entered_does_not_put_evictions_off(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each frame stays, and the measurement after it fails: memory must not grow."""
    session = engine.open_session(small_settings())
    monkeypatch.setattr(Probes, "log_p_assistant", out_of_memory)
    for step in range(60):
        with pytest.raises(torch.OutOfMemoryError):
            engine.run(session.see(frame(picture(step), step, float(step)), speak_above=-1e9))
    assert session.usage.vision <= 640 + 16 + 13
    check_whole(session)


def test_a_new_grid_is_told_with_the_next_frame_where_its_own_failed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 2)
    wide = picture(2, (112, 168))
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_forward", each(out_of_memory))
        with pytest.raises(torch.OutOfMemoryError):
            engine.run(session.see(frame(wide, 2, 2.0)))
    assert engine.run(session.see(frame(wide, 3, 3.0))).grid_changed
    assert not engine.run(session.see(frame(wide, 4, 4.0))).grid_changed


def test_a_rebase_that_fails_on_the_way_changes_nothing_or_all(
    engine: Engine, deep: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.open_session(small_settings(max_shown_time_s=20.0, rebase_keep_s=6.0))
    watch(engine, session, 20)
    before = read(session, deep)
    head, calls = session._codec.frame_head, 0

    def failing(time_s: float) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise MemoryError
        return head(time_s)

    with monkeypatch.context() as patched:
        patched.setattr(session._codec, "frame_head", failing)
        with pytest.raises(MemoryError):
            see(engine, session, 21)
    assert read(session, deep) == before
    assert see(engine, session, 22).rebased
    check_fresh(session, deep)


def test_a_gap_that_could_not_be_noted_does_not_take_memory_away(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.open_session(small_settings(max_shown_time_s=60.0, rebase_keep_s=40.0))
    watch(engine, session, 5)
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_forward", each(out_of_memory))
        with pytest.raises(torch.OutOfMemoryError):
            engine.run(session.note_gap(3600.0))
    sight = engine.run(session.see(frame(picture(6), 6, 3604.0)))
    assert not sight.rebased and sight.shown_time_s <= 4.0 + MOST_GAP_S
    assert sum(span.kind is SpanKind.FRAME for span in session.context.ledger) == 6


def test_a_fed_picture_that_failed_is_kept_whole_the_next_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = engine.open_session(small_settings(), pruning="paper")
    engine.run(session.feed_picture(picture(0), [5], [6]))
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_forward", each(out_of_memory))
        with pytest.raises(torch.OutOfMemoryError):
            engine.run(session.feed_picture(picture(1), [5], [6]))
    keep, _ = engine.run(session.feed_picture(picture(1), [5], [6]))
    assert keep.all()
