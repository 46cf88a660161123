"""Still lifes: the pictures show what their ground truth says, and one seed gives one series."""

from __future__ import annotations

import numpy as np
import pytest

from streaming.scenes.rendering import Renderer
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.stills import MOST_THINGS, close_ups, still_lifes

SETTINGS = SceneSettings(view_sizes=((196, 112),), noise_sigma=(0.0, 0.0))


def test_the_same_seed_gives_the_same_pictures() -> None:
    first, second = (Renderer(still_lifes(3, SETTINGS, 3)) for _ in range(2))
    assert all(np.array_equal(first.frame(n + 0.5), second.frame(n + 0.5)) for n in range(3))


def test_each_picture_has_its_own_things() -> None:
    scenario = still_lifes(4, SETTINGS, 8)
    counts = [sum(thing.born_s <= n + 0.5 < thing.gone_s for thing in scenario.things) for n in range(8)]
    assert sum(counts) == len(scenario.things) > 4 and max(counts) <= MOST_THINGS


@pytest.mark.parametrize("seed", range(6))
def test_a_close_up_shows_its_shape_where_it_is_said_to_be(seed: int) -> None:
    scenario = close_ups(seed, SceneSettings(view_sizes=((84, 84),), noise_sigma=(0.0, 0.0)), 8)
    renderer = Renderer(scenario)
    shown = 0
    for number in range(8):
        things = [thing for thing in scenario.things if thing.born_s == number]
        assert len(things) <= 1
        for thing in things:
            x, y = (round(value) for value in thing.way.at(number + 0.5))
            if 0 <= x < 84 and 0 <= y < 84:
                pixel = renderer.frame(number + 0.5)[y, x].astype(float)
                assert np.abs(pixel - np.asarray(thing.rgb)).max() < 20
                shown += 1
    assert shown > 3
