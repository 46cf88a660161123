"""Many scenes in one pass give the same losses and gradients as one by one."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.training import loop
from models.training.aux_heads import AuxHeads
from models.training.data import Mixture, SceneMaker, TrainingScene
from models.training.loop import Trainer
from models.training.losses import batch_losses
from models.training.packed import PackedRow, packed_losses
from models.training.stage import TrainingStage

SEEN = Mixture(duration_s=(4.0, 9.0), asides_per_scene=4.0, judged_per_scene=2.0, evicted_share=0.3)
STAGE = TrainingStage(
    "all",
    1,
    pointing_weight=1.0,
    matching_weight=0.7,
    carrying_weight=0.5,
    dating_weight=0.6,
    telling_weight=0.3,
    recalling_weight=0.2,
)


@pytest.fixture(scope="module")
def embedded() -> Checkpoint:
    return load_checkpoint(device="cpu", dtype="float32", progress=False)


@pytest.fixture(scope="module")
def scenes(embedded: Checkpoint) -> list[TrainingScene]:
    seen, told = SceneMaker(embedded, SEEN, 7), SceneMaker(embedded, replace(SEEN, told_share=1.0), 8)
    brief = SceneMaker(embedded, replace(SEEN, attached_share=1.0), 9)
    return [*(seen.make(index) for index in range(2)), *(brief.make(index) for index in range(2)), told.make(0)]


def gradients(embedded: Checkpoint, heads: AuxHeads) -> dict[str, torch.Tensor]:
    named = [*embedded.model.named_parameters(), *heads.named_parameters()]
    found = {name: p.grad.clone() for name, p in named if p.grad is not None}
    embedded.model.zero_grad(set_to_none=True)
    heads.zero_grad(set_to_none=True)
    return found


def test_many_at_once_equal_one_by_one(embedded: Checkpoint, scenes: list[TrainingScene]) -> None:
    model, special = embedded.model, embedded.special
    torch.manual_seed(3)
    heads = AuxHeads.of(model)
    decisions = (special.im_start, special.stream_start)
    model.requires_grad_(True)
    try:
        one_by_one = batch_losses(model, heads, scenes, STAGE, decisions)
        one_by_one.total.backward()
        wanted = gradients(embedded, heads)
        rows = [PackedRow.of(scene, special.image, decisions) for scene in scenes]
        at_once = packed_losses(model, heads, rows, STAGE, decisions)
        at_once.total.backward()
        found = gradients(embedded, heads)
    finally:
        model.requires_grad_(False)
    assert math.isclose(at_once.total.item(), one_by_one.total.item(), rel_tol=1e-5)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=2e-5), name


def test_a_step_on_many_at_once_is_the_step_on_one_by_one(
    embedded: Checkpoint, scenes: list[TrainingScene], tmp_path: Path
) -> None:
    learnt = []
    for packed in (False, True):
        model = copy.deepcopy(embedded.model)
        torch.manual_seed(4)
        decisions = (embedded.special.im_start, embedded.special.stream_start)
        trainer = Trainer(
            model, tmp_path / str(packed), replace(STAGE, learning_rate=0.1, warmup_steps=1), decisions, packed=packed
        )
        # Plain gradient descent, because Adam's first step is the sign of a gradient, which is noise where the gradient
        # is almost zero.
        plain = torch.optim.SGD([*model.parameters(), *trainer.heads.parameters()], lr=0.1)
        trainer._optimiser = plain  # type: ignore[assignment]
        trainer.run(iter([scenes[:2] + scenes[-1:]]), save_every=1000)
        learnt.append({name: p.detach() for name, p in model.named_parameters()})
    before = dict(embedded.model.named_parameters())
    assert any((learnt[0][name] - before[name]).abs().max() > 1e-4 for name in before)
    for name, values in learnt[0].items():
        assert torch.allclose(learnt[1][name], values, rtol=1e-3, atol=2e-6), name


def test_long_scenes_are_not_laid_beside_more_than_memory_holds(
    embedded: Checkpoint, scenes: list[TrainingScene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    special = embedded.special
    trainer = Trainer(
        copy.deepcopy(embedded.model), tmp_path, STAGE, (special.im_start, special.stream_start), packed=True
    )
    longest = max(len(PackedRow.of(scene, special.image, (0, 1))) for scene in scenes)
    monkeypatch.setattr(loop, "MOST_PAIRS", 2 * longest**2)
    groups = list(trainer._groups(scenes))
    assert sum(map(len, groups)) == len(scenes) and len(groups) > 1
    assert all(len(group) * max(map(len, group)) ** 2 <= 2 * longest**2 for group in groups)
