"""A trained small checkpoint in a larger one: more layers, today's tokenizer, the weights it has.

`python -m models.training.grow OLD NEW` makes NEW ready for `python app.py train` to go on with.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from models.checkpoint import load_checkpoint
from models.errors import SettingsError
from models.training.blueprint import Sizes, new_model
from models.training.scenes import CORPUS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def grow(old: Path, new: Path, *, layers: int, seed: int = 0) -> Path:
    """Write `new`, a checkpoint of `layers` language layers that computes what `old` computes; returns it.

    The added layers stand between the old ones and add nothing yet: the last product of their attention and of their
    feed-forward part is zero (Net2Net, arXiv 1511.05641). Tokens that `old` lacks keep their random vectors.
    Raises `SettingsError` where `old` has more layers or other widths.
    """
    before = load_checkpoint(old, device="cpu", dtype="float32", progress=False)
    had = len(before.model.model.language_model.layers)
    if layers < had:
        raise SettingsError(f"layers {layers}: {old} has {had}, and none are taken away; give {had} or more")
    model = new_model(new, CORPUS(), Sizes(layers=layers), seed)
    tokens, known = _tokenizer(new).get_vocab(), (before.tokenizer or _tokenizer(old)).get_vocab()
    weights = model.state_dict()
    places = [number * layers // had for number in range(had)]
    with torch.no_grad():
        for name, values in before.model.state_dict().items():
            name = _moved(name, places)
            if name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
                for token in tokens.keys() & known.keys():
                    weights[name][tokens[token]] = values[known[token]]
            elif weights[name].shape == values.shape:
                weights[name].copy_(values)
            else:
                shapes = f"{tuple(values.shape)} in {old}, {tuple(weights[name].shape)} wanted"
                raise SettingsError(f"{name}: {shapes}; only layers can be added; take a checkpoint of these widths")
        for number in set(range(layers)) - set(places):
            for part in ("self_attn.o_proj", "mlp.down_proj"):
                weights[f"model.language_model.layers.{number}.{part}.weight"].zero_()
    model.load_state_dict(weights)
    model.save_pretrained(new)
    return new


def _moved(name: str, places: list[int]) -> str:
    head, _, tail = name.partition("language_model.layers.")
    if not tail:
        return name
    number, _, rest = tail.partition(".")
    return f"{head}language_model.layers.{places[int(number)]}.{rest}"


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    made: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return made


def main() -> int:
    """Grow, and say what was made."""
    parser = argparse.ArgumentParser(prog="python -m models.training.grow", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--layers", type=int, default=Sizes().layers)
    arguments = parser.parse_args()
    print(f"checkpoint: {grow(arguments.old, arguments.new, layers=arguments.layers)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
