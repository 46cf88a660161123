"""Small models run on one thread unless the user chooses otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.checkpoint.loader import load_checkpoint
from models.checkpoint.threads import SMALL_MODEL_PARAMETERS, threads_for


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("num_parameters", "device", "wanted", "environment", "expected"),
    [
        (2_000_000, "cpu", None, {}, 1),
        (SMALL_MODEL_PARAMETERS, "cpu", None, {}, None),
        (2_000_000, "cuda", None, {}, None),
        (2_000_000, "cpu", None, {"OMP_NUM_THREADS": "2"}, None),
        (2_000_000, "cpu", None, {"MKL_NUM_THREADS": "2"}, None),
        (2_000_000, "cpu", 3, {"OMP_NUM_THREADS": "2"}, 3),
        (2_000_000_000, "cpu", 3, {}, 3),
    ],
)
def test_who_decides(
    num_parameters: int, device: str, wanted: int | None, environment: dict[str, str], expected: int | None
) -> None:
    assert threads_for(num_parameters, device, wanted, environment) == expected


def test_loading_a_small_checkpoint_settles_it(released_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(2)
    load_checkpoint(released_folder, device="cpu")
    assert torch.get_num_threads() == 1
    load_checkpoint(released_folder, device="cpu", threads=2)
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    load_checkpoint(released_folder, device="cpu")
    assert torch.get_num_threads() == 2, "the environment's choice stays"
