"""Tiny checkpoints, created once, and fixtures shared by tests of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.checkpoint.fake import make_checkpoint
from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.engine import Engine
from models.groundtruth.remarks import all_remarks
from models.training.blueprint import Sizes, new_model

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


def save_untrained(folder: Path, sizes: Sizes = TRAINEE, seed: int = 0) -> Path:
    """Write a checkpoint with random weights and a tokenizer like the embedded one's; returns its folder."""
    new_model(folder, list(all_remarks())[::40], sizes, seed=seed).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trainee(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint with random weights; a test that trains it takes a copy."""
    return load_checkpoint(save_untrained(tmp_path_factory.mktemp("blueprint")), device="cpu", progress=False)
