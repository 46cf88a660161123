"""What a start with the embedded checkpoint does without: classes of transformers and libraries of other commands."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint.fake import make_checkpoint
from models.checkpoint.file_tokenizer import FileTokenizer, is_plain
from models.checkpoint.layouts import build_config, stored_config
from models.checkpoint.loader import EMBEDDED_FOLDER, Checkpoint, load_checkpoint
from models.checkpoint.shapes import parameter_shapes
from models.checkpoint.weights import LoadedWeights

ROOT = Path(__file__).parents[2]
NOT_IMPORTED = {
    "transformers", "transformers.models", "torch._dynamo", "torch.distributed.tensor", "gradio", "matplotlib", "scipy",
    "pandas", "sounddevice",
}  # fmt: skip
RUN = """
import contextlib, io, json, sys
import app
with contextlib.redirect_stdout(io.StringIO()):
    code = app.run(["replay", "synthetic:7", "--end", "1"])
print(json.dumps([code, sorted(sys.modules)]))
"""
TEXTS = (
    "<|stream_start|>stream\nTime 12.5s: <image>\n<|stream_end|>",
    "<|im_start|>user\nWhat is on the left?<|im_end|>\n<|im_start|>assistant\n",
    "Ein Straßencafé, 42 % größer; 日本語 and\ttabs  and spaces ",
    "",
)


def test_replay_imports_neither_the_models_class_nor_what_only_other_commands_use() -> None:
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, cwd=ROOT, check=True)
    code, modules = json.loads(done.stdout)
    assert code == 0 and {"torch", "tokenizers"} <= set(modules)
    assert sorted(NOT_IMPORTED & set(modules)) == []


@pytest.mark.parametrize("layout", ["released", "native"])
@pytest.mark.parametrize("tied", [True, False])
def test_shapes_are_those_of_transformers_own_class(tmp_path: Path, layout: Any, tied: bool) -> None:
    folder = make_checkpoint(tmp_path / "made", layout=layout, tied=tied)
    config = build_config(json.loads((folder / "config.json").read_text()), has_output_head=not tied)
    with torch.device("meta"):
        model = LoadedWeights(config, {}, torch.device("meta")).model
    assert parameter_shapes(config) == {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


def test_the_embedded_files_say_all_that_transformers_would() -> None:
    values = json.loads((EMBEDDED_FOLDER / "config.json").read_text())
    plain, full = stored_config(values), build_config(values, has_output_head=False)
    assert plain is not None and parameter_shapes(plain) == parameter_shapes(full)
    for part in ("text_config", "vision_config"):
        stored = vars(getattr(plain, part))
        own = {name: getattr(getattr(full, part), name) for name in stored if hasattr(getattr(full, part), name)}
        assert {name: stored[name] for name in own} == own


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": None},
        {"rms_norm_eps": "small"},
        {"model_type": "llama"},
        {"layer_types": ["sliding_attention"]},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
    ],
)
def test_other_configurations_are_left_to_transformers(change: dict[str, Any]) -> None:
    values = json.loads((EMBEDDED_FOLDER / "config.json").read_text())
    assert stored_config({**values, "text_config": {**values["text_config"], **change}}) is None


def test_a_tokenizer_read_from_its_file_gives_what_transformers_gives() -> None:
    from transformers import AutoTokenizer

    assert is_plain(EMBEDDED_FOLDER)
    mine, theirs = FileTokenizer.of_folder(EMBEDDED_FOLDER), AutoTokenizer.from_pretrained(str(EMBEDDED_FOLDER))
    assert len(mine) == len(theirs) and mine.eos_token_id == theirs.eos_token_id
    assert mine.get_vocab() == theirs.get_vocab()
    for text in TEXTS:
        ids = mine.encode(text, add_special_tokens=False)
        assert ids == theirs.encode(text, add_special_tokens=False)
        for skip in (True, False):
            options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": False}
            assert mine.decode(ids, **options) == theirs.decode(ids, **options)


def test_a_tokenizer_with_tokens_of_its_configuration_alone_is_left_to_transformers(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((EMBEDDED_FOLDER / name).read_bytes())
    assert is_plain(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"]["999"] = {"content": "<more>", "special": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert not is_plain(tmp_path)


def test_the_model_shares_its_memory_with_the_tensors_that_were_loaded() -> None:
    checkpoint: Checkpoint = load_checkpoint(device="cpu", threads=1)
    before = dict(checkpoint.weights.named_parameters())
    after = dict(checkpoint.model.named_parameters())
    assert set(before) == set(after)
    assert all(before[name].data_ptr() == after[name].data_ptr() for name in before)
    assert not checkpoint.model.training and not any(parameter.requires_grad for parameter in after.values())
    again = replace(checkpoint, weights=LoadedWeights.of(checkpoint.model, checkpoint.device))
    assert again.model is checkpoint.model and again.weights.num_values == checkpoint.weights.num_values
