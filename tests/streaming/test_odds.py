"""How often things happen in synthetic scenes: oftener, never, or upright, as the settings have it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from streaming.scenes.scenario import ACTS, EventKind, Family, SceneSettings
from streaming.scenes.source import Scene


def _happenings(settings: SceneSettings) -> Counter[str]:
    return Counter(event.kind for seed in range(20) for event in Scene(seed, settings).truth)


@pytest.mark.slow
def test_odds_make_things_happen_oftener_or_never() -> None:
    usual = SceneSettings(still_probability=0.0)
    often = replace(usual, odds={"shape_turns": 6.0, "cut": 0.0})
    before, after = _happenings(usual), _happenings(often)
    assert after[EventKind.CHANGES_COLOUR] > 2 * before[EventKind.CHANGES_COLOUR]
    assert before[EventKind.CUT] > 0 == after[EventKind.CUT]
    assert not _happenings(replace(usual, odds=dict.fromkeys(ACTS, 0.0)))


@pytest.mark.slow
def test_moves_are_made_upright_if_that_is_wanted() -> None:
    usual = SceneSettings(families=frozenset({Family.SHAPES}), still_probability=0.0, odds={"shape_moves": 5.0})

    def ways(settings: SceneSettings) -> list[str | None]:
        things = [thing for seed in range(12) for thing in Scene(seed, settings).scenario.things]
        return [motion.direction for thing in things for motion in thing.motions]

    def upright(settings: SceneSettings) -> float:
        found = ways(settings)
        return sum(way in ("up", "down") for way in found) / len(found)

    assert upright(replace(usual, upright_share=0.9)) > upright(usual) + 0.1
