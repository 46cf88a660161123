"""The governor on made-up loads: it lowers what is too much, and does not swing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.serving.rate_control import LEAST, SETTLE_S, RateController


def run(demand: list[float], controller: RateController | None = None, start: int = 1) -> list[tuple[float, float]]:
    """Times and factors of the changes, where each second asks for so many seconds of work at full rate."""
    controller = controller or RateController()
    changes = []
    for second, wanted_s in enumerate(demand, start):
        asked_s = wanted_s * controller.factor
        lost = round(100 * max(0.0, 1 - 1 / asked_s)) if asked_s > 0 else 0
        controller.note(float(second), min(1.0, asked_s), 100 - lost, lost)
        change = controller.update(float(second))
        if change is not None:
            changes.append((float(second), change.factor))
    return changes


def test_light_work_changes_nothing() -> None:
    assert run([0.5] * 600) == []


@pytest.mark.parametrize(("wanted_s", "factor"), [(1.5, 0.5), (3.0, 0.25), (1000.0, LEAST)])
def test_too_much_is_halved_until_it_fits(wanted_s: float, factor: float) -> None:
    changes = run([wanted_s] * 300)
    assert [f for _, f in changes] == [2.0**-n for n in range(1, len(changes) + 1)] and changes[-1][1] == factor


@given(wanted_s=st.floats(0.0, 40.0))
@settings(max_examples=60)
def test_a_steady_load_settles(wanted_s: float) -> None:
    changes = run([wanted_s] * 1200)
    assert all(later < earlier for (_, earlier), (_, later) in zip(changes, changes[1:], strict=False))
    assert all(later - earlier >= SETTLE_S for (earlier, _), (later, _) in zip(changes, changes[1:], strict=False))
    assert not changes or changes[-1][0] < 120


def test_it_comes_back_in_steps_once_there_is_room() -> None:
    controller = RateController()
    assert [factor for _, factor in run([3.0] * 60, controller)] == [0.5, 0.25]
    back = run([0.1] * 300, controller, start=61)
    assert [factor for _, factor in back] == [0.5, 1.0]
