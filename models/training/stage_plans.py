"""The paper's four stages in small: each is a YAML file with a row for each row of the paper's data tables.

A row names the published data, its amount, and either its replacement here (a mixture of scenes and its share of the
stage's batches) or the reason why there is none. Data workers run this.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.checkpoint.files import refuse_unknown
from models.errors import SettingsError
from models.training.data import Mixture, SceneMaker, TrainingScene
from models.training.stores import Batches, SceneStore, StillStore, Store

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint
    from models.training.losses import Example
    from models.training.stage import TrainingStage

STAGES_PATH = Path(__file__).parent / "stages"
SEED = 7
BATCH_SIZE = 6
NEW_PER_BATCH = 3
_ROW_KEYS = {"kind", "data", "samples", "here", "share", "mixture", "absent"}
_NUMBERS_OF_A_ROW = 100_000_000
"""Number of examples in a row's range of numbers; ranges do not overlap, because a frozen tower's outputs are cached by
number."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A row of one of the paper's data tables."""

    kind: str
    data: tuple[str, ...]
    samples: str
    """Number of samples in the paper, as the paper writes it."""
    share: float = 0.0
    """Share of the stage's batches."""
    mixture: Mixture | None = None
    """The mixture that replaces the published data; `None` where nothing does."""
    here: str = ""
    """Description of the replacement."""
    absent: str = ""
    """The reason why there is no replacement."""


@dataclass(frozen=True, slots=True)
class PaperStage:
    """One of the four stages."""

    stage: TrainingStage
    table: int
    samples: str
    trains: tuple[str, ...]
    """The parts that the paper trains in this stage."""
    rows: tuple[PlanRow, ...]

    @property
    def present(self) -> tuple[PlanRow, ...]:
        """The rows with a replacement."""
        return tuple(row for row in self.rows if row.mixture is not None)


def read_stages(folder: Path = STAGES_PATH) -> list[PaperStage]:
    """Read the stages of a folder, `stage*.yaml` in order of their names. Raises `SettingsError`."""
    paths = sorted(folder.glob("stage*.yaml"))
    if not paths:
        raise SettingsError(f"{folder}: holds no stage*.yaml; give a folder of stages; see {STAGES_PATH.name}/")
    return [read_stage(path) for path in paths]


def read_stage(path: Path) -> PaperStage:
    """Read one stage. Raises `SettingsError` for unknown keys, shares that do not add up to 1, and incomplete rows."""
    import yaml

    from models.training.stage import TrainingStage

    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    refuse_unknown(values, {"stage", "paper", "rows"}, str(path))
    refuse_unknown(values["stage"], {entry.name for entry in fields(TrainingStage)}, f"{path}, stage")
    refuse_unknown(values["paper"], {"table", "samples", "trains"}, f"{path}, paper")
    rows = tuple(_row(row, path) for row in values["rows"])
    total = sum(row.share for row in rows)
    if abs(total - 1.0) > 1e-6:
        raise SettingsError(f"{path}: the rows' shares add up to {total:g}; they must add up to 1; change them")
    paper = values["paper"]
    return PaperStage(TrainingStage(**values["stage"]), paper["table"], paper["samples"], tuple(paper["trains"]), rows)


def _row(values: dict[str, Any], path: Path) -> PlanRow:
    where = f"{path}, row {values.get('kind')!r}"
    refuse_unknown(values, _ROW_KEYS, where)
    values = {**values, "data": tuple(values.get("data", ()))}
    has_counterpart = "mixture" in values
    wanted = {"here", "share"} if has_counterpart else {"absent"}
    unwanted = {"absent"} if has_counterpart else {"here", "share"}
    if not wanted <= set(values) or unwanted & set(values) or not values["data"]:
        raise SettingsError(
            f"{where}: it needs data, and either mixture with here and share, or absent with the reason; complete it"
        )
    if has_counterpart:
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values["mixture"].items()}
        refuse_unknown(given, {entry.name for entry in fields(Mixture)}, f"{where}, mixture")
        values["mixture"] = Mixture(**given)
    return PlanRow(**values)


class RowBatches:
    """Batches of a stage, each from one row, drawn by the rows' shares. Deterministic in (seed, step)."""

    def __init__(
        self, checkpoint: Checkpoint, stage: PaperStage, folder: Path, seed: int, batch_size: int, new_per_batch: int
    ) -> None:
        num_steps = stage.stage.num_steps
        shares = np.array([row.share for row in stage.present])
        self._rows = np.random.default_rng([seed, 78]).choice(len(shares), size=num_steps, p=shares / shares.sum())
        self._batches: list[Batches[Example]] = []
        for number, row in enumerate(stage.present):
            assert row.mixture is not None
            own = seed + 10 + number
            store: Store[Example]
            if row.mixture.stills:
                store = StillStore(checkpoint, row.mixture, own)
            else:
                store = SceneStore(folder / f"row{number}", SceneMaker(checkpoint, row.mixture, own))
            self._batches.append(Batches(store, own, batch_size, new_per_batch, num_steps))

    def __len__(self) -> int:
        return len(self._rows)

    def row_at(self, step: int) -> int:
        """The index, among the rows with a replacement, of the row that a step takes."""
        return int(self._rows[step])

    def __getitem__(self, step: int) -> list[Example]:
        number = self.row_at(step)
        before = int((self._rows[:step] == number).sum())
        return [_numbered(example, number) for example in self._batches[number][before]]


def _numbered(example: Example, row: int) -> Example:
    if isinstance(example, TrainingScene):
        return replace(example, number=example.number + row * _NUMBERS_OF_A_ROW)
    return example
