"""Pictures of real things for the encoder: labels of their cells, batches of them, and a stage that learns them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import SettingsError
from models.training import named_report
from models.training.aux_heads import AuxHeads
from models.training.cell_targets import UNSURE, Stills
from models.training.data import Mixture
from models.training.losses import pooled_over
from models.training.named_pictures import GROUP_ANSWERS, WORD_ANSWERS, NamedPictures, main_of, make_named, names_on
from models.training.stores import StillStore
from models.training.train import read_plan, train, with_footage
from models.vision import VisionSettings
from streaming.difffp.live import CellGrid
from streaming.scenes.closeups import CloseUp, CloseUps, Part
from streaming.scenes.footage import Box, Named, read_footage
from tests.footage import CAR, DOG, PERSON, write_footage
from tests.models.conftest import save_untrained

VISION = VisionSettings(border_px=2, min_tokens=4)
PICTURE = np.zeros((84, 112, 3), np.uint8)
GRID = CellGrid(rows=3, cols=4, merge=2, patch_px=14)
PERSON_ANSWERS = (GROUP_ANSWERS.index("people"), WORD_ANSWERS.index("person"))
COLOURS = {"person": PERSON, "car": CAR, "dog": DOG}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_footage(tmp_path_factory.mktemp("named") / "made")


def _shown(*parts: Part, main: int | None = None, seen_whole: bool = True) -> CloseUp:
    return CloseUp(PICTURE, parts, main, seen_whole)


def _box(left: float, top: float, right: float, bottom: float, word: str | None = "person") -> Part:
    group = {"person": "people", "car": "vehicles", "dog": "animals"}.get(word or "", "people")
    return Part(Box(left, top, right, bottom, None if word is None else Named(group, word)))


def test_a_box_names_the_cells_of_its_middle_and_leaves_its_rim_in_doubt() -> None:
    names, main = names_on(_shown(_box(0.0, 0.0, 1.0, 1.0), main=0), GRID)
    cells = names.reshape(3, 4, 2)
    assert (cells[:, 1:3] == PERSON_ANSWERS).all() and (cells[:, [0, 3]] == UNSURE).all()
    assert main.reshape(3, 4)[:, 1:3].all() and main.sum() == 6
    cells = names_on(_shown(_box(0.25, 0.0, 0.75, 1.0)), GRID)[0].reshape(3, 4, 2)
    assert (cells[1, 1:3] == PERSON_ANSWERS).all() and (cells[[0, 2], 1:3] == UNSURE).all()
    assert (cells[:, [0, 3]] == 0).all()
    small = names_on(_shown(_box(0.30, 0.40, 0.45, 0.60), main=0), GRID)
    assert (small[0].reshape(3, 4, 2)[1, 1] == PERSON_ANSWERS).all() and small[1].sum() == 1


def test_what_is_in_doubt_stays_so() -> None:
    cells = names_on(_shown(_box(0.25, 0.0, 0.75, 1.0, None)), GRID)[0].reshape(3, 4, 2)
    assert (cells[:, 1:3] == UNSURE).all() and (cells[:, 0] == 0).all()
    cells = names_on(_shown(_box(0.0, 0.0, 1.0, 1.0), seen_whole=False), GRID)[0].reshape(3, 4, 2)
    assert (cells[:, [0, 3]] == UNSURE).all() and (cells[:, 1:3] == PERSON_ANSWERS).all()
    both = _shown(_box(0.0, 0.0, 1.0, 1.0), _box(0.0, 0.0, 1.0, 1.0, "car"))
    assert (names_on(both, GRID)[0] == UNSURE).all()


def test_a_group_may_be_known_without_its_word() -> None:
    hand = Part(Box(0, 0, 1, 1, Named("people", "")))
    assert main_of(_shown(hand, main=0)) == (PERSON_ANSWERS[0], UNSURE)
    assert (names_on(_shown(hand), GRID)[0][5] == (PERSON_ANSWERS[0], UNSURE)).all()
    assert main_of(_shown()) == (0, 0) and main_of(_shown(hand)) == (UNSURE, UNSURE)
    assert main_of(_shown(seen_whole=False)) == (UNSURE, UNSURE)


def test_a_cut_out_lies_over_what_is_behind_it() -> None:
    alpha = np.zeros((84, 112), np.float32)
    alpha[28:56, 28:84] = 1.0
    over = Part(Box(0.25, 1 / 3, 0.75, 2 / 3, Named("animals", "dog")), alpha)
    names, main = names_on(_shown(_box(0.0, 0.0, 1.0, 1.0), over, main=1), GRID)
    dog = names[:, 1].reshape(3, 4) == WORD_ANSWERS.index("dog")
    assert dog[1, 1:3].all() and dog.sum() == 2 and (main.reshape(3, 4) == dog).all()
    _, behind = names_on(_shown(_box(0.0, 0.0, 1.0, 1.0), over, main=0), GRID)
    assert not (behind.reshape(3, 4) & dog).any() and behind.any()


def alike(hues: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Cosine of what makes each of `hues` `[num_cells, 3]` no grey, and of what makes `colour` none."""
    off_grey, wanted = hues - hues.mean(axis=1, keepdims=True), colour - colour.mean()
    return off_grey @ wanted / (np.linalg.norm(off_grey, axis=1) * np.linalg.norm(wanted) + 1e-9)


