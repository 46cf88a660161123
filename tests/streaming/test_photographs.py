"""Grounds cut from photographs: determined by their seed, alike at every size, and refused without photographs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streaming.errors import OptionError
from streaming.scenes.photographs import cut_out, palette_of, photographs_in
from streaming.scenes.scenario import Family, SceneSettings
from streaming.scenes.scenery import COLOURS, Ground
from streaming.scenes.source import Scene


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    import cv2

    folder: Path = tmp_path_factory.mktemp("photographs")
    rows, columns = np.mgrid[0:300, 0:500]
    for number in range(3):
        grey = 60 + 60 * np.sin(columns / (9 + 5 * number)) * np.cos(rows / 13)
        picture = np.stack([grey, grey + 10 * number, grey + 20], axis=-1).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    (folder / "notes.txt").write_text("not a picture")
    return photographs_in(folder)


def test_the_photographs_of_a_folder_are_its_pictures(photographs: tuple[str, ...], tmp_path: Path) -> None:
    assert [Path(path).name for path in photographs] == ["0.png", "1.png", "2.png"]
    with pytest.raises(OptionError, match="holds no picture"):
        photographs_in(tmp_path)


def test_a_seed_fixes_the_part_and_another_gives_another(photographs: tuple[str, ...]) -> None:
    first, again, other = (cut_out(photographs[0], seed, 140, 224) for seed in (1, 1, 2))
    assert first.shape == (140, 224, 3) and first.dtype == np.float32
    assert np.array_equal(first, again) and not np.allclose(first, other, atol=8)
    assert first.min() >= 0 and first.max() <= 255


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(OptionError, match="broken.png"):
        cut_out(str(broken), 0, 140, 224)


def test_the_palette_begins_with_what_there_is_most_of() -> None:
    picture = np.full((60, 90, 3), (200.0, 30.0, 30.0), dtype=np.float32)
    picture[:, :20] = (20.0, 20.0, 220.0)
    palette = palette_of(picture)
    assert np.allclose(palette[0], (200, 30, 30), atol=3)
    assert any(np.allclose(colour, (20, 20, 220), atol=12) for colour in palette)


def test_scenes_stand_on_photographs_and_are_the_same_again(photographs: tuple[str, ...]) -> None:
    families = frozenset({Family.SHAPES, Family.VIEW})
    settings = SceneSettings(duration_s=12, families=families, grounds=(Ground.PHOTO,), photographs=photographs)
    for seed in range(3):
        scene = Scene(seed, settings)
        assert all(shot.ground.kind is Ground.PHOTO for shot in scene.scenario.shots)
        assert np.array_equal(scene.frame(2.0), Scene(seed, settings).frame(2.0))


def test_photographs_that_hide_every_colour_are_refused(
    photographs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    hiding = tuple(map(COLOURS.__getitem__, ("red", "green", "blue", "yellow", "white")))
    monkeypatch.setattr("streaming.scenes.scenery.palette_of", lambda picture: hiding)
    with pytest.raises(OptionError, match="stand out"):
        Scene(0, SceneSettings(grounds=(Ground.PHOTO,), photographs=photographs))


def test_photographs_are_asked_for_where_there_are_none() -> None:
    with pytest.raises(OptionError, match="photo needs photographs"):
        replace(SceneSettings(), grounds=(Ground.PHOTO,))
