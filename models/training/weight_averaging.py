"""Two checkpoints of one training as one: weights between those before and those after.

What a stretch of training cost on what it did not show is mostly won back so, and what it taught mostly stays (WiSE-FT,
arXiv 2109.01903). `python -m models.training.weight_averaging BEFORE AFTER NEW --share 0.7` writes NEW.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch

from models.checkpoint.loader import load_checkpoint
from models.errors import SettingsError


def blend(before: Path, after: Path, new: Path, *, share: float) -> Path:
    """Write `new`: `after`, each weight `share` of the way from `before` to it; returns it.

    Raises `SettingsError` for a share beyond 0 to 1, and where the two differ in a weight's name or shape.
    """
    if not 0.0 <= share <= 1.0:
        raise SettingsError(f"share {share:g}: 0 gives the first checkpoint, 1 the second; give something between")
    first, second = (load_checkpoint(path, device="cpu", dtype="float32", progress=False) for path in (before, after))
    weights, others = second.model.state_dict(), first.model.state_dict()
    shapes, before_shapes = ({name: tuple(values.shape) for name, values in each.items()} for each in (weights, others))
    if shapes != before_shapes:
        odd = sorted(set(shapes.items()) ^ set(before_shapes.items()))[0]
        raise SettingsError(f"{odd[0]} {odd[1]}: not in both {before} and {after}; grow the smaller one first")
    second.model.load_state_dict({name: torch.lerp(others[name], values, share) for name, values in weights.items()})
    shutil.copytree(after, new, dirs_exist_ok=True)
    second.model.save_pretrained(new)
    return new


def main() -> int:
    """Blend, and say what was made."""
    parser = argparse.ArgumentParser(prog="python -m models.training.weight_averaging", description=__doc__)
    for name in ("before", "after", "new"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--share", type=float, default=0.5)
    arguments = parser.parse_args()
    print(f"checkpoint: {blend(arguments.before, arguments.after, arguments.new, share=arguments.share)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
