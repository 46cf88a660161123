"""The average of two checkpoints of one training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.checkpoint.loader import load_checkpoint
from models.errors import SettingsError
from models.training.blueprint import Sizes
from models.training.weight_averaging import average_weights
from tests.models.conftest import save_untrained

SMALL = Sizes(vision_hidden=24, vision_layers=1, vision_heads=2, hidden=32, layers=1, heads=4, kv_heads=2)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(folder, device="cpu", dtype="float32", progress=False).model.state_dict())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folders = [tmp_path_factory.mktemp(name) for name in ("before", "after")]
    for seed, folder in enumerate(folders):
        save_untrained(folder, SMALL, seed)
    return folders[0], folders[1]


def test_each_weight_lies_so_far_between_the_two(pair: tuple[Path, Path], tmp_path: Path) -> None:
    made = _weights(average_weights(*pair, tmp_path / "new", share=0.7))
    first, second = map(_weights, pair)
    assert made.keys() == first.keys()
    for name, values in made.items():
        torch.testing.assert_close(values, 0.3 * first[name] + 0.7 * second[name])
    assert {path.name for path in (tmp_path / "new").iterdir()} >= {path.name for path in pair[1].iterdir()}


def test_its_ends_are_the_two(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for share, folder in ((0.0, pair[0]), (1.0, pair[1])):
        made, wanted = _weights(average_weights(*pair, tmp_path / f"{share:g}", share=share)), _weights(folder)
        for name, values in made.items():
            torch.testing.assert_close(values, wanted[name])


def test_what_cannot_be_blended_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="between"):
        average_weights(*pair, tmp_path / "new", share=1.5)
    wide = tmp_path / "wide"
    save_untrained(wide, Sizes(hidden=64, layers=1))
    with pytest.raises(SettingsError, match="not in both"):
        average_weights(wide, pair[1], tmp_path / "new", share=0.5)
    assert not (tmp_path / "new").exists()
