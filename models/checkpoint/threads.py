"""How many processor threads torch works with. Called by whoever loads a checkpoint, before the first forward pass."""

from __future__ import annotations

import os
from collections.abc import Mapping

SMALL_MODEL_PARAMETERS = 50_000_000
"""Below this one thread does the work: a forward pass is hundreds of products of a few microseconds, and threads wait
for each other after each. On two busy cores the embedded model (2.2 million) took 28 ms a frame with one
thread and 140 with two: 2 s for half a minute of video against 14 to 19."""
CHOSEN_BY_THE_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def threads_for(
    num_parameters: int, device: str, wanted: int | None = None, environment: Mapping[str, str] = os.environ
) -> int | None:
    """How many threads suit a model on `device` (`cpu`, `cuda`, …); `None` for torch's own choice.

    wanted: what somebody asked for, which counts first; then what the environment says.

    >>> threads_for(2_000_000, "cpu", environment={})
    1
    >>> threads_for(2_000_000_000, "cpu", environment={}) is None
    True
    >>> threads_for(2_000_000, "cpu", environment={"OMP_NUM_THREADS": "2"}) is None
    True
    """
    if wanted is not None:
        return wanted
    is_chosen = any(environment.get(name) for name in CHOSEN_BY_THE_USER)
    return 1 if device == "cpu" and num_parameters < SMALL_MODEL_PARAMETERS and not is_chosen else None


def use_threads(num_parameters: int, device: str, wanted: int | None = None) -> None:
    """Have torch work with the threads that suit a model, in this process."""
    import torch

    num_threads = threads_for(num_parameters, device, wanted)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
