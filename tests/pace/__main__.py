"""Measures how fast a session is with random weights: `python -m tests.pace 2b`. Ends with 2 for bad input.

Two sessions go through the project's own steps: in one every cell of every frame is kept, in the other few are. Each
first fills its window; what is reported came afterwards. A GPU is waited for wherever a time is read.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
from typing import Any

import torch
import transformers

from models.checkpoint.loader import Checkpoint
from models.engine import Engine
from models.errors import ModelError
from tests.pace.meter import Meter
from tests.pace.report import summed_up, table
from tests.pace.sizes import SIZES, TINY, random_checkpoint
from tests.pace.stream import FPS, NUM_CELLS, WINDOW, Life, Picture, num_filling, render

USUAL_FRAMES = {TINY: 120, "2b": 240, "7b": 240}
FEWEST_FRAMES = 10
MOST_FRAMES = 12_000
PICTURES: tuple[Picture, ...] = ("whole", "few")


def main(given: list[str] | None = None) -> int:
    """Measure one size and say what came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.pace", description=__doc__)
    parser.add_argument("size", nargs="?", choices=SIZES, default=TINY, help="which checkpoint's sizes (default tiny)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    parser.add_argument("--frames", type=int, metavar="N", help="frames with a full window, for each of both sessions")
    parser.add_argument("--seed", type=int, default=0, help="of weights and scene (default 0)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    arguments = parser.parse_args(given)
    num_frames = USUAL_FRAMES[arguments.size] if arguments.frames is None else arguments.frames
    if not FEWEST_FRAMES <= num_frames <= MOST_FRAMES:
        parser.error(f"--frames {num_frames}: from {FEWEST_FRAMES} to {MOST_FRAMES}; 240 is usual")
    try:
        values = measure(arguments.size, device=arguments.device, num_frames=num_frames, seed=arguments.seed)
    except ModelError as error:
        parser.error(str(error))
    print(json.dumps(values, indent=1) if arguments.json else table(values))
    return 0


def measure(size: str, *, device: str, num_frames: int, seed: int) -> dict[str, Any]:
    """Everything as plain JSON values. Times in milliseconds, memory in bytes, unless the name says otherwise."""
    began_s = time.perf_counter()
    checkpoint = random_checkpoint(size, device=device, seed=seed)
    meter = Meter(checkpoint.device)
    pictures = render(num_filling(checkpoint) + num_frames + 2, seed)
    engine = Engine(checkpoint, now=meter.now)
    try:
        Life(engine, meter, pictures, num_frames).warm_up()
        found: dict[str, Any] = {}
        for name in PICTURES:
            gc.collect()  # the session before this one leaves the device's memory
            found[name] = summed_up(Life(engine, meter, pictures, num_frames).live(name))
    finally:
        engine.close()
    return {
        "size": size,
        **_where(checkpoint),
        "seed": seed,
        "num_parameters": engine.info.num_parameters,
        "cells": NUM_CELLS,
        "media_fps": FPS,
        "vision_low": WINDOW.vision_low,
        "vision_high": WINDOW.vision_high,
        **found,
        "seconds": round(time.perf_counter() - began_s, 1),
    }


def _where(checkpoint: Checkpoint) -> dict[str, str]:
    device = checkpoint.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": str(device),
        "device_name": name,
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
