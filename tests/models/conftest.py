"""Tiny checkpoints, made once, and what tests of sessions share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.checkpoint import Checkpoint, load_checkpoint
from models.engine import Engine
from models.fake import make_checkpoint
from models.training.blueprint import Sizes, new_model
from models.training.remarks import all_remarks

TRAINEE = Sizes(vision_hidden=24, vision_layers=1, vision_heads=2, hidden=32, layers=3, heads=4, kv_heads=2)
"""Sizes of the checkpoint `trainee`."""


@pytest.fixture(scope="session")
def released_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("released"), layout="released")


@pytest.fixture(scope="session")
def native_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("native"), layout="native", tied=False, num_shards=3)


@pytest.fixture(scope="session")
def checkpoint(released_folder: Path) -> Checkpoint:
    return load_checkpoint(released_folder, device="cpu")


@pytest.fixture
def engine(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = Engine(checkpoint)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def trainee(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """An untrained checkpoint with the tokenizer of the embedded one's kind; whoever trains it takes a copy."""
    folder: Path = tmp_path_factory.mktemp("blueprint")
    new_model(folder, list(all_remarks())[::40], TRAINEE, seed=0).save_pretrained(folder)
    return load_checkpoint(folder, device="cpu", progress=False)
