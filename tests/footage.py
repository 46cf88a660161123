"""Makes a small folder of labelled photographs and cut-outs for tests, of plain colours instead of real things."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE_PX = (320, 240)
GROUND, PERSON, CAR, DOG = (90, 100, 90), (200, 60, 60), (60, 60, 220), (230, 200, 40)


def write_footage(folder: Path, *, photos: int = 24, cutouts: int = 12) -> Path:
    """A folder in the layout of docs/footage.md: people on the left, cars on the right, nothing on every fourth."""
    (folder / "photos").mkdir(parents=True)
    (folder / "cutouts").mkdir()
    records, cut = [], []
    for number in range(photos):
        picture = np.full((SIZE_PX[1], SIZE_PX[0], 3), GROUND, np.uint8)
        boxes: list[dict[str, Any]] = []
        if number % 4:
            picture[48:192, 32:96] = PERSON
            picture[120:192, 192:288] = CAR
            boxes = [
                {"label": "person", "box": [0.1, 0.2, 0.3, 0.8], "score": 0.9},
                {"label": "car", "box": [0.6, 0.5, 0.9, 0.8], "score": 0.8},
            ]
        name = f"photos/{number:02d}.png"
        Image.fromarray(picture).save(folder / name)
        records.append({"file": name, "source": "made", "agreed": boxes, "coco_ssd": boxes, "nanodet": boxes})
    for number in range(cutouts):
        picture = np.zeros((60, 90, 4), np.uint8)
        picture[10:50, 20:70] = (*DOG, 255)
        name = f"cutouts/{number:02d}.webp"
        Image.fromarray(picture).save(folder / name, lossless=True)
        cut.append({"file": name, "source": "made", "label": "dog"})
    write_lines(folder / "labels.jsonl", records)
    write_lines(folder / "cutouts.jsonl", cut)
    return folder


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
