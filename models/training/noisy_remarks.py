"""Remarks with an assistant's errors, for training: left out, replaced by a wrong one, or one frame off.

Pure; data workers run this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.groundtruth.remarks import VIEW_REMARKS
from models.training.examples import Turn


def omitted(turn: Turn, rng: np.random.Generator) -> Turn:
    """Leave a remark out; half of the remarks on the view are replaced by a wrong one."""
    others = [text for text in VIEW_REMARKS.values() if text != turn.text]
    mistaken = len(others) < len(VIEW_REMARKS) and rng.random() < 0.5
    return replace(turn, unsaid=True, instead=str(rng.choice(others)) if mistaken else None)


def mistimed(
    turns: Sequence[Turn], times: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[list[Turn], dict[float, float]]:
    """Move a share of the remarks to the sampled frame before or after their own; also returns the moved times, old to
    new.

    turns: in order; times: float64 `[num_frames]`, sampled. Order is kept: no two remarks share a frame that did not
    share one before.
    """
    frames = np.searchsorted(times, [turn.time_s for turn in turns]).tolist()
    told, moved = list(turns), {}
    for number, turn in enumerate(turns):
        if share and rng.random() < share:
            frame = frames[number] + int(rng.choice((-1, 1)))
            low = frames[number - 1] if number else -1
            high = frames[number + 1] if number + 1 < len(frames) else len(times)
            if low < frame < high:
                frames[number] = frame
                moved[turn.time_s] = float(times[frame])
                told[number] = replace(turn, time_s=float(times[frame]))
    return told, moved


def following(aside: Turn, moved: dict[float, float]) -> Turn | None:
    """A question with its evidence moved along; `None` where it falls between a remark's old time and its new one.

    Also `None` where the answer gives the time of a moved remark, because the answer could not be known.
    """
    if any(min(pair) <= aside.time_s < max(pair) for pair in moved.items()):
        return None
    rests_on = aside.rests_on or ()
    if moved.keys().isdisjoint(rests_on):
        return aside
    if any(letter.isdigit() for letter in aside.text):
        return None
    return replace(aside, rests_on=tuple(moved.get(time_s, time_s) for time_s in rests_on))
