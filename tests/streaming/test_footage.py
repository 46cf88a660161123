"""Labelled footage: reading its files, the part kept back, and close-ups whose boxes match their objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streaming.errors import OptionError
from streaming.scenes.closeups import CloseUps, close_up, opened, pasted
from streaming.scenes.footage import Box, Footage, Named, is_kept_back, named_of, read_footage
from streaming.scenes.object_names import NAMES, group_of
from tests.footage import CAR, PERSON, write_footage, write_lines

SEEDS = range(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_footage(tmp_path_factory.mktemp("footage") / "made")


@pytest.fixture(scope="module")
def footage(folder: Path) -> Footage:
    return read_footage(folder)


def _like(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture[..., :3].astype(int) - colour).max(axis=2) < 40


def test_every_word_has_a_group_and_labels_become_words() -> None:
    assert all(named_of(name) == Named(group_of(name) or "?", name) for name in NAMES)
    assert named_of("Cell Phone") == Named("things", "phone") and named_of("suitcase") == Named("things", "bag")
    assert named_of("sheep") == Named("animals", "other") and named_of("bed") is None


def test_a_tenth_is_kept_back_and_nothing_is_in_both_parts(folder: Path) -> None:
    trained, judged = read_footage(folder), read_footage(folder, kept_back=True)
    assert {photo.path for photo in trained.photos}.isdisjoint(photo.path for photo in judged.photos)
    assert len(trained.photos) + len(judged.photos) == 24 and len(trained.cutouts) + len(judged.cutouts) == 12
    shares = [is_kept_back({"file": f"{number}.jpg", "source": "a"}) for number in range(2000)]
    assert 0.07 < np.mean(shares) < 0.13
    frames = {is_kept_back({"file": f"{number}.jpg", "source": "a", "clip": "door.mp4"}) for number in range(40)}
    cut = {is_kept_back({"file": f"{number}.webp", "source": "a", "photo": "photos/1.jpg"}) for number in range(40)}
    assert len(frames) == len(cut) == 1
    assert is_kept_back({"file": "1.jpg", "source": "other"}, ("other",))


def _one(tmp_path: Path, **record: Any) -> Any:
    write_lines(tmp_path / "labels.jsonl", [{"file": "a.jpg", "source": "made", **record}] + [
        {"file": f"{n}.jpg", "source": "made", "agreed": [{"label": "cat", "box": [0, 0, 1, 1]}]} for n in range(30)
    ])  # fmt: skip
    write_lines(tmp_path / "cutouts.jsonl", [])
    photos = [*read_footage(tmp_path).photos, *read_footage(tmp_path, kept_back=True).photos]
    return next(photo for photo in photos if photo.path.endswith("a.jpg"))


def test_what_one_detector_says_is_in_doubt_and_people_come_before_detectors(tmp_path: Path) -> None:
    agreed = {"label": "dog", "box": [0.1, 0.1, 0.4, 0.4]}
    alone = {"label": "cat", "box": [0.6, 0.6, 0.9, 0.9]}
    found = _one(tmp_path, agreed=[agreed], coco_ssd=[agreed, alone], nanodet=[agreed])
    assert [box.named and box.named.word for box in found.boxes] == ["dog", None] and not found.is_empty
    marked = _one(tmp_path, agreed=[agreed], human_boxes=[["horse", [0.1, 0.1, 0.42, 0.4]]])
    assert [box.named and box.named.word for box in marked.boxes] == ["horse"]
    assert _one(tmp_path).is_empty


def test_a_hand_that_is_called_a_person_keeps_its_group_and_no_word(tmp_path: Path) -> None:
    hand = _one(tmp_path, hint="hand gesture: like", agreed=[{"label": "person", "box": [0, 0, 1, 1]}])
    assert hand.boxes[0].named == Named("people", "") and hand.seen_whole
    shelf = _one(tmp_path, hint="food: Kiwi")
    assert not shelf.seen_whole and not shelf.is_empty


@pytest.mark.parametrize(
    ("line", "problem"), [("{", "line 1"), ('{"file": "a.jpg"}', "source"), ("3", "file and source are wanted")]
)
def test_lines_that_are_none_are_named(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "labels.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(OptionError, match=problem):
        read_footage(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"labels\.jsonl can't be read"):
        read_footage(tmp_path)
    write_lines(tmp_path / "labels.jsonl", [{"file": "a.jpg", "source": "made"}])
    write_lines(tmp_path / "cutouts.jsonl", [])
    with pytest.raises(OptionError, match="no photograph with a known label is left to train on"):
        read_footage(tmp_path)
    with pytest.raises(OptionError, match="can't be read as a picture"):
        opened(str(tmp_path / "labels.jsonl"))


def test_boxes_lie_where_their_things_are(footage: Footage) -> None:
    photo = next(photo for photo in footage.photos if photo.boxes)
    mirrored = 0
    for seed in SEEDS:
        made = close_up(np.random.default_rng(seed), photo, seed % 2, 112, 84)
        assert made.picture.shape == (84, 112, 3) and made.main == seed % 2
        for part, colour in zip(made.parts, (PERSON, CAR), strict=True):
            ys, xs = np.nonzero(_like(made.picture, colour))
            box = part.box
            inside = (min(max(side, 0.0), 1.0) for side in (box.left, box.top, box.right, box.bottom))
            left, top, right, bottom = inside
            if right - left < 0.06 or bottom - top < 0.06:
                continue
            edges = xs.min() / 112, ys.min() / 84, (xs.max() + 1) / 112, (ys.max() + 1) / 84
            assert edges == pytest.approx((left, top, right, bottom), abs=0.06), seed
        mirrored += made.parts[0].box.left > made.parts[1].box.left
    assert 10 < mirrored < 50


def test_a_cut_out_shows_where_its_alpha_is(footage: Footage) -> None:
    photo = next(photo for photo in footage.photos if photo.is_empty)
    close_ups = CloseUps(Footage((photo,), footage.cutouts))
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        ground = close_ups.nothing(rng, 84, 84)
        made = pasted(rng, ground, footage.cutouts[0])
        if made.main is None:
            continue
        alpha = made.parts[made.main].alpha
        assert alpha is not None and alpha.shape == (84, 84)
        yellow = made.picture[..., 0].astype(int) - made.picture[..., 2] > 60
        assert (yellow == (alpha > 0.5)).mean() > 0.95
    with pytest.raises(OptionError, match="a cut-out has alpha"):
        pasted(np.random.default_rng(0), ground, type(footage.cutouts[0])(photo.path, Named("animals", "dog")))


def test_close_ups_are_drawn_the_same_again_and_every_word_comes(footage: Footage) -> None:
    close_ups = CloseUps(footage)
    first, again = (close_ups.draw(np.random.default_rng(3), 84, 84) for _ in range(2))
    assert (first.picture == again.picture).all() and first.main == again.main
    mains = [close_ups.draw(np.random.default_rng(seed), 56, 56) for seed in range(300)]
    words = [one.parts[one.main].box.named for one in mains if one.main is not None]
    counts = {
        word: sum(named is not None and named.word == word for named in words) for word in ("person", "car", "dog")
    }
    assert min(counts.values()) > 40 and sum(one.main is None for one in mains) > 25


def test_cut_outs_lie_where_a_photograph_shows_nothing_labelled(footage: Footage) -> None:
    with_a_person = tuple(replace(photo, boxes=photo.boxes[:1]) for photo in footage.photos if photo.boxes)
    close_ups = CloseUps(Footage(with_a_person, footage.cutouts))
    made = [close_ups.draw(np.random.default_rng(seed), 56, 56) for seed in range(120)]
    pasted_on = [one for one in made if one.main is not None and one.parts[one.main].alpha is not None]
    clear = [not _in_view(one.parts[0].box) for one in pasted_on]
    assert len(pasted_on) > 20 and np.mean(clear) > 0.9


def _in_view(box: Box) -> bool:
    return box.left < 1 and box.right > 0 and box.top < 1 and box.bottom > 0
