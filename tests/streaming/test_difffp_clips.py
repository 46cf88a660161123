"""Live pruning on clips of real fixed cameras, from `../shared/clips` or the folder in `CLIPS_DIR`."""

from __future__ import annotations

import json
import math
import os
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from streaming.difffp.live import CellGrid, Kind, Pruning
from tests.streaming.difffp_cases import SAMPLED_FPS, WRAPPER_TOKENS, live, patches_of, size_px

CLIPS = Path(os.environ.get("CLIPS_DIR", Path(__file__).parents[3] / "shared" / "clips"))
FIXED_CAMERAS = ("bottle-detection.mp4", "one-by-one-person-detection.mp4")
GRIDS = [CellGrid(rows=9, cols=16), CellGrid(rows=5, cols=8)]

pytestmark = [
    pytest.mark.needs_clips,
    pytest.mark.skipif(not (CLIPS / "events.json").exists(), reason=f"no clips in {CLIPS}"),
]


@cache
def pictures_of(name: str) -> list[tuple[float, Image.Image]]:
    """Media time and picture, two a second."""
    pictures, due_s = [], 0.0
    with av.open(str(CLIPS / name)) as clip:
        clip.streams.video[0].thread_type = "AUTO"
        for frame in clip.decode(video=0):
            if frame.time is not None and frame.time + 1e-6 >= due_s:
                due_s += 1 / SAMPLED_FPS
                pictures.append((frame.time, frame.to_image()))
    return pictures


def decisions_on(name: str, grid: CellGrid, until_s: float = math.inf) -> list[tuple[float, Pruning]]:
    """Media time and decision of two frames a second."""
    height, width = size_px(grid)
    pruner, tokens, decisions = live(grid), 0, []
    for time_s, picture in pictures_of(name):
        if time_s >= until_s:
            break
        shown = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
        decision = pruner.push(patches_of(shown, grid), time_s, tokens_before=tokens)
        tokens += decision.appended * (int(decision.keep.sum()) + WRAPPER_TOKENS)
        decisions.append((time_s, decision))
    return decisions


def region_of(where: str, grid: CellGrid) -> np.ndarray:
    """`[num_cells]` bool: the part of the view that a label names."""
    rows, cols = np.indices((grid.rows, grid.cols))
    across, down = (cols + 0.5) / grid.cols, (rows + 0.5) / grid.rows
    parts = {
        "left": across < 0.4,
        "centre": (across > 0.3) & (across < 0.7),
        "right": across > 0.6,
        "bottom": down > 0.6,
        "left and centre": across < 0.7,
    }
    return parts[where].ravel()


@pytest.mark.parametrize("grid", GRIDS, ids=["144 cells", "40 cells"])
@pytest.mark.parametrize("name", FIXED_CAMERAS)
def test_a_fixed_camera_keeps_a_third_and_shows_every_activity(name: str, grid: CellGrid) -> None:
    decisions = decisions_on(name, grid)
    assert np.mean([decision.keep.mean() for _, decision in decisions]) <= 0.35
    for activity in json.loads((CLIPS / "events.json").read_text())[name]["activity"]:
        region = region_of(activity["where"], grid)
        shares = [
            decision.changed[region].mean()
            for time_s, decision in decisions
            if activity["start_s"] <= time_s <= activity["end_s"] and decision.kind is Kind.CHANGED
        ]
        assert max(shares, default=0.0) >= 0.15, activity


@pytest.mark.parametrize("grid", GRIDS, ids=["144 cells", "40 cells"])
def test_nothing_happens_before_the_first_person_comes(grid: CellGrid) -> None:
    """The first 5 s are empty: two of settling, then silence."""
    kinds = [decision.kind for _, decision in decisions_on(FIXED_CAMERAS[1], grid, until_s=5.0)]
    assert kinds == [Kind.WHOLE, *[Kind.SETTLING] * 4, *[Kind.SKIPPED] * 5]
