"""Masks and zones that a viewer draws: what is taken, what is refused, and the YAML that says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.cameras.regions import MOST_CORNERS, MOST_DRAWN, regions_yaml, with_drawn
from assistant.cameras.views import Region
from assistant.config.app import load_config
from assistant.errors import ConfigError
from assistant.serving.channel_types import ChannelConfig
from streaming.masks import MaskRegion

CORNER = ((0.0, 0.0), (0.25, 0.0), (0.25, 0.25), (0.0, 0.25))
DOOR = ChannelConfig(
    "door", "synthetic:1",
    masks=(MaskRegion.rectangle(0.7, 0.0, 0.3, 0.1), MaskRegion(((0, 0), (200, 0), (0, 150)), "pixels")),
    zones=(("steps", MaskRegion.rectangle(0.0, 0.5, 1.0, 0.5)),),
)  # fmt: skip


def test_drawn_regions_stand_beside_the_configured_ones() -> None:
    drawn = [Region("mask", "", CORNER), Region("zone", "gate ", ((0.1, 0.1), (0.9, 0.12345), (2.0, -1.0)))]
    masks, zones = with_drawn(DOOR, drawn, (448, 280))
    assert masks[:2] == DOOR.masks and masks[2].points == CORNER
    assert dict(zones).keys() == {"steps", "gate"}
    assert dict(zones)["gate"].points == ((0.1, 0.1), (0.9, 0.123), (1.0, 0.0)), "inside the picture, and no finer"


@pytest.mark.parametrize(
    ("drawn", "problem"),
    [
        ([Region("wall", "", CORNER)], "mask or a zone"),
        ([Region("zone", "  ", CORNER)], "zone name"),
        ([Region("zone", "x" * 41, CORNER)], "zone name"),
        ([Region("zone", "steps", CORNER)], "has a zone of that name"),
        ([Region("zone", "a", CORNER), Region("zone", "a", CORNER)], "has a zone of that name"),
        ([Region("mask", "", CORNER[:2])], "three corners"),
        ([Region("mask", "", ((0.1, 0.1), (0.2, 0.1), (0.9, 0.1)))], "one line"),
        ([Region("mask", "", CORNER * (MOST_CORNERS // 4 + 1))], "corners"),
        ([Region("mask", "", CORNER)] * (MOST_DRAWN + 1), "at most"),
        ([Region("mask", "", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))], "hide the whole picture"),
    ],
)
def test_what_is_no_region_is_refused_in_words(drawn: list[Region], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        with_drawn(DOOR, drawn, (448, 280))


def test_the_yaml_is_read_back_as_the_same_masks_and_zones(tmp_path: Path) -> None:
    masks, zones = with_drawn(DOOR, [Region("mask", "", CORNER), Region("zone", "yes", CORNER[:3])], (0, 0))
    text = regions_yaml("door", masks, zones)
    path = tmp_path / "cameras.yaml"
    path.write_text(text.replace("door:\n", "door:\n    url: synthetic:1\n", 1))
    camera = load_config(path, {}).cameras["door"]
    assert dict(camera.zones) == dict(zones)
    for read, meant in zip(camera.masks, masks, strict=True):
        for found, corner in zip(read.in_pixels(1000, 1000), meant.in_pixels(1000, 1000), strict=True):
            assert found == pytest.approx(corner)


def test_a_camera_without_any_says_so_in_yaml() -> None:
    assert regions_yaml("door", (), ()) == "cameras:\n  door: {}\n"
