"""Options that several commands share."""

from __future__ import annotations

import typer

DEVICE = typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")
DTYPE = typer.Option(help="auto, float32, bfloat16 or float16.")
THREADS = typer.Option(help="Processor threads; by default 1 for a small model, otherwise torch's own number.")
JUMPS = typer.Option(
    help="Recordings whose timestamps jump back: refuse them (default), or follow the jump with a warning."
)
