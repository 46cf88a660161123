"""Training batches: scenes rendered from seeds, kept on disk, mixed new with old. Data workers run this."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoint import Checkpoint
from models.codec import TextCodec
from models.spans import WindowSettings
from models.training.examples import ExampleBuilder, StreamExample, Turn
from streaming.difffp import CellGrid
from streaming.sources.scenario import EventKind, Family, SceneSettings
from streaming.sources.synthetic import Scene

FIRST_TRAINING_SEED = 1_000_000
"""Seeds below are never trained on."""
VIEW_SIZES = ((196, 112), (168, 112), (140, 140), (112, 168))
CELL_LABELS = ("row", "col", "colour", "shape")
COLOURS = ("none", "red", "green", "blue", "yellow", "white", "black", "orange", "purple", "textured")
STATE_SIZES = (len(EventKind) + 1, 4, 2, 2, 2, 2, 2, 2)
"""Answers to each of the state questions."""
UNSURE = -1
SIDES = ("left", "centre", "right")
SHAPES = ("none", "circle", "square", "triangle", "star", "textured")


@dataclass(frozen=True, slots=True)
class Mixture:
    """What one rung of training draws its scenes from."""

    families: tuple[str, ...] = ("shapes", "motion")
    duration_s: tuple[float, float] = (12.0, 24.0)
    questions_per_scene: float = 2.0
    instructed_share: float = 0.0
    """Share of scenes with a standing instruction."""
    noise_sigma: tuple[float, float] = (0.0, 4.0)
    evicted_share: float = 0.1
    """Share of scenes under a window so small that the session's eviction cuts them."""
    fps: tuple[float, ...] = (2.0,)
    scene: dict[str, float] = field(default_factory=dict)
    """Further scene settings."""


@dataclass(frozen=True, slots=True)
class TrainingScene:
    """One example with the labels of the encoder's own objective."""

    stream: StreamExample
    cell_labels: np.ndarray
    """int8 `[num_frames, num_cells, 4]`: row, column, colour and shape of the thing on each cell (0 for none)."""
    state_labels: np.ndarray
    """int8 `[num_frames, 8]`: what has just happened (0 for nothing), how many things are in view, and for the left,
    the centre and the right whether one is there and whether one moves there; `UNSURE` where the truth is between."""


