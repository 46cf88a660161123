"""How much work a picture is, so that a large one is encoded in pieces and other sessions run in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PART_PATCHES = 4096
"""Patches encoded per step: about as much work as a prefill of 1,024 tokens, at the sizes of 2B."""
PART_PATCHES_CPU = 1024
"""The same on a CPU, where a prefill's passes have 256 tokens."""


def part_cost(device: torch.device) -> int:
    """Most work of one step, in patches of small pictures."""
    return PART_PATCHES_CPU if device.type == "cpu" else PART_PATCHES


def picture_cost(num_patches: int, width: int) -> float:
    """Work of encoding a picture, in patches of small pictures.

    In each layer of width w, with an MLP of 4 w, a patch takes 24 w^2 operations in linear products, and in attention 4
    w for each patch that it attends to.
    """
    return num_patches * patch_cost(num_patches, width)


def patch_cost(num_patches: int, width: int) -> float:
    """Work of one patch of a picture of `num_patches`, in patches of small pictures."""
    return 1 + num_patches / (6 * width)
