"""Training batches: examples cached on disk or in memory, new ones mixed with earlier ones. Data workers run this."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from models.checkpoint.loader import Checkpoint
from models.errors import SettingsError
from models.training.cell_targets import Stills, make_stills
from models.training.data import VIEW_SIZES, Mixture, SceneMaker, TrainingScene, first_scene_seed
from models.training.examples import ForkQuestions, Pictures, StreamExample
from models.training.named_pictures import NamedPictures, make_named
from streaming.difffp.live import CellGrid
from streaming.scenes.closeups import CloseUps
from streaming.scenes.footage import read_footage
from streaming.scenes.scenario import SceneSettings

CLOSE_SIZES = ((84, 84), (84, 84), (56, 56), (84, 56), (112, 84))
_STILLS_KEPT = 2000
"""Most groups of still lifes kept in memory; older ones are not used again."""
_ASIDE_ARRAYS = ("ids", "labels", "weights", "numbers", "after", "evidence", "matches", "copies")
_STREAM_ARRAYS = ("ids", "labels", "weights", "frames", "frame_numbers", "frame_ends", "picks", "carries", "dated")

Example = TypeVar("Example", covariant=True)


class Store(Protocol[Example]):
    """A source of numbered examples."""

    def get(self, index: int) -> Example:
        """Example number `index`."""
        ...


class SceneStore:
    """Examples on disk, made on first use. Many readers; each example is written once, completely, then renamed to its
    final name."""

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


class StillStore:
    """Still lifes for the encoder's stage, the newest kept in memory, because drawing one costs as much as training on
    it."""

    def __init__(self, checkpoint: Checkpoint, mixture: Mixture, seed: int) -> None:
        self._vision = checkpoint.vision
        self._max_cells = checkpoint.stream.max_cells
        self._mixture = mixture
        self._first_seed = first_scene_seed(seed)
        self._photographs = mixture.photograph_files
        self._close_ups = _close_ups(mixture) if mixture.named_share else None
        self._kept: OrderedDict[int, Stills | NamedPictures] = OrderedDict()

    def get(self, index: int) -> Stills | NamedPictures:
        """Group number `index`: eight pictures with one background; `close_share` of the groups are close-ups of one
        plain shape each."""
        if index not in self._kept:
            self._kept[index] = self._made(index)
            if len(self._kept) > _STILLS_KEPT:
                self._kept.popitem(last=False)
        return self._kept[index]

    def _made(self, index: int) -> Stills | NamedPictures:
        mixture, views = self._mixture, self._mixture.view_sizes or VIEW_SIZES
        draw = np.random.default_rng([self._first_seed, index, 80]).random()
        if self._close_ups is not None and draw < mixture.named_share:
            return make_named(self._first_seed + index, self._close_ups, self._vision, self._max_cells, views)
        easy = np.random.default_rng([self._first_seed, index, 79]).random() < mixture.close_share
        sizes = CLOSE_SIZES if easy else views
        noise = (0.0, 2.0) if easy else mixture.noise_sigma
        settings = SceneSettings(
            view_sizes=sizes, noise_sigma=noise, grounds=mixture.ground_kinds, photographs=self._photographs
        )
        return make_stills(self._first_seed + index, settings, self._vision, self._max_cells, close=easy)


def _close_ups(mixture: Mixture) -> CloseUps:
    """The source of pictures of real things. Raises `SettingsError` where no folder of footage is given."""
    if not mixture.footage:
        raise SettingsError(
            f"named_share {mixture.named_share:g}: such pictures are made of labelled footage, and none is given; "
            "train with --footage DIR, or set named_share to 0"
        )
    return CloseUps(read_footage(Path(mixture.footage), held_sources=mixture.held_sources))


class Batches(Generic[Example]):
    """Batch number s: some new examples and some earlier ones. Deterministic in (seed, s), so training can resume."""

    def __init__(self, store: Store[Example], seed: int, batch_size: int, new_per_batch: int, num_steps: int) -> None:
        self._store = store
        self._seed = seed
        self._batch_size = batch_size
        self._new = new_per_batch
        self._num_steps = num_steps
        self._reach = _STILLS_KEPT if isinstance(store, StillStore) else None

    def __len__(self) -> int:
        return self._num_steps

    def __getitem__(self, step: int) -> list[Example]:
        rng = np.random.default_rng([self._seed, 77, step])
        num_new = self._new if step else self._batch_size
        num_before = self._batch_size + (step - 1) * self._new if step else 0
        fresh = range(num_before, num_before + num_new)
        oldest = max(num_before - self._reach, 0) if self._reach else 0
        old = rng.integers(oldest, max(num_before, 1), size=self._batch_size - num_new)
        return [self._store.get(int(index)) for index in [*fresh, *old]]


def _write(path: Path, made: TrainingScene) -> None:
    partial = path.with_suffix(".partial.npz")
    stream = made.stream
    arrays = {name: getattr(stream, name) for name in _STREAM_ARRAYS}
    arrays |= {f"aside_{name}": getattr(stream.asides, name) for name in _ASIDE_ARRAYS}
    for place, pictures in enumerate(stream.attached):
        arrays |= {
            f"attached_{place}_frames": pictures.frames,
            f"attached_{place}_grid": _grid_array(pictures.grid),
            f"attached_{place}_picks": pictures.picks,
        }
    arrays |= {
        "grid": _grid_array(stream.grid),
        "cell_labels": made.cell_labels,
        "state_labels": made.state_labels,
        "token_labels": made.token_labels,
        "number": np.array(made.number),
    }
    np.savez(partial, **arrays)
    partial.replace(path)


def _read(path: Path) -> TrainingScene:
    with np.load(path) as data:
        attached: list[Pictures] = []
        while (name := f"attached_{len(attached)}") + "_frames" in data:
            attached.append(Pictures(data[f"{name}_frames"], _grid_of(data[f"{name}_grid"]), data[f"{name}_picks"]))
        arrays = {name: data[name] for name in _STREAM_ARRAYS}
        asides = ForkQuestions(**{name: data[f"aside_{name}"] for name in _ASIDE_ARRAYS})
        stream = StreamExample(**arrays, grid=_grid_of(data["grid"]), asides=asides, attached=tuple(attached))
        cells, states, tokens = (data[f"{of}_labels"] for of in ("cell", "state", "token"))
        return TrainingScene(stream, cells, states, tokens, int(data["number"]))


def _grid_array(grid: CellGrid) -> np.ndarray:
    return np.array([grid.rows, grid.cols, grid.merge, grid.patch_px])


def _grid_of(values: np.ndarray) -> CellGrid:
    rows, cols, merge, patch_px = (int(value) for value in values)
    return CellGrid(rows=rows, cols=cols, merge=merge, patch_px=patch_px)
