"""Average two checkpoints of one training: interpolate each weight between a checkpoint before and one after.

This recovers most of what a section of training forgot, and keeps most of what it taught (WiSE-FT, arXiv 2109.01903).
`python -m models.training.weight_averaging BEFORE AFTER NEW --share 0.7` writes NEW.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch

from models.checkpoint.loader import load_checkpoint
from models.errors import SettingsError


def average_weights(before: Path, after: Path, new: Path, *, share: float) -> Path:
    """Write `new`, with each weight `share` of the way from `before` to `after`; returns its folder.

    Raises `SettingsError` for a share outside 0 to 1, and where the two differ in a weight's name or shape.
    """
    if not 0.0 <= share <= 1.0:
        raise SettingsError(f"share {share:g}: 0 gives the first checkpoint, 1 the second; give a value between")
    first, second = (load_checkpoint(path, device="cpu", dtype="float32", progress=False) for path in (before, after))
    weights, others = second.model.state_dict(), first.model.state_dict()
    shapes, before_shapes = ({name: tuple(values.shape) for name, values in each.items()} for each in (weights, others))
    if shapes != before_shapes:
        odd = sorted(set(shapes.items()) ^ set(before_shapes.items()))[0]
        raise SettingsError(f"{odd[0]} {odd[1]}: not in both {before} and {after}; expand the smaller one first")
    second.model.load_state_dict({name: torch.lerp(others[name], values, share) for name, values in weights.items()})
    shutil.copytree(after, new, dirs_exist_ok=True)
    second.model.save_pretrained(new)
    return new


def main() -> int:
    """Run the command line: average two checkpoints and print the result."""
    parser = argparse.ArgumentParser(prog="python -m models.training.weight_averaging", description=__doc__)
    for name in ("before", "after", "new"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--share", type=float, default=0.5)
    arguments = parser.parse_args()
    print(f"checkpoint: {average_weights(arguments.before, arguments.after, arguments.new, share=arguments.share)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
