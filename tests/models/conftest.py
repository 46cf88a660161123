"""Tiny checkpoints, made once, and what tests of sessions share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.checkpoint import Checkpoint, load_checkpoint
from models.engine import Engine
from models.fake import make_checkpoint


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
