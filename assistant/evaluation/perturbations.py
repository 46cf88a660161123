"""Plants covers, cuts and darkenings into real footage, to score remarks on light and view against a known truth.

What else happens in a clip has no labels of that kind; remarks on it count neither for nor against. A seed fixes what
is planted and when. Runs on the caller's thread.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assistant.errors import AssistantError
from assistant.evaluation.watching import CLIP_SUFFIXES, clip_pictures, watch
from models.groundtruth.remarks import parse
from models.groundtruth.scoring import Owed, SceneScore, ScoredRemark, score_scene
from streaming.scenes.scenario import EventKind

if TYPE_CHECKING:
    from models.engine import Engine

SHORTEST_CLIP_S = 15.0
"""Shorter clips hold no planted event and the quiet before and after it."""
OTHER_FRAMES = 24
"""Frames of another clip that a cut may show."""


class PerturbationKind(StrEnum):
    """Kinds of planted changes."""

    COVER = "cover"
    DARK = "dark"
    CUT = "cut"


_EVENTS = {
    PerturbationKind.COVER: (EventKind.COVERED, EventKind.UNCOVERED),
    PerturbationKind.DARK: (EventKind.GETS_DARK, EventKind.GETS_BRIGHT),
    PerturbationKind.CUT: (EventKind.CUT, EventKind.CUT),
}


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One planted change with its end, seconds of media time."""

    trick: PerturbationKind
    start_s: float
    end_s: float
    rise_s: float
    fall_s: float
    strength: float
    """Cover: share of the view that is covered; dark: the level that remains."""
    edge: int
    """Cover: the side it comes from, 0 to 3."""
    grey: float
    """Cover: its brightness, grey levels."""

    def share(self, time_s: float) -> float:
        """How far the change has progressed, 0 to 1."""
        if self.trick is PerturbationKind.CUT:
            return float(self.start_s <= time_s < self.end_s)
        knots = (self.start_s, self.start_s + self.rise_s, self.end_s, self.end_s + self.fall_s)
        return float(np.interp(time_s, knots, (0.0, 1.0, 1.0, 0.0)))

    def events(self) -> Iterator[tuple[float, EventKind]]:
        """The times at which a quarter of each change shows, with its kind."""
        begins, ends = _EVENTS[self.trick]
        slope = 0.0 if self.trick is PerturbationKind.CUT else 0.25
        yield self.start_s + slope * self.rise_s, begins
        yield self.end_s + slope * self.fall_s, ends


def plan_perturbations(seed: int, duration_s: float) -> list[Perturbation]:
    """Plants for a clip of a given length: one after the other, with quiet in between."""
    rng = np.random.default_rng([seed, 21])
    perturbations: list[Perturbation] = []
    time_s = float(rng.uniform(4.0, 8.0))
    tricks: list[PerturbationKind] = []
    while True:
        lasts_s = float(rng.uniform(3.0, 7.0))
        if time_s + lasts_s + 3.0 > duration_s:
            return perturbations
        if not tricks:
            tricks = [list(PerturbationKind)[int(index)] for index in rng.permutation(len(PerturbationKind))]
        trick = tricks.pop()
        strength = float(rng.uniform(0.94, 1.0) if trick is PerturbationKind.COVER else rng.uniform(0.15, 0.4))
        rise_s, fall_s = (float(length) for length in rng.uniform(0.1, 0.8, 2))
        edge, grey = int(rng.integers(4)), float(rng.choice([20.0, 60.0, 200.0]))
        perturbations.append(Perturbation(trick, time_s, time_s + lasts_s, rise_s, fall_s, strength, edge, grey))
        time_s += lasts_s + 1.0 + float(rng.uniform(3.0, 7.0))


def planted(
    pictures: Iterable[tuple[float, np.ndarray]], perturbations: Sequence[Perturbation], other: Sequence[np.ndarray]
) -> Iterator[tuple[float, np.ndarray]]:
    """The pictures with the plants in them. other: what a cut shows, frames of any size, forth and back."""
    shown = 0
    for time_s, picture in pictures:
        for perturbation in perturbations:
            share = perturbation.share(time_s)
            if not share:
                continue
            if perturbation.trick is PerturbationKind.CUT:
                picture = _like(_there_and_back(other, shown), picture)
                shown += 1
            elif perturbation.trick is PerturbationKind.DARK:
                picture = (picture * np.float32(1 - share * (1 - perturbation.strength))).astype(np.uint8)
            else:
                picture = _covered(picture, perturbation, share * perturbation.strength)
        yield time_s, picture


