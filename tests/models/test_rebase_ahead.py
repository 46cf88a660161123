"""A rebase that is prepared over the frames before it leaves the memory that one in a single frame leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint.loader import Checkpoint
from models.engine import Engine
from models.eviction import WindowSettings
from models.session.context import Context
from models.session.results import Sight
from models.session.session import Session
from models.session.steps import Forward, Job, Output, Steps
from tests.models.streams import (
    Script,
    check_whole,
    each,
    frame,
    last,
    picture,
    read,
    recomputed,
    single,
    small_settings,
)

WIDE = WindowSettings(vision_low=640, vision_high=1100, text_low=160, text_high=240)
SETTINGS = small_settings(max_shown_time_s=40.0, rebase_keep_s=20.0, window=WIDE)


def opened(engine: Engine, checkpoint: Checkpoint, *, ahead: bool = True, **changes: Any) -> Session:
    session = engine.open_session(
        replace(SETTINGS, **changes), sampler=Script(checkpoint, *["A red circle enters."] * 90), instruction="Watch."
    )
    if not ahead:
        session.context.open_tail = lambda num_tokens: False  # type: ignore[method-assign]
    return session


def show(engine: Engine, session: Session, step: int, time_s: float | None = None) -> Sight:
    return engine.run(session.see(frame(picture(step), step, float(step) if time_s is None else time_s)))


def check_same(mine: Session, other: Session, checkpoint: Checkpoint) -> None:
    """Check that two memories hold the same tokens, and the same keys and values up to rounding."""
    check_whole(mine)
    assert read(mine, checkpoint) == read(other, checkpoint)
    for one, two in zip(mine.context.cache.layers, other.context.cache.layers, strict=True):
        torch.testing.assert_close(one.keys, two.keys, atol=1e-4, rtol=0)
        torch.testing.assert_close(one.values, two.values, atol=1e-4, rtol=0)
    assert (mine.context.last_logits is None) == (other.context.last_logits is None)
    if mine.context.last_logits is not None:
        torch.testing.assert_close(last(mine), last(other), atol=1e-4, rtol=0)


def rows_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all passes from now on."""
    sizes: list[int] = []
    forward = single(engine)

    def noted(request: Forward) -> Output:
        sizes.append(request.num_rows)
        return forward(request)

    monkeypatch.setattr(engine, "_forward", each(noted))
    return sizes


@pytest.mark.parametrize("every_s", [1.0, 2.0])
def test_the_work_of_a_rebase_is_spread_over_the_frames_before_it(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, every_s: float
) -> None:
    """Also where frames come half as often as expected, because there is too much to do."""
    sizes = rows_of(engine, monkeypatch)
    last_one = int(41 / every_s) + (every_s > 1)
    found: dict[bool, list[int]] = {}
    for ahead in (True, False):
        session, rows = opened(engine, checkpoint, ahead=ahead), []
        for step in range(last_one + 1):
            sizes.clear()
            sight = show(engine, session, step, every_s * step)
            rows.append(sum(sizes))
            assert sight.rebased == (step == last_one)
        found[ahead] = rows
    at_once = found[False][last_one]
    assert at_once > 400 / every_s, "what is kept"
    assert max(found[True][1:]) < at_once / 3


def _question(session: Session) -> Steps[Any]:
    return session.answer("What is it?")


ACTIONS: dict[str, Callable[[Session], Steps[Any]]] = {
    "comment": lambda session: session.comment(),
    "retract": lambda session: session.retract(),
    "answer": _question,
    "pictures": lambda session: session.answer("What?", [picture(5)], keep_attachments=True),
    "aside": lambda session: session.answer("What?", [picture(5), picture(6)], aside=True),
    "check": lambda session: session.check_all(["Is it red?", "Is there a circle?"]),
    "long check": lambda session: session.check("Is there a red circle? " * 60),
    "instruct": lambda session: session.instruct("Tell me all."),
    "gap": lambda session: session.note_gap(3.0),
    "torn": lambda session: _torn(session),
}


def _torn(session: Session) -> Steps[Any]:
    session.context.cache.truncate(session.context.cache.length - 5)
    return session.check("Is it red?")


STEPS = st.tuples(
    st.sampled_from([0.5, 1.0, 1.0, 1.0, 1.3, 4.0]), st.booleans(), st.none() | st.sampled_from(sorted(ACTIONS))
)


