"""Report how well an encoder in training names held-out things: `python -m models.training.named_report DIR --footage
F`.

Reads the checkpoint and the heads' weights that `train DIR` saved. Writes one line to `DIR/names.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.checkpoint.loader import load_checkpoint
from models.errors import SettingsError
from models.training.aux_heads import AuxHeads
from models.training.cell_targets import UNSURE
from models.training.losses import pooled_over
from models.training.named_pictures import GROUP_ANSWERS, WORD_ANSWERS, answers_for, main_of, names_on
from models.vision import VisionSettings
from models.vision_tower import encode_frames
from streaming.scenes.closeups import CloseUp, CloseUps, close_up
from streaming.scenes.footage import Footage, Photo, read_footage

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration

SIDE_PX = 112
MOST_OF_A_WORD = 40
SURE = 0.7
"""Probability above which a name counts as said."""


def kept_back_close_ups(footage: Footage) -> list[CloseUp]:
    """Held-out close-ups, undistorted and the same at each call: some for each word, and as many of nothing as for one
    word."""
    made: list[CloseUp] = []
    counts: dict[tuple[int, int], int] = {}
    for index, (photo, number) in enumerate(_boxes(footage)):
        answers = answers_for(photo.boxes[number].named)
        counts[answers] = counts.get(answers, 0) + 1
        if counts[answers] <= MOST_OF_A_WORD:
            made.append(close_up(np.random.default_rng([7, index]), photo, number, SIDE_PX, SIDE_PX))
    close_ups = CloseUps(footage)
    nothing = (close_ups.nothing(np.random.default_rng([8, index]), SIDE_PX, SIDE_PX) for index in range(120))
    return made + [one for one in nothing if main_of(one) == (0, 0)][:MOST_OF_A_WORD]


def _boxes(footage: Footage) -> list[tuple[Photo, int]]:
    known = [(photo, at) for photo in footage.photos for at, box in enumerate(photo.boxes) if box.named]
    order = np.random.default_rng(5).permutation(len(known))
    return [known[int(place)] for place in order]


def report(model: VideoLlama3ForConditionalGeneration, heads: AuxHeads, shown: list[CloseUp]) -> dict[str, Any]:
    """Accuracies by group and by word, and of names with a probability above `SURE`."""
    if heads.mains is None:
        raise SettingsError("the heads know no names: no stage with a names_weight was trained; train one")
    vision = VisionSettings(border_px=2)
    grid = vision.fit_grid(SIDE_PX, SIDE_PX)
    chances: list[list[np.ndarray]] = [[], []]
    for one in shown:
        patches = vision.cut(torch.from_numpy(vision.fitted(one.picture, grid))[None], grid)
        main = torch.from_numpy(names_on(one, grid)[1])[None]
        with torch.no_grad():
            odds = heads.mains.odds(pooled_over(encode_frames(model.model, patches, grid), main))
        for place in range(2):
            chances[place].append(odds[place][0].softmax(-1).numpy())
    truth = np.array([main_of(one) for one in shown])
    values: dict[str, Any] = {}
    for place, (title, answers) in enumerate((("groups", GROUP_ANSWERS), ("words", WORD_ANSWERS))):
        values[title] = _shares(np.stack(chances[place]), truth[:, place], answers)
    return values


def _shares(chances: np.ndarray, truth: np.ndarray, answers: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy of each answer, their mean, and accuracy of answers above `SURE` other than nothing."""
    known = truth != UNSURE
    chances, truth = chances[known], truth[known]
    best = chances.argmax(axis=1)
    by_answer = {
        name: [int((best[truth == at] == at).sum()), int((truth == at).sum())]
        for at, name in enumerate(answers)
        if (truth == at).any()
    }
    silent = np.isin(best, [at for at, name in enumerate(answers) if name in ("nothing", "other")])
    said = (chances.max(axis=1) > SURE) & ~silent
    sayable = ~np.isin(truth, [at for at, name in enumerate(answers) if name in ("nothing", "other")])
    return {
        "mean": round(float(np.mean([right / total for right, total in by_answer.values()])), 4),
        "said_right": [int((best == truth)[said].sum()), int(said.sum())],
        "said_of": [int((said & sayable).sum()), int(sayable.sum())],
        "by_answer": by_answer,
    }


def main(given: list[str] | None = None) -> int:
    """Print the report of a folder's newest checkpoint and write it to the folder."""
    parser = argparse.ArgumentParser(prog="python -m models.training.named_report", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--footage", type=Path, required=True)
    parser.add_argument(
        "--held-source",
        action="append",
        default=[],
        help="source to hold out, as in the plan's held_sources; repeatable",
    )
    arguments = parser.parse_args(given)
    torch.set_num_threads(1)
    footage = read_footage(arguments.footage, kept_back=True, held_sources=tuple(arguments.held_source))
    checkpoint = load_checkpoint(arguments.folder / "model", device="cpu", dtype="float32", progress=False)
    heads = AuxHeads.of(checkpoint.model, named=True)
    heads.load_known(torch.load(arguments.folder / "heads.pt", map_location="cpu", weights_only=True))
    values = report(checkpoint.model.eval(), heads, kept_back_close_ups(footage))
    with (arguments.folder / "names.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(values) + "\n")
    print(json.dumps(values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
