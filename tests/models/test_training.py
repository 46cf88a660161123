"""Training: each loss falls, frozen parts stay unchanged, and a stopped run resumes as if it had not stopped."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.errors import SettingsError
from models.training.aux_heads import AuxHeads
from models.training.blueprint import Sizes
from models.training.data import Mixture, SceneMaker, TrainingScene
from models.training.loop import Trainer
from models.training.losses import Features, batch_losses
from models.training.stage import TrainingStage
from models.training.stores import Batches, SceneStore, StillStore
from models.training.train import PLAN_PATH, read_plan, train
from tests.models.conftest import save_untrained

SMALL = Sizes(vision_hidden=24, vision_layers=1, vision_heads=2, hidden=32, layers=1, heads=4, kv_heads=2)
MIXTURE = Mixture(duration_s=(4, 5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("blueprint"), SMALL)


def _checkpoint(folder: Path) -> Checkpoint:
    checkpoint = load_checkpoint(folder, device="cpu", progress=False)
    checkpoint.model.requires_grad_(True)
    return checkpoint


@pytest.fixture(scope="module")
def batches(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[TrainingScene]]:
    store = SceneStore(tmp_path_factory.mktemp("scenes"), SceneMaker(_checkpoint(folder), MIXTURE, 3))
    numbered = Batches(store, 1, 2, 1, 6)
    return [numbered[step] for step in range(6)]


def _ids(checkpoint: Checkpoint) -> tuple[int, int]:
    return checkpoint.special.im_start, checkpoint.special.stream_start


def test_a_few_steps_on_one_batch_lower_every_loss(
    folder: Path, tmp_path: Path, batches: list[list[TrainingScene]]
) -> None:
    checkpoint = _checkpoint(folder)
    stage = TrainingStage("fit", num_steps=25, learning_rate=3e-3, warmup_steps=2)
    trainer = Trainer(checkpoint.model, tmp_path, stage, _ids(checkpoint))
    before = batch_losses(checkpoint.model, trainer.heads, batches[0], stage, _ids(checkpoint))
    trainer.run(iter([batches[0]] * 25), save_every=1000)
    after = batch_losses(checkpoint.model, trainer.heads, batches[0], stage, _ids(checkpoint))
    assert after.text < 0.7 * before.text and after.cells < before.cells and after.state < before.state
    assert after.decision < before.decision


def test_a_frozen_tower_stays_equal_to_the_bit_and_the_projector_learns(
    folder: Path, batches: list[list[TrainingScene]]
) -> None:
    model = _checkpoint(folder).model
    heads = AuxHeads(SMALL.hidden, SMALL.vision_hidden)
    stage = TrainingStage("frozen", num_steps=1)
    losses = batch_losses(model, heads, batches[0], stage, _ids(_checkpoint(folder)), train_vision=False)
    losses.total.backward()
    assert all(parameter.grad is None for parameter in model.model.vision_model.parameters())
    assert all(parameter.grad is not None for parameter in model.model.projector.parameters())


def test_what_a_frozen_tower_made_before_gives_the_same_loss(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = _checkpoint(folder)
    mixture = Mixture(duration_s=(4, 5), attached_share=1.0)
    maker = SceneMaker(checkpoint, mixture, 4)
    batch = [maker.make(number) for number in range(3)]
    assert any(scene.stream.attached for scene in batch)
    heads, stage, features = (
        AuxHeads(SMALL.hidden, SMALL.vision_hidden),
        TrainingStage("frozen", num_steps=1),
        Features(),
    )

    def loss(kept: Features | None) -> float:
        with torch.no_grad():
            made = batch_losses(
                checkpoint.model, heads, batch, stage, _ids(checkpoint), train_vision=False, features=kept
            )
        return float(made.total)

    fresh = loss(None)
    assert loss(features) == pytest.approx(fresh, rel=1e-3)
    assert loss(features) == pytest.approx(fresh, rel=1e-3)


def test_still_lifes_teach_the_encoder_and_leave_the_language_model_alone(folder: Path, tmp_path: Path) -> None:
    checkpoint = _checkpoint(folder)
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    stage = TrainingStage(
                  "sight", num_steps=12, learning_rate=3e-3, warmup_steps=2, cells_weight=1.0, language_weight=0.0,
                  trains=("vision", "projector"))  # fmt: skip
    store = StillStore(checkpoint, Mixture(stills=True), 1)
    batch = [store.get(1), store.get(2)]
    trainer = Trainer(checkpoint.model, tmp_path, stage, _ids(checkpoint))
    first = batch_losses(checkpoint.model, trainer.heads, batch, stage, _ids(checkpoint)).cells
    steps: list[int] = []
    trainer.run(iter([batch] * 12), save_every=1000, on_step=lambda step, _loss: steps.append(step))
    last = batch_losses(checkpoint.model, trainer.heads, batch, stage, _ids(checkpoint)).cells
    assert last < 0.8 * first and steps == list(range(1, 13))
    after = checkpoint.model.state_dict()
    changed = {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"vision_model", "projector"}


def test_padding_changes_nothing(folder: Path, batches: list[list[TrainingScene]]) -> None:
    """A scene gives the same loss alone and next to a longer one."""
    checkpoint = _checkpoint(folder)
    heads = AuxHeads(SMALL.hidden, SMALL.vision_hidden)
    stage = TrainingStage("plain", num_steps=1, cells_weight=0.0, state_weight=0.0)
    scenes = sorted(batches[0], key=lambda scene: len(scene.stream.ids))
    with torch.no_grad():
        alone = [batch_losses(checkpoint.model, heads, [s], stage, _ids(checkpoint)).total for s in scenes]
        both = batch_losses(checkpoint.model, heads, scenes, stage, _ids(checkpoint)).total
    assert float(both) == pytest.approx(float(torch.stack(alone).mean()), rel=1e-4)


def test_a_stopped_run_goes_on_to_the_same_weights(
    folder: Path, tmp_path: Path, batches: list[list[TrainingScene]]
) -> None:
    stage = TrainingStage("resumed", num_steps=4, warmup_steps=1, vision_every=2)
    torch.manual_seed(0)
    whole = _checkpoint(folder)
    trainer = Trainer(whole.model, tmp_path / "whole", stage, _ids(whole))
    first_heads = copy.deepcopy(trainer.heads.state_dict())
    assert trainer.run(iter(batches[:4]))
    parts = _checkpoint(folder)
    trainer = Trainer(parts.model, tmp_path / "parts", stage, _ids(parts))
    trainer.heads.load_state_dict(first_heads)
    assert not trainer.run(iter(batches[:2]))
    again = _checkpoint(folder)
    trainer = Trainer(again.model, tmp_path / "parts", stage, _ids(again))
    assert trainer.step == 2 and trainer.run(iter(batches[2:4]))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_the_command_makes_a_checkpoint_that_loads(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "seed: 1\nbatch_size: 1\nnew_per_batch: 1\nstages:\n"
        "  - {name: only, num_steps: 1, mixture: {duration_s: [3, 4], questions_per_scene: 1}}\n"
    )
    lines: list[str] = []
    made = train(tmp_path / "run", plan, workers=0, say=lines.append)
    assert load_checkpoint(made, device="cpu", progress=False).stream.speaking.decision == "trained"
    train(tmp_path / "run", plan, workers=0, say=lines.append)
    assert (tmp_path / "run" / "loss.png").is_file()
    assert lines == ["stage only: step 0 of 1", "the plan is done", "the plan is done"]


def test_the_embedded_plan_reads_and_unknown_keys_are_errors(tmp_path: Path) -> None:
    assert [stage.name for stage, _ in read_plan(PLAN_PATH).stages][0] == "sight"
    wrong = tmp_path / "plan.yaml"
    wrong.write_text("seed: 1\nbatch_size: 1\nnew_per_batch: 1\nstages: [{name: a, num_steps: 1, speed: 2}]\n")
    with pytest.raises(SettingsError, match="speed"):
        read_plan(wrong)
