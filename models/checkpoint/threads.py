"""The number of CPU threads for torch. Called before the first forward pass, by the code that loads a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping

SMALL_MODEL_PARAMETERS = 50_000_000
"""A model with fewer parameters runs on one thread: a forward pass is hundreds of products of a few microseconds, after
each of which the threads wait for each other. On two busy cores the embedded model (2.2 million) took 28 ms a frame
with one thread and 140 ms with two; half a minute of video took 2 s against 14 to 19 s."""
CHOSEN_BY_THE_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def threads_for(
    num_parameters: int, device: str, wanted: int | None = None, environment: Mapping[str, str] = os.environ
) -> int | None:
    """The number of threads that suits a model on `device` (`cpu`, `cuda`, …); `None` for torch's own choice.

    wanted: the user's number, which takes precedence over the environment variables.

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
    """Set torch's number of threads for a model, in this process."""
    import torch

    num_threads = threads_for(num_parameters, device, wanted)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
