"""Loads the pipelines of transformers for speech, on the CPU."""

from __future__ import annotations

from typing import Any

from models.errors import CheckpointError


def load_pipeline(task: str, name: str, *, what: str, instead: str) -> Any:
    """The pipeline of a checkpoint, by folder or hub name. Raises `CheckpointError`.

    what: what the checkpoint must be, as `a text-to-speech checkpoint`. instead: what to use if it is not.
    """
    import transformers

    make: Any = transformers.pipeline  # its overloads do not list every task
    try:
        return make(task, model=name, device="cpu")
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{name}: not {what} that can be loaded ({reason}); name a folder or a hub name, or use {instead}"
        ) from error
