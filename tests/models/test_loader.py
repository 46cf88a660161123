"""Checkpoints of both layouts load completely or not at all, with an error that says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint.fake import make_checkpoint
from models.checkpoint.layouts import Layout
from models.checkpoint.loader import describe_checkpoint, find_checkpoint, load_checkpoint
from models.checkpoint.settings import StreamSettings
from models.checkpoint.types import SpecialIds
from models.errors import CheckpointDamaged, CheckpointError, CheckpointNotFound, PromptError


@pytest.fixture
def folder(released_folder: Path, tmp_path: Path) -> Path:
    """A released folder that a test may damage."""
    return shutil.copytree(released_folder, tmp_path / "broken")


@pytest.fixture
def sharded(native_folder: Path, tmp_path: Path) -> Path:
    """A native folder in three shards that a test may damage."""
    return shutil.copytree(native_folder, tmp_path / "broken")


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content.update(values)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def logits_of(folder: Path, **options: Any) -> torch.Tensor:
    checkpoint = load_checkpoint(folder, device="cpu", **options)
    with torch.inference_mode():
        return checkpoint.model(input_ids=torch.arange(40)[None]).logits


@pytest.mark.parametrize("tied", [True, False])
def test_both_layouts_sharded_or_not_hold_one_model(tmp_path: Path, tied: bool) -> None:
    layouts: list[tuple[Layout, int]] = [("released", 1), ("released", 2), ("native", 1), ("native", 3)]
    found = []
    for layout, num_shards in layouts:
        made = make_checkpoint(tmp_path / f"{layout}{num_shards}", layout=layout, num_shards=num_shards, tied=tied)
        assert describe_checkpoint(made).layout == layout
        found.append(logits_of(made))
    assert all(torch.equal(found[0], other) for other in found[1:])
    assert found[0].std() > 0


def test_the_rope_base_of_the_released_configuration_is_kept(folder: Path) -> None:
    config = load_checkpoint(folder, device="cpu").model.config.get_text_config()
    assert config.rope_parameters["rope_theta"] == 1_000_000.0
    before = logits_of(folder)
    change(folder / "config.json", rope_theta=10_000.0)
    assert not torch.equal(before, logits_of(folder))


def test_everything_comes_from_the_checkpoints_own_files(folder: Path) -> None:
    change(folder / "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3], image_std=0.7, min_tokens=9, max_tokens=99)
    change(folder / "processor_config.json", video_merge_size=1)
    settings = StreamSettings(max_cells=20, border_px=2, fps=1.0)
    (folder / "stream_config.json").write_text(json.dumps(settings.to_dict()))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    checkpoint = load_checkpoint(folder, device="cpu")
    vision = checkpoint.vision
    assert (vision.mean, vision.std) == ((0.1, 0.2, 0.3), (0.7, 0.7, 0.7))
    assert (vision.min_tokens, vision.max_tokens, vision.video_merge, vision.border_px) == (9, 99, 1, 2)
    assert checkpoint.stream == settings
    assert checkpoint.tokenizer is not None
    assert checkpoint.special.im_end == checkpoint.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert {7, 8, checkpoint.special.im_end} <= checkpoint.stop
    assert checkpoint.dtype == torch.float32


@pytest.mark.parametrize(("layout", "mean"), [("released", 0.48145466), ("native", 0.5)])
def test_a_silent_preprocessor_file_means_its_classs_defaults(tmp_path: Path, layout: Layout, mean: float) -> None:
    folder = make_checkpoint(tmp_path / layout, layout=layout)
    change(folder / "preprocessor_config.json", image_mean=None, image_std=None)
    assert load_checkpoint(folder, device="cpu").vision.mean[0] == pytest.approx(mean)


def test_native_budgets_are_pixels_of_still_images(native_folder: Path) -> None:
    vision = load_checkpoint(native_folder, device="cpu").vision
    assert (vision.min_tokens, vision.max_tokens) == (16, 16384)


def test_vocab_and_merges_do_without_tokenizer_json(folder: Path, released_folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    text = "<|stream_start|>stream\nTime 12.5s: <image>\n<|stream_end|>A red circle 你好"
    whole, parts = (load_checkpoint(path, device="cpu").tokenizer for path in (released_folder, folder))
    assert whole is not None and parts is not None
    assert whole.encode(text) == parts.encode(text)


def test_lower_precision_is_taken_on_request(folder: Path) -> None:
    checkpoint = load_checkpoint(folder, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {torch.bfloat16}
    assert checkpoint.model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32


def test_nothing_is_left_on_no_device_and_nothing_wants_gradients(native_folder: Path) -> None:
    model = load_checkpoint(native_folder, device="cpu").model
    tensors = [*model.parameters(), *model.buffers()]
    assert not any(tensor.is_meta or tensor.requires_grad for tensor in tensors)
    assert not model.training


def drop_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))


def add_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.extra.weight": torch.zeros(2)}))


def reshape_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(5)}))


def quantize_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(32, dtype=torch.int8)}))


def rewrite(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def cut_in_the_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:50])


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def break_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("[]")


def other_patch(folder: Path) -> None:
    change(folder / "preprocessor_config.json", patch_size=16)


def other_type(folder: Path) -> None:
    change(folder / "config.json", hidden_size="wide")


def odd_heads(folder: Path) -> None:
    change(folder / "config.json", num_attention_heads=0)


def no_vision(folder: Path) -> None:
    change(folder / "config.json", vision_encoder_config=None)


def no_image_token(folder: Path) -> None:
    change(folder / "config.json", image_token_index=None)


def odd_window(folder: Path) -> None:
    (folder / "stream_config.json").write_text('{"window": {"vision_low": "much"}}')


def broken_stream_settings(folder: Path) -> None:
    (folder / "stream_config.json").write_text('{"fps": ')


def two_means(folder: Path) -> None:
    change(folder / "preprocessor_config.json", image_mean=[0.5, 0.5])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (drop_tensor, r"missing: model\.language_model\.layers\.1\.mlp\.up_proj\.weight"),
        (add_tensor, r"unexpected: model\.extra\.weight"),
        (reshape_tensor, r"wrong shapes: model\.norm\.weight is \[5\], config\.json asks for \[32\]"),
        (quantize_tensor, r"not plain floating point: model\.norm\.weight"),
        (cut_short, r"model\.safetensors: is not a whole"),
        (cut_in_the_header, r"model\.safetensors: is not a whole"),
        (empty_weights, r"model\.safetensors: is not a whole"),
        (break_config, r"config\.json: is not readable JSON"),
        (break_tokenizer, r"tokenizer cannot be read"),
        (other_patch, r"patch_size 16"),
        (other_type, r"config\.json holds a wrong value"),
        (odd_heads, r"config\.json"),
        (no_vision, r"vision_encoder_config"),
        (no_image_token, r"image_token"),
        (odd_window, r"stream_config\.json: a value has a wrong type"),
        (broken_stream_settings, r"stream_config\.json: is not readable JSON"),
        (two_means, r"three numbers"),
    ],
)
def test_damage_is_named(folder: Path, harm: Callable[[Path], None], said: str) -> None:
    harm(folder)
    with pytest.raises(CheckpointDamaged, match=said):
        load_checkpoint(folder, device="cpu")


def test_missing_and_damaged_shards_are_named(sharded: Path) -> None:
    second = sharded / "model-00002-of-00003.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointDamaged, match="model-00002-of-00003"):
        load_checkpoint(sharded, device="cpu")
    assert "model-00002-of-00003" in str(describe_checkpoint(sharded).problem)
    second.unlink()
    with pytest.raises(CheckpointDamaged, match="shards are missing: model-00002-of-00003"):
        load_checkpoint(sharded, device="cpu")


def test_an_index_cannot_lead_out_of_its_folder(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    change(index, weight_map={"lm_head.weight": "../elsewhere.safetensors"})
    with pytest.raises(CheckpointDamaged, match="outside its folder"):
        load_checkpoint(sharded, device="cpu")


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*never loaded.*safetensors"):
        load_checkpoint(folder, device="cpu")


def test_another_model_is_refused(folder: Path) -> None:
    change(folder / "config.json", model_type="llama")
    with pytest.raises(CheckpointError, match="model_type 'llama'"):
        load_checkpoint(folder, device="cpu")


def test_a_tokenizer_without_stream_tokens_is_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("<|stream_start|>", "<|other|>"), encoding="utf-8")
    change(folder / "tokenizer_config.json", added_tokens_decoder={})
    with pytest.raises(CheckpointError, match=r"no token <\|stream_start\|>"):
        load_checkpoint(folder, device="cpu")


def test_ids_alone_do_where_they_are_given(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.json"):
        (folder / name).unlink()
    with pytest.raises(CheckpointDamaged, match="neither tokenizer.json"):
        load_checkpoint(folder, device="cpu")
    assert load_checkpoint(folder, device="cpu", special=SpecialIds(1, 2, 3, 4, 5)).tokenizer is None


def test_a_released_template_must_know_the_stream_format(folder: Path) -> None:
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages[0]['content'] }}"}))
    with pytest.raises(PromptError, match="stream format"):
        load_checkpoint(folder, device="cpu")


def test_a_native_template_without_it_is_replaced_and_said_so(sharded: Path, caplog: pytest.LogCaptureFixture) -> None:
    (sharded / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    prompt = load_checkpoint(sharded, device="cpu").prompt
    prompt.check_pieces()
    assert "no stream format" in caplog.text


@pytest.mark.parametrize("name", ["/no/such/folder", "nowhere", "../nowhere", "a/b/c"])
def test_what_is_no_folder_and_no_hub_name_is_not_found(name: str) -> None:
    with pytest.raises(CheckpointNotFound, match="no such folder"):
        find_checkpoint(name)


def test_a_file_and_an_empty_folder_are_not_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"no config\.json"):
        find_checkpoint(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(CheckpointNotFound, match="is a file"):
        find_checkpoint(tmp_path / "clip.mp4")
    (tmp_path / "config.json").write_text('{"model_type": "videollama3_qwen2"}')
    with pytest.raises(CheckpointNotFound, match="has neither"):
        load_checkpoint(tmp_path)


def test_a_hub_name_that_is_not_here_is_not_found_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointNotFound, match="nobody/nothing: no such folder, and not available from the hub"):
        find_checkpoint("nobody/nothing", progress=False)
    assert "not available from this machine" in str(describe_checkpoint("nobody/nothing").problem)


def test_a_failed_load_can_be_retried(folder: Path, released_folder: Path) -> None:
    cut_short(folder)
    with pytest.raises(CheckpointDamaged):
        load_checkpoint(folder, device="cpu")
    shutil.copy(released_folder / "model.safetensors", folder)
    assert torch.equal(logits_of(folder), logits_of(released_folder))


@pytest.mark.parametrize("options", [{"device": "toaster"}, {"dtype": "int4"}, {"device": "mps:9"}])
def test_devices_and_dtypes_are_checked(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="auto, cpu|auto, float32|finds no"):
        load_checkpoint(folder, **options)


def test_a_summary_reads_headers_alone(native_folder: Path) -> None:
    summary = describe_checkpoint(native_folder)
    assert summary.problem is None and summary.layout == "native" and summary.dtype == "F32"
    stored = sum(path.stat().st_size for path in native_folder.glob("*.safetensors"))
    assert 0.8 * stored < summary.size_bytes < stored
    assert summary.num_parameters == summary.size_bytes // 4
