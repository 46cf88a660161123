"""The `train --finetune` command: trains LoRA adapters for a checkpoint on a user's recordings."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from assistant.commands.terminal import is_terminal
from assistant.evaluation.transcripts import read_recordings
from models.checkpoint.loader import load_checkpoint
from models.training.lora import FineTuning, fine_tune


def fine_tune_on(folder: Path, clips: Path, model: str, plan: Path | None, minutes: float | None, threads: int) -> Path:
    """Train LoRA adapters on the recordings and transcripts of folder `clips`; return the new checkpoint's path."""
    settings = FineTuning() if plan is None else FineTuning.from_yaml(plan)
    recordings = read_recordings(clips)
    checkpoint = load_checkpoint(model, progress=is_terminal(), threads=threads)
    with tqdm(unit="step", disable=not is_terminal()) as bar:

        def on_step(step: int, total: int, loss: float) -> None:
            bar.total, bar.n = total, step
            bar.set_postfix(loss=f"{loss:.3f}")

        return fine_tune(folder, recordings, checkpoint, settings, minutes=minutes, on_step=on_step)