@settings(max_examples=8, deadline=None)
@given(schedule=st.lists(STEPS, min_size=20, max_size=30), keep_s=st.sampled_from([6.0, 15.0]), wide=st.booleans())
def test_whatever_happens_meanwhile_the_memory_is_that_of_a_rebase_in_one_frame(
    checkpoint: Checkpoint, schedule: list[tuple[float, bool, str | None]], keep_s: float, wide: bool
) -> None:
    window = WIDE if wide else SETTINGS.window
    engine = Engine(checkpoint)
    pair = [
        opened(engine, checkpoint, ahead=ahead, max_shown_time_s=22.0, rebase_keep_s=keep_s, window=window)
        for ahead in (True, False)
    ]
    time_s = 0.0
    for step, (passes_s, moves, action) in enumerate(schedule):
        time_s += passes_s
        shown = picture(step if moves else 0)
        sights = [engine.run(session.see(frame(shown, step, time_s))) for session in pair]
        assert sights[0].rebased == sights[1].rebased
        if sights[0].rebased:
            for session in pair:
                torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)
        if action is not None:
            for session in pair:
                engine.run(ACTIONS[action](session))
        check_same(pair[0], pair[1], checkpoint)
    engine.close()


@pytest.mark.parametrize("cancelled", [0, 2])
def test_a_frame_that_is_cancelled_while_a_part_is_prefilled_takes_nothing_with_it(
    engine: Engine, checkpoint: Checkpoint, cancelled: int
) -> None:
    """Also where it is the frame of the rebase, number 41."""
    session = opened(engine, checkpoint)
    num_compared = 0
    for step in range(46):
        if step % 3 == cancelled:
            job = Job(session.see(frame(picture(step), step, float(step))))
            engine.step([job])
            job.cancel()
            continue
        show(engine, session, step)
        check_whole(session)
        if session.usage.num_rebases:
            # Until the next eviction, keys are those of a fresh prefill.
            torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)
            num_compared += 1
    assert num_compared >= 2 and session.usage.num_rebases == 1


def test_a_part_whose_pass_fails_is_prefilled_later(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(request: Forward) -> Output:
        raise torch.OutOfMemoryError("CUDA out of memory")

    session = opened(engine, checkpoint)
    for step in range(34):
        show(engine, session, step)
    length = session.context.tail_length
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_forward", each(failing))
        with pytest.raises(torch.OutOfMemoryError):
            show(engine, session, 34)
    assert 0 < length == session.context.tail_length
    sights = [show(engine, session, step) for step in range(35, 42)]
    assert [sight.rebased for sight in sights] == [False] * 6 + [True]
    torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)


def test_an_eviction_that_would_undo_the_work_comes_before_it(engine: Engine, checkpoint: Checkpoint) -> None:
    """With windows too small for what is to be kept, the oldest units leave when the work begins."""
    session = opened(engine, checkpoint, rebase_keep_s=30.0, window=WindowSettings(540, 900, 160, 240))
    lengths: dict[int, int] = {}
    reasons: dict[int, str] = {}
    for step in range(42):
        sight = show(engine, session, step)
        lengths[step] = session.context.tail_length
        for eviction in sight.evictions:
            reasons[step] = eviction.reason
        assert session.context.ledger.cells_in_view(16).all(), "no cell is lost by it"
    early = [step for step, reason in reasons.items() if "before the time is rebased" in reason]
    assert early == [25] and set(reasons) - {41} <= set(range(26))
    assert [lengths[step] for step in range(26, 41)] == sorted(lengths[step] for step in range(26, 41))
    torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)


def test_where_a_session_needs_its_room_the_work_is_given_up(engine: Engine, checkpoint: Checkpoint) -> None:
    session = opened(engine, checkpoint)
    for step in range(38):
        show(engine, session, step)
    context: Context = session.context
    assert context.tail_length > 100
    room = context.cache.capacity - context.cache.length
    engine.run(session.check_ids([5] * (room - 1), [6], [7]))
    assert context.tail_length == 0
    assert [show(engine, session, step).rebased for step in range(38, 42)] == [False] * 3 + [True]
    torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)


def test_it_stays_in_the_session_s_own_slot(engine: Engine, checkpoint: Checkpoint) -> None:
    session = opened(engine, checkpoint)
    show(engine, session, 0)
    slot = session.context.cache
    before = [states.data_ptr() for states in slot.states], slot.num_bytes
    for step in range(1, 45):
        show(engine, session, step)
    assert session.usage.num_rebases == 1
    assert ([states.data_ptr() for states in slot.states], slot.num_bytes) == before


def test_what_was_prefilled_is_used_up_to_what_changed(engine: Engine, checkpoint: Checkpoint) -> None:
    session = opened(engine, checkpoint)
    for step in range(38):
        show(engine, session, step)
    assert session.context.tail_length > 100
    engine.run(session.instruct("Tell me all."))
    show(engine, session, 38)
    for step in range(39, 42):
        sight = show(engine, session, step)
    assert sight.rebased
    torch.testing.assert_close(last(session), recomputed(session, checkpoint), atol=1e-4, rtol=0)