def test_cells_named_in_pictures_have_the_colour_of_what_is_there(folder: Path) -> None:
    close_ups = CloseUps(read_footage(folder))
    right = total = 0
    for seed in range(16):
        made = make_named(seed, close_ups, VISION, 96, ((336, 224),))
        assert made.frames.shape[1:3] == (made.grid.rows * 28, made.grid.cols * 28)
        rows, cols = made.grid.rows, made.grid.cols
        cells = made.frames.reshape(-1, rows, 28, cols, 28, 3)[:, :, 6:22, :, 6:22].mean(axis=(2, 4))
        for word, colour in COLOURS.items():
            of_word = made.cell_names[..., 1] == WORD_ANSWERS.index(word)
            hues = cells.reshape(-1, rows * cols, 3)[of_word]
            grey = np.ptp(hues, axis=1) < 25  # pictures taken at night have no colour
            right += int((alike(hues, np.array(colour)) > 0.7)[~grey].sum())
            total += int((~grey).sum())
    assert total > 120 and right / total > 0.9


# A stage of training.


def test_named_pictures_need_a_folder(trainee: object) -> None:
    with pytest.raises(SettingsError, match=r"named_share 0\.5: .* train with --footage DIR"):
        StillStore(trainee, Mixture(stills=True, named_share=0.5), 1)  # type: ignore[arg-type]


def test_still_lifes_and_named_pictures_are_mixed_and_come_again(trainee: object, folder: Path) -> None:
    mixture = Mixture(stills=True, named_share=0.6, footage=str(folder), view_sizes=((112, 84),))
    store = StillStore(trainee, mixture, 3)  # type: ignore[arg-type]
    kinds = [type(store.get(index)) for index in range(16)]
    assert 4 <= kinds.count(NamedPictures) <= 14 and kinds.count(Stills) == 16 - kinds.count(NamedPictures)
    index = kinds.index(NamedPictures)
    first, again = store.get(index), StillStore(trainee, mixture, 3).get(index)  # type: ignore[arg-type]
    assert isinstance(first, NamedPictures) and isinstance(again, NamedPictures)
    assert (first.frames == again.frames).all() and (first.cell_names == again.cell_names).all()


def test_names_are_learnt_from_pictures_and_the_heads_are_taken_on(tmp_path: Path, folder: Path) -> None:
    plan = tmp_path / "plan.yaml"
    stage = "num_steps: 6, learning_rate: 0.004, warmup_steps: 1, final_share: 1.0, language_weight: 0.0"
    shared = "trains: [vision, projector], mixture: {stills: true, view_sizes: [[112, 84]]"
    plan.write_text(
        "seed: 5\nbatch_size: 3\nnew_per_batch: 1\nstages:\n"
        f"  - {{name: before, {stage}, {shared}}}}}\n"
        f"  - {{name: names, {stage.replace('6', '16')}, names_weight: 2.0, {shared}, named_share: 0.8}}}}\n",
        encoding="utf-8",
    )
    with pytest.raises(SettingsError, match="train with --footage DIR"):
        train(tmp_path / "none", plan, workers=0, say=lambda line: None)
    save_untrained(tmp_path / "out" / "model")
    train(tmp_path / "out", plan, footage=folder, workers=0, say=lambda line: None)
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    of_names = [line["names"] for line in lines if line["stage"] == "names"]
    assert of_names[-1] < of_names[0] and all(line["names"] is None for line in lines if line["stage"] == "before")
    assert named_report.main([str(tmp_path / "out"), "--footage", str(folder)]) == 0
    values = json.loads((tmp_path / "out" / "names.jsonl").read_text(encoding="utf-8"))
    assert set(values["groups"]["by_answer"]) == {"nothing", "people", "vehicles"}
    assert values["words"]["said_of"][1] == sum(values["words"]["by_answer"][word][1] for word in ("person", "car"))


def test_every_picture_weighs_its_own_cells() -> None:
    tokens = torch.arange(12.0).view(2, 3, 2)
    cells = torch.tensor([[True, False, True], [False, False, False]])
    assert pooled_over(tokens, cells).tolist() == [[2.0, 3.0], [0.0, 0.0]]


def test_heads_of_an_earlier_stage_are_taken_without_names() -> None:
    plain, named = AuxHeads(24, 16), AuxHeads(24, 16, named=True)
    fresh = {name: values.clone() for name, values in named.state_dict().items()}
    named.load_known(plain.state_dict())
    taken = named.state_dict()
    assert all((taken[name] == values).all() for name, values in plain.state_dict().items())
    assert all((taken[name] == fresh[name]).all() for name in fresh if name.startswith(("names", "mains")))
    plain.load_known(taken)


def test_a_plan_without_footage_is_left_as_it_is() -> None:
    from models.training.train import PLAN_PATH

    plan = read_plan(PLAN_PATH.with_name("names.yaml"))
    assert with_footage(plan, None) is plan
    assert {mixture.footage for _, mixture in with_footage(plan, Path("f")).stages} == {"f"}
    assert plan.stages[0][1].view_sizes[0] == (224, 140) and plan.stages[1][0].names_weight > 0
