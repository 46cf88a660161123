"""Scenes with cut-outs: they are drawn where the ground truth says, and the ground truth has their words."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from streaming.errors import OptionError
from streaming.scenes.cutouts import is_opaque, painted, squared
from streaming.scenes.scenario import EventKind, Family, SceneSettings
from streaming.scenes.scenery import Ground, Outline, outline_points
from streaming.scenes.source import Scene

RED = (220, 30, 40)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tall red cut-out, opaque on its left half, whose hidden pixels are green; a picture without alpha."""
    folder = tmp_path_factory.mktemp("cutouts")
    picture = np.zeros((80, 40, 4), np.uint8)
    picture[..., 1] = 255
    picture[:, :20] = (*RED, 255)
    Image.fromarray(picture).save(folder / "thing.webp", lossless=True, exact=True)
    Image.fromarray(picture[..., :3]).save(folder / "plain.png")
    return {name: str(folder / name) for name in ("thing.webp", "plain.png")}


def _settings(files: dict[str, str], **further: object) -> SceneSettings:
    return SceneSettings(
        duration_s=30.0,
        families=frozenset({Family.MOTION}),
        grounds=(Ground.FLAT,),
        still_probability=0.0,
        distractor_probability=0.0,
        artefact_probability=0.0,
        noise_sigma=(0.0, 0.0),
        cutouts=((files["thing.webp"], "person"),),
        cutout_share=1.0,
        **further,  # type: ignore[arg-type]
    )


def test_a_cut_out_covers_its_part_of_the_square_and_is_mirrored(files: dict[str, str]) -> None:
    u, v = np.array([-0.4, -0.1, 0.1, 0.4, -0.8, 1.5]), np.zeros(6)
    assert is_opaque(files["thing.webp"], False, u, v).tolist() == [True, True, False, False, False, False]
    assert is_opaque(files["thing.webp"], True, u, v).tolist() == [False, False, True, True, False, False]
    points = outline_points(Outline("cutout", picture=files["thing.webp"]), 80.0)
    assert (points[:, 0] < 1).all() and np.ptp(points[:, 1]) > 70


def test_its_rim_has_no_colour_of_what_is_hidden(files: dict[str, str]) -> None:
    colours = painted(files["thing.webp"], False, 20.0, 24)
    assert colours.shape == (24, 24, 3) and colours.dtype == np.float32
    assert np.abs(colours[6:18, 7:13] - RED).max() < 30
    assert squared(files["thing.webp"], False).shape == (80, 80, 4)


def test_a_picture_without_alpha_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="a cut-out has alpha"):
        squared(files["plain.png"], False)
    with pytest.raises(OptionError, match="cutouts with human: words are among person"):
        SceneSettings(cutouts=((files["thing.webp"], "human"),))
    with pytest.raises(OptionError, match="cutout_share=1.5"):
        SceneSettings(cutout_share=1.5)


def test_the_truth_has_the_word_and_the_picture_has_the_thing(files: dict[str, str]) -> None:
    kinds = set()
    for seed in range(12):
        scene = Scene(seed, _settings(files))
        people = {thing.thing_id for thing in scene.scenario.things if thing.outline.form == "cutout"}
        for event in scene.truth:
            assert event.name == ("person" if event.thing_id in people else None) and event.shape is None
            kinds |= {event.kind} if event.name else set()
            assert not (event.name and event.kind is EventKind.ENTERS and event.side == "top")
        for t_s in np.arange(1.0, 29.0, 3.0):
            state, picture = scene.state(float(t_s)), scene.clean_frame(float(t_s)).astype(int)
            there = [thing for thing in state.things if thing.name == "person" and thing.share_in > 0.9]
            ys, xs = np.nonzero(np.abs(picture - RED).max(axis=2) < 24)
            if len(there) == 1 and len(state.things) == 1:
                assert xs.mean() == pytest.approx(there[0].x_px, abs=4), (seed, t_s)
                assert ys.mean() == pytest.approx(there[0].y_px, abs=4), (seed, t_s)
    assert {EventKind.ENTERS, EventKind.LEAVES, EventKind.STARTS, EventKind.STOPS} <= kinds


@pytest.mark.slow
def test_cut_outs_that_may_play_change_nothing_where_none_does(files: dict[str, str]) -> None:
    usual = SceneSettings(families=frozenset({Family.SHAPES}))
    with_some = SceneSettings(families=frozenset({Family.SHAPES}), cutouts=((files["thing.webp"], "person"),))
    for seed in range(3):
        assert Scene(seed, usual).truth == Scene(seed, with_some).truth
        assert (Scene(seed, usual).frame(3.0) == Scene(seed, with_some).frame(3.0)).all()
