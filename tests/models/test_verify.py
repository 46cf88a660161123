"""`verify` passes on the reference cases and fails on all others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.errors import CheckpointDamaged, CheckpointNotFound
from models.verify import verify_folder

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_the_reference_cases_pass(name: str) -> None:
    report = verify_folder(GOLDEN / name)
    assert report.passed
    assert [case.name for case in report.cases] == ["stream_exact", "stream_noisy", "stream_resized", "stream_static"]
    assert all(case.mask_equal and case.greedy_equal and case.max_logit_error < 1e-4 for case in report.cases)
    told = json.loads(json.dumps(report.as_dict()))
    assert set(told) == {"cases", "passed"} and told["passed"] is True
    assert set(told["cases"][0]) == {"name", "mask_equal", "max_logit_error", "greedy_equal", "passed"}
    assert "4 of 4 cases passed" in report.as_table()


@pytest.fixture
def one_case(tmp_path: Path) -> Path:
    for file in ("config.json", "generation_config.json", "model.safetensors", "stream_static.safetensors"):
        shutil.copy(GOLDEN / "tied" / file, tmp_path / file)
    return tmp_path


def spoil(folder: Path, **edits: Callable[[Any], Any]) -> None:
    path = folder / "stream_static.safetensors"
    tensors = load_file(path)
    for name, edit in edits.items():
        tensors[name] = np.ascontiguousarray(edit(tensors[name]))
    save_file(tensors, path)


def flip_last(mask: np.ndarray) -> np.ndarray:
    mask[-1] = ~mask[-1]
    return mask


def shift_one(logits: np.ndarray) -> np.ndarray:
    logits[50, 3] += 2e-4
    return logits


def lose_one(logits: np.ndarray) -> np.ndarray:
    logits[50, 3] = np.nan
    return logits


def other_word(greedy: np.ndarray) -> np.ndarray:
    greedy[-1] += 1
    return greedy


@pytest.mark.parametrize(
    ("edits", "mask", "greedy"),
    [
        ({"compression_mask": flip_last}, False, True),
        ({"logits": shift_one}, True, True),
        ({"logits": lose_one}, True, True),
        ({"logits": lambda logits: logits[:-1]}, True, True),
        ({"greedy": other_word}, True, False),
    ],
)
def test_any_difference_fails(one_case: Path, edits: dict[str, Any], mask: bool, greedy: bool) -> None:
    spoil(one_case, **edits)
    report = verify_folder(one_case)
    assert not report.passed and not report.cases[0].passed
    assert (report.cases[0].mask_equal, report.cases[0].greedy_equal) == (mask, greedy)
    assert "FAILED" in report.as_table()
    assert "NaN" not in json.dumps(report.as_dict()) and "Infinity" not in json.dumps(report.as_dict())


def test_other_weights_fail(one_case: Path) -> None:
    path = one_case / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * np.float32(1.01)
    save_file(tensors, path)
    assert not verify_folder(one_case).passed


def test_a_folder_without_cases_has_nothing_to_verify(one_case: Path) -> None:
    (one_case / "stream_static.safetensors").unlink()
    with pytest.raises(CheckpointNotFound, match="stream_"):
        verify_folder(one_case)


def test_broken_cases_are_named(one_case: Path) -> None:
    path = one_case / "stream_static.safetensors"
    spoil(one_case, frames=lambda frames: frames[:-1])
    with pytest.raises(CheckpointDamaged, match="stream_static: frames and runs"):
        verify_folder(one_case)
    tensors = load_file(path)
    del tensors["logits"]
    save_file(tensors, path)
    with pytest.raises(CheckpointDamaged, match="has no logits"):
        verify_folder(one_case)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointDamaged, match="stream_static.safetensors: is not a whole"):
        verify_folder(one_case)
