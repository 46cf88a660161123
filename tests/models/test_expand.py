"""An expanded checkpoint gives the smaller one's outputs and has trainable new weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.checkpoint.loader import load_checkpoint
from models.errors import SettingsError
from models.network.network import VisionEncoder
from models.session.tokenizer import StreamTokenizer
from models.training.blueprint import Sizes
from models.training.expand import expand
from streaming.difffp.live import CellGrid

EMBEDDED = Path(__file__).parents[2] / "models" / "embedded"


def _inner_widths(folder: Path) -> tuple[int, int]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config["text_config"]["intermediate_size"], config["vision_config"]["intermediate_size"]


def test_what_is_added_changes_nothing_until_it_learns(tmp_path: Path) -> None:
    old = load_checkpoint(EMBEDDED, device="cpu", progress=False)
    had, (inner, vision_inner) = len(old.model.model.language_model.layers), _inner_widths(EMBEDDED)
    sizes = Sizes(layers=had + 2, inner=inner + 64, vision_inner=vision_inner + 128)
    new = load_checkpoint(expand(EMBEDDED, tmp_path, sizes), device="cpu", progress=False)
    assert _inner_widths(tmp_path) == (inner + 64, vision_inner + 128)
    assert len(new.model.model.language_model.layers) == had + 2
    text = "The red circle starts moving left."
    before, after = StreamTokenizer(old).encode(text), StreamTokenizer(new).encode(text)
    with torch.no_grad():
        said = [one.model(input_ids=torch.tensor([ids])).logits[0] for one, ids in ((old, before), (new, after))]
    torch.testing.assert_close(said[1][:, after], said[0][:, before], atol=1e-5, rtol=0)
    grid, patches = CellGrid(rows=2, cols=3, merge=2, patch_px=14), torch.randn(24, 588)
    seen = [VisionEncoder.of(one.model).encode(patches, grid) for one in (old, new)]
    torch.testing.assert_close(seen[1], seen[0], atol=1e-5, rtol=0)


def test_a_tower_grows_and_asks_for_a_larger_grid(tmp_path: Path) -> None:
    old = load_checkpoint(EMBEDDED, device="cpu", progress=False)
    had = len(old.model.model.vision_model.encoder.layers)
    inner, vision_inner = _inner_widths(EMBEDDED)
    sizes = Sizes(inner=inner, vision_inner=vision_inner, vision_layers=had + 2)
    new = load_checkpoint(
        expand(EMBEDDED, tmp_path, sizes, same_tokens=True, max_cells=96), device="cpu", progress=False
    )
    assert len(new.model.model.vision_model.encoder.layers) == had + 2
    assert (new.stream.max_cells, new.stream.window) == (96, old.stream.window)
    grid, patches = CellGrid(rows=2, cols=3, merge=2, patch_px=14), torch.randn(24, 588)
    seen = [VisionEncoder.of(one.model).encode(patches, grid) for one in (old, new)]
    torch.testing.assert_close(seen[1], seen[0], atol=1e-5, rtol=0)


def test_layers_are_not_taken_away(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="layers cannot be removed"):
        expand(EMBEDDED, tmp_path, Sizes(layers=1))
    inner, vision_inner = _inner_widths(EMBEDDED)
    with pytest.raises(SettingsError, match="vision layers 2: .* layers cannot be removed"):
        expand(EMBEDDED, tmp_path, Sizes(inner=inner, vision_inner=vision_inner, vision_layers=2))