def _covered(picture: np.ndarray, perturbation: Perturbation, share: float) -> np.ndarray:
    """A matt sheet with a soft edge over a share of the picture, from one side."""
    height, width = picture.shape[:2]
    length = width if perturbation.edge < 2 else height
    along = np.arange(length) / length
    along = along if perturbation.edge % 2 == 0 else along[::-1]
    opacity = np.clip((share - along) / 0.03 + 0.5, 0, 1).astype(np.float32)
    mask = opacity[None, :, None] if perturbation.edge < 2 else opacity[:, None, None]
    texture = (
        np.random.default_rng(int(perturbation.start_s * 1000)).normal(0, 3, (height, width, 1)).astype(np.float32)
    )
    sheet = perturbation.grey + texture
    covered: np.ndarray = np.clip(picture * (1 - mask) + sheet * mask, 0, 255).astype(np.uint8)
    return covered


def _there_and_back(frames: Sequence[np.ndarray], number: int) -> np.ndarray:
    cycle = max(2 * len(frames) - 2, 1)
    at = number % cycle
    return frames[at if at < len(frames) else cycle - at]


def _like(other: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Another picture on this one's size, by nearest pixels."""
    rows = np.arange(picture.shape[0]) * other.shape[0] // picture.shape[0]
    cols = np.arange(picture.shape[1]) * other.shape[1] // picture.shape[1]
    return np.ascontiguousarray(other[rows][:, cols])


def owed_of(perturbations: Sequence[Perturbation], times_s: Sequence[float]) -> list[Owed]:
    """The planted events, each at the first sampled frame that shows it."""
    owed = []
    for perturbation in perturbations:
        for at_s, kind in perturbation.events():
            first = next((time_s for time_s in times_s if time_s >= at_s - 1e-6), None)
            if first is not None:
                owed.append(Owed(first, {"object": "view", "action": kind.value}, kind.value))
    return owed


def evaluate_planted(
    engine: Engine, folder: Path, seeds: Sequence[int], *, fps: float = 2.0, talkativeness: float = 0.0
) -> list[tuple[str, SceneScore]]:
    """Watch each clip of a folder with each seed's plants; gives the clip's name and score for each."""
    clips = sorted(path for path in folder.glob("*") if path.suffix.casefold() in CLIP_SUFFIXES)
    if not clips:
        raise AssistantError(f"{folder}: holds no clip; {', '.join(CLIP_SUFFIXES)} are read; give a folder of clips")
    scores = []
    for number, path in enumerate(clips):
        length_s = duration_s(path, fps)
        if length_s < SHORTEST_CLIP_S:
            continue
        other = frames_of_another(clips, number, fps)
        for seed in seeds:
            perturbations = plan_perturbations(seed * len(clips) + number, length_s)
            scores.append((path.name, _watch(engine, path, perturbations, other, fps, talkativeness)))
    if not scores:
        raise AssistantError(
            f"{folder}: no clip of {SHORTEST_CLIP_S:g} s or more, which planted events need; add a longer one"
        )
    return scores


def _watch(
    engine: Engine,
    path: Path,
    perturbations: Sequence[Perturbation],
    other: Sequence[np.ndarray],
    fps: float,
    talkativeness: float,
) -> SceneScore:
    times: list[float] = []

    def noted() -> Iterator[tuple[float, np.ndarray]]:
        for time_s, picture in planted(clip_pictures(path, fps), perturbations, other):
            times.append(time_s)
            yield time_s, picture

    watched = watch(engine, noted(), fps=fps, talkativeness=talkativeness, name=path.name)
    slots = [(comment.time_s, parse(comment.text)) for comment in watched.comments]
    said = [ScoredRemark(time_s, found) for time_s, found in slots if found.get("object") == "view"]
    return score_scene(owed_of(perturbations, times), said, times[-1] if times else 0.0)


def duration_s(path: Path, fps: float) -> float:
    """Length of the sampled part of a clip, seconds."""
    return max((time_s for time_s, _ in clip_pictures(path, fps)), default=0.0)


def frames_of_another(clips: Sequence[Path], number: int, fps: float) -> list[np.ndarray]:
    """Frames that a cut in a clip shows: of the next clip that is long enough, or else of this one, turned over."""
    for path in [*clips[number + 1 :], *clips[:number]]:
        frames = [picture for _, picture in itertools.islice(clip_pictures(path, fps), OTHER_FRAMES)]
        if len(frames) == OTHER_FRAMES:
            return frames
    return [picture[::-1, ::-1] for _, picture in itertools.islice(clip_pictures(clips[number], fps), OTHER_FRAMES)]
