"""A grown checkpoint says what the smaller one said, and has room to learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.checkpoint import load_checkpoint
from models.codec import TextCodec
from models.errors import SettingsError
from models.training.grow import grow

EMBEDDED = Path(__file__).parents[2] / "models" / "embedded"


def test_added_layers_change_nothing_until_they_learn(tmp_path: Path) -> None:
    old = load_checkpoint(EMBEDDED, device="cpu", progress=False)
    had = len(old.model.model.language_model.layers)
    new = load_checkpoint(grow(EMBEDDED, tmp_path, layers=had + 2), device="cpu", progress=False)
    assert len(new.model.model.language_model.layers) == had + 2
    text = "The red circle starts moving left."
    before, after = TextCodec(old).encode(text), TextCodec(new).encode(text)
    with torch.no_grad():
        said = [one.model(input_ids=torch.tensor([ids])).logits[0] for one, ids in ((old, before), (new, after))]
    torch.testing.assert_close(said[1][:, after], said[0][:, before], atol=1e-5, rtol=0)


def test_layers_are_not_taken_away(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none are taken away"):
        grow(EMBEDDED, tmp_path, layers=1)