class SceneMaker:
    """Makes example number i of a mixture; the same i gives the same example."""

    def __init__(self, checkpoint: Checkpoint, mixture: Mixture, seed: int) -> None:
        self._codec = TextCodec(checkpoint)
        self._special = checkpoint.special
        self._settings = checkpoint.stream
        self._vision = checkpoint.vision
        self._mixture = mixture
        self._seed = seed

    def make(self, index: int) -> TrainingScene:
        """Render, prune and label one scene."""
        from models.training.scenes import remarks

        mixture = self._mixture
        rng = np.random.default_rng([self._seed, index])
        fps = float(rng.choice(mixture.fps))
        scene_options: dict[str, Any] = dict(mixture.scene)
        settings = SceneSettings(
            duration_s=float(rng.uniform(*mixture.duration_s)),
            fps=fps,
            view_sizes=VIEW_SIZES,
            families=frozenset(Family(name) for name in mixture.families),
            noise_sigma=mixture.noise_sigma,
            **scene_options,
        )
        scene = Scene(FIRST_TRAINING_SEED + self._seed * 10_000_000 + index, settings)
        times = np.arange(rng.uniform(0, 1 / fps), settings.duration_s, 1 / fps)
        pictures = [(float(time_s), scene.frame(float(time_s))) for time_s in times]
        grid = self._grid(pictures[0][1])
        turns = [Turn(remark.speak_s, remark.text) for remark in remarks(scene)]
        instruction = None
        if rng.random() < mixture.instructed_share:
            instruction, turns = self._instruct(scene, rng)
        builder = self._builder(rng, settings.duration_s, grid)
        start_s = float(times[0])
        turns += self._questions(scene, rng, times, builder.shown_offset_s - start_s)
        turns.sort(key=lambda turn: turn.time_s)
        example = builder.build(pictures, grid, turns, instruction=instruction)
        labels = np.stack([self._cells(scene, pictures[number][0], grid) for number in example.frame_numbers])
        states = np.stack([self._state(scene, pictures[number][0], fps) for number in example.frame_numbers])
        return TrainingScene(example, labels, states)

    def _grid(self, picture: np.ndarray) -> CellGrid:
        return self._vision.fit_grid(picture.shape[1], picture.shape[0], max_cells=self._settings.max_cells)

    def _builder(self, rng: np.random.Generator, duration_s: float, grid: CellGrid) -> ExampleBuilder:
        window = self._settings.window
        if rng.random() < self._mixture.evicted_share:
            low = int(rng.integers(8 * grid.num_cells, 20 * grid.num_cells))
            window = WindowSettings(low, low + low // 4, 160, 220)
        latest = max(self._settings.max_shown_time_s - duration_s, 0.0)
        offset_s = 0.0 if rng.random() < 0.4 else round(float(rng.uniform(0.0, latest)), 1)
        return ExampleBuilder(
            self._codec,
            self._special,
            self._vision,
            window,
            shown_offset_s=offset_s,
        )

    def _instruct(self, scene: Scene, rng: np.random.Generator) -> tuple[str, list[Turn]]:
        from models.training.scenes import instructions, remarks

        text, allowed = instructions(rng, scene)
        return text, [Turn(remark.speak_s, remark.text) for remark in remarks(scene) if allowed(remark)]

    def _questions(
        self, scene: Scene, rng: np.random.Generator, times: np.ndarray, shown_minus_scene_s: float
    ) -> list[Turn]:
        """Questions at sampled frames, whose pictures hold the answers."""
        from models.training.scenes import questions

        def shown_time(t_s: float) -> float:
            return float(times[min(int(np.searchsorted(times, t_s)), len(times) - 1)]) + shown_minus_scene_s

        turns = []
        for _ in range(rng.poisson(self._mixture.questions_per_scene)):
            time_s = float(rng.choice(times[times >= 1.0]))
            asked = questions(scene, time_s, rng, shown_time=shown_time)
            if asked is not None:
                turns.append(Turn(time_s, asked[1], asked[0]))
        return turns

    def _cells(self, scene: Scene, time_s: float, grid: CellGrid) -> np.ndarray:
        labels = np.zeros((grid.rows, grid.cols, 4), dtype=np.int8)
        labels[:, :, 0] = np.arange(grid.rows)[:, None]
        labels[:, :, 1] = np.arange(grid.cols)
        height, width = scene.height_px, scene.width_px
        for thing in scene.state(time_s).things:
            row, col = int(thing.y_px / height * grid.rows), int(thing.x_px / width * grid.cols)
            if 0 <= row < grid.rows and 0 <= col < grid.cols and thing.share_in > 0.5:
                labels[row, col, 2] = COLOURS.index(thing.colour or "textured")
                labels[row, col, 3] = SHAPES.index(thing.shape or "textured")
        return labels.reshape(grid.num_cells, 4)

    @staticmethod
    def _state(scene: Scene, time_s: float, fps: float) -> np.ndarray:
        labels = np.full(len(STATE_SIZES), UNSURE, dtype=np.int8)
        recent = [event for event in scene.truth if 0 <= time_s - event.visible_s < 1 / fps]
        begun = any(event.time_s <= time_s < event.visible_s for event in scene.truth)
        if recent or not begun:
            labels[0] = list(EventKind).index(recent[-1].kind) + 1 if recent else 0
        state = scene.state(time_s)
        things = [thing for thing in state.things if thing.share_in > 0.5]
        if len(things) == len(state.things):
            labels[1] = min(len(things), 3)
        for place, side in enumerate(SIDES):
            there = [thing for thing in things if thing.side == side]
            if all(thing.side_sure for thing in things):
                labels[2 + place] = bool(there)
                labels[5 + place] = any(thing.moving for thing in there)
        return labels


class SceneStore:
    """Examples on disk, made on first use; many readers, each example written once and renamed into place."""

    def __init__(self, folder: Path, maker: SceneMaker) -> None:
        self._folder = folder
        self._maker = maker
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, index: int) -> TrainingScene:
        """Example number `index`."""
        path = self._folder / f"{index:07d}.npz"
        if path.is_file():
            return _read(path)
        made = self._maker.make(index)
        _write(path, made)
        return made


class Batches:
    """Batch number s: some new scenes and some earlier ones. Deterministic in (seed, s), so training can resume."""

    def __init__(self, store: SceneStore, seed: int, batch_size: int, new_per_batch: int, num_steps: int) -> None:
        self._store = store
        self._seed = seed
        self._batch_size = batch_size
        self._new = new_per_batch
        self._num_steps = num_steps

    def __len__(self) -> int:
        return self._num_steps

    def __getitem__(self, step: int) -> list[TrainingScene]:
        rng = np.random.default_rng([self._seed, 77, step])
        num_new = self._new if step else self._batch_size
        num_before = self._batch_size + (step - 1) * self._new if step else 0
        fresh = range(num_before, num_before + num_new)
        old = rng.integers(0, max(num_before, 1), size=self._batch_size - num_new)
        return [self._store.get(int(index)) for index in [*fresh, *old]]


def _write(path: Path, made: TrainingScene) -> None:
    partial = path.with_suffix(".partial.npz")
    stream = made.stream
    np.savez(
        partial,
        ids=stream.ids,
        labels=stream.labels,
        weights=stream.weights,
        frames=stream.frames,
        frame_numbers=stream.frame_numbers,
        frame_ends=stream.frame_ends,
        picks=stream.picks,
        grid=np.array([stream.grid.rows, stream.grid.cols, stream.grid.merge, stream.grid.patch_px]),
        cell_labels=made.cell_labels,
        state_labels=made.state_labels,
    )
    partial.replace(path)


def _read(path: Path) -> TrainingScene:
    with np.load(path) as data:
        rows, cols, merge, patch_px = (int(value) for value in data["grid"])
        stream = StreamExample(
            data["ids"],
            data["labels"],
            data["weights"],
            data["frames"],
            data["frame_numbers"],
            data["frame_ends"],
            data["picks"],
            CellGrid(rows=rows, cols=cols, merge=merge, patch_px=patch_px),
        )
        return TrainingScene(stream, data["cell_labels"], data["state_labels"])


__all__ = ["Batches", "Mixture", "SceneMaker", "SceneStore", "TrainingScene"]
