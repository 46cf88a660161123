"""The paper's four stages in small: every row of its tables has a replacement or a reason, and frozen parts stay
unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.errors import SettingsError
from models.groundtruth.questions import NOW_KINDS, PAST_KINDS
from models.training.blueprint import Sizes
from models.training.data import TrainingScene
from models.training.loop import Trainer, part_of
from models.training.stage import PARTS
from models.training.stage_plans import STAGES_PATH, RowBatches, read_stage, read_stages
from models.training.train import read_plan, train
from tests.models.conftest import save_untrained

SMALL = Sizes(vision_hidden=24, vision_layers=2, vision_heads=2, hidden=32, layers=1, heads=4, kv_heads=2)
ROWS_OF_TABLES = {1: 3, 2: 6, 3: 8, 4: 5}
"""Number of rows in each data table of arXiv 2501.13106."""
MILLIONS_OF_ROWS = {1: 15.57, 2: 27.22, 3: 19.05, 4: 5.72}
"""Sum of the rows of each table; the paper's figure 2 has 21.97M for the second."""

TINY = """
stage: {{name: tiny, trains: [{trains}], num_steps: 4, warmup_steps: 1, language_weight: {language}}}
paper: {{table: 1, samples: 1M, trains: [vision]}}
rows:
  - {{kind: a, data: [x], samples: 1M, here: stills, share: 0.5, mixture: {{stills: true}}}}
  - {{kind: b, data: [y], samples: 1M, here: scenes, share: 0.5, mixture: {{duration_s: [3, 4]}}}}
  - {{kind: c, data: [z], samples: 1M, absent: no letters}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("blueprint"), SMALL)


def _load(folder: Path) -> Checkpoint:
    return load_checkpoint(folder, device="cpu", progress=False)


def _write(path: Path, trains: str = "vision, projector", language: float = 0.0) -> Path:
    path.write_text(TINY.format(trains=trains, language=language))
    return path


def test_each_row_of_the_tables_has_a_counterpart_or_a_reason() -> None:
    stages = read_stages()
    assert [stage.table for stage in stages] == [1, 2, 3, 4]
    assert {stage.table: len(stage.rows) for stage in stages} == ROWS_OF_TABLES
    for stage in stages:
        assert stage.stage.trains == stage.trains
        assert all((row.mixture is None) == bool(row.absent) and row.samples and row.data for row in stage.rows)
        kinds = {kind for row in stage.present if row.mixture for kind in row.mixture.question_kinds}
        assert kinds <= {*NOW_KINDS, *PAST_KINDS}
    assert stages[0].trains == ("vision", "projector") and all(stage.trains == PARTS for stage in stages[1:])
    assert any(row.mixture and row.mixture.instructed_share > 0 for row in stages[3].present)


def test_the_rows_of_each_table_add_up_as_in_the_paper() -> None:
    for stage in read_stages():
        amounts = [float(row.samples[:-1]) / {"M": 1, "K": 1000}[row.samples[-1]] for row in stage.rows]
        assert round(sum(amounts), 2) == MILLIONS_OF_ROWS[stage.table]


def test_a_folder_of_stages_is_a_plan() -> None:
    plan = read_plan(STAGES_PATH)
    assert [stage.table for _, stage in plan.stages] == [1, 2, 3, 4] and plan.batch_size > 0


@pytest.mark.parametrize("trains", ["vision, projector", "projector", "language", "vision, language"])
def test_what_a_stage_does_not_train_stays_equal_to_the_bit(trains: str, folder: Path, tmp_path: Path) -> None:
    checkpoint = _load(folder)
    stage = read_stage(_write(tmp_path / "stage1.yaml", trains, language=float("language" in trains)))
    before = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    special = checkpoint.special
    trainer = Trainer(checkpoint.model, tmp_path, stage.stage, (special.im_start, special.stream_start))
    batches = RowBatches(checkpoint, stage, tmp_path / "scenes", 7, 1, 1)
    assert trainer.run(iter([batches[step] for step in range(4)]))
    changed = {
        part_of(name) for name, tensor in checkpoint.model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {part.strip() for part in trains.split(",")}


def test_batches_are_of_one_row_each_by_the_shares_and_the_same_again(folder: Path, tmp_path: Path) -> None:
    checkpoint = _load(folder)
    stage = read_stage(_write(tmp_path / "stage1.yaml"))
    first = RowBatches(checkpoint, stage, tmp_path / "a", 7, 2, 1)
    second = RowBatches(checkpoint, stage, tmp_path / "b", 7, 2, 1)
    assert {first.row_at(step) for step in range(4)} <= {0, 1} and len(first) == 4
    step = next((step for step in range(4) if first.row_at(step) == 1), None)
    assert step is not None
    for one, other in zip(first[step], second[step], strict=True):
        assert isinstance(one, TrainingScene) and isinstance(other, TrainingScene)
        assert np.array_equal(one.stream.ids, other.stream.ids) and one.number >= 100_000_000


def test_the_command_follows_a_folder_of_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.stage_plans.BATCH_SIZE", 1)
    monkeypatch.setattr("models.training.stage_plans.NEW_PER_BATCH", 1)
    (tmp_path / "stages").mkdir()
    text = TINY.format(trains="vision, projector, language", language=1.0).replace("num_steps: 4", "num_steps: 1")
    (tmp_path / "stages" / "stage1.yaml").write_text(text)
    lines: list[str] = []
    made = train(tmp_path / "run", tmp_path / "stages", workers=0, say=lines.append)
    assert lines == ["stage tiny: step 0 of 1", "the plan is done"] and (made / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("share: 0.5, mixture: {duration_s", "share: 0.4, mixture: {duration_s", "add up to 0.9"),
        ("absent: no letters", "samples: 2M", "absent with the reason"),
        ("kind: a, data: [x]", "kind: a, data: []", "it needs data"),
        ("stills: true", "cats: true", "cats"),
        ("trains: [vision, projector]", "trains: [cats]", "parts are vision"),
        ("table: 1", "page: 1", "page"),
    ],
)
def test_a_stage_that_says_too_little_is_an_error(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "stage1.yaml")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SettingsError, match=message):
        read_stage(path)
    with pytest.raises(SettingsError, match="holds no stage"):
        read_stages(tmp_path / "nowhere")
