"""Expand a trained small checkpoint: add layers, widen feed-forward layers, use the current tokenizer; keep its
weights.

`python -m models.training.expand OLD NEW` makes NEW, with which `python app.py train` can continue.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from models.checkpoint.loader import load_checkpoint
from models.checkpoint.settings import STREAM_CONFIG_NAME, StreamSettings
from models.errors import SettingsError
from models.groundtruth.scenes import CORPUS
from models.training.blueprint import EMBEDDED_SIZES, Sizes, new_model, random_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_INNER = ("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight", "mlp.fc1.", "mlp.fc2.weight")
"""Parameters with a side of a feed-forward layer's inner width."""


def expand(
    old: Path, new: Path, sizes: Sizes, *, seed: int = 0, same_tokens: bool = False, max_cells: int | None = None
) -> Path:
    """Write `new`, a checkpoint of the given sizes that computes the same as `old`; returns its folder.

    Layers can be added and feed-forward layers widened. Additions have no effect at first: the last product of an added
    layer's attention and feed-forward part is zero, and so is that of added inner width (Net2Net, arXiv 1511.05641).
    The tokenizer is the current one, and tokens that `old` lacks keep random vectors; with same_tokens the tokenizer
    and the folder's other files are copied from `old`. max_cells: budget of the new checkpoint's grid; `None` keeps
    that of the copied or new files. Raises `SettingsError` where `old` has more layers or other widths.
    """
    layers = sizes.layers
    before = load_checkpoint(old, device="cpu", dtype="float32", progress=False)
    had = len(before.model.model.language_model.layers)
    if layers < had:
        raise SettingsError(f"layers {layers}: {old} has {had}, and layers cannot be removed; give {had} or more")
    if same_tokens:
        files = [file for file in old.iterdir() if file.suffix in (".json", ".jinja") and file.name != "config.json"]
        new.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, new / file.name)
        model = random_model(_tokenizer(new), sizes, seed)
    else:
        model = new_model(new, CORPUS(), sizes, seed)
    tokens, known = _tokenizer(new).get_vocab(), (before.tokenizer or _tokenizer(old)).get_vocab()
    weights = model.state_dict()
    seen = len(before.model.model.vision_model.encoder.layers)
    if sizes.vision_layers < seen:
        raise SettingsError(
            f"vision layers {sizes.vision_layers}: {old} has {seen}, and layers cannot be removed; give {seen} or more"
        )
    places = {
        "language_model.layers.": [number * layers // had for number in range(had)],
        "vision_model.encoder.layers.": [number * sizes.vision_layers // seen for number in range(seen)],
    }
    with torch.no_grad():
        for name, values in before.model.state_dict().items():
            name = _moved(name, places)
            if name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
                for token in tokens.keys() & known.keys():
                    weights[name][tokens[token]] = values[known[token]]
            elif weights[name].shape == values.shape:
                weights[name].copy_(values)
            elif any(part in name for part in _INNER) and _fits(values, weights[name]):
                if name.endswith(("down_proj.weight", "fc2.weight")):
                    weights[name].zero_()
                weights[name][tuple(map(slice, values.shape))] = values
            else:
                shapes = f"{tuple(values.shape)} in {old}, {tuple(weights[name].shape)} wanted"
                raise SettingsError(
                    f"{name}: {shapes}; only the number of layers and inner widths may differ; give other sizes"
                )
        for number in set(range(layers)) - set(places["language_model.layers."]):
            for part in ("self_attn.o_proj", "mlp.down_proj"):
                weights[f"model.language_model.layers.{number}.{part}.weight"].zero_()
        for number in set(range(sizes.vision_layers)) - set(places["vision_model.encoder.layers."]):
            for part in ("self_attn.out_proj", "mlp.fc2"):
                for values in ("weight", "bias"):
                    weights[f"model.vision_model.encoder.layers.{number}.{part}.{values}"].zero_()
    model.load_state_dict(weights)
    model.save_pretrained(new)
    if max_cells is not None:
        path = new / STREAM_CONFIG_NAME
        settings = replace(StreamSettings.of_checkpoint(new), max_cells=max_cells)
        path.write_text(json.dumps(settings.to_dict(), indent=2) + "\n", encoding="utf-8")
    return new


def _fits(values: torch.Tensor, among: torch.Tensor) -> bool:
    return values.ndim == among.ndim and all(a <= b for a, b in zip(values.shape, among.shape, strict=True))


def _moved(name: str, places: dict[str, list[int]]) -> str:
    """The new name of a parameter. places: for each stack of layers, by a part of its parameters' names, the new index
    of each layer."""
    for stack, numbers in places.items():
        head, _, tail = name.partition(stack)
        if tail:
            number, _, rest = tail.partition(".")
            return f"{head}{stack}{numbers[int(number)]}.{rest}"
    return name


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    made: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return made


def main() -> int:
    """Run the command line: expand a checkpoint and print the result."""
    parser = argparse.ArgumentParser(prog="python -m models.training.expand", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--layers", type=int, default=EMBEDDED_SIZES.layers)
    parser.add_argument(
        "--inner",
        type=int,
        default=EMBEDDED_SIZES.inner,
        help="inner width of the language model's feed-forward layers",
    )
    parser.add_argument(
        "--vision-inner",
        type=int,
        default=EMBEDDED_SIZES.vision_inner,
        help="inner width of the vision tower's feed-forward layers",
    )
    parser.add_argument("--vision-layers", type=int, default=EMBEDDED_SIZES.vision_layers)
    parser.add_argument("--max-cells", type=int, help="budget of merged cells per frame")
    parser.add_argument("--same-tokens", action="store_true", help="keep the tokenizer and the other files of OLD")
    arguments = parser.parse_args()
    sizes = Sizes(
        layers=arguments.layers,
        inner=arguments.inner,
        vision_inner=arguments.vision_inner,
        vision_layers=arguments.vision_layers,
    )
    made = expand(arguments.old, arguments.new, sizes, same_tokens=arguments.same_tokens, max_cells=arguments.max_cells)
    print(f"checkpoint: {made}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
