"""Auxiliary heads: many questions in one product give the same losses as one question at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.training.aux_heads import AuxHeads
from models.training.cell_targets import UNSURE


@pytest.fixture
def heads() -> AuxHeads:
    torch.manual_seed(5)
    return AuxHeads(24, 16)


@pytest.mark.parametrize("name", ["cells", "histories", "states"])
def test_all_questions_at_once_equal_the_cross_entropy_of_each(heads: AuxHeads, name: str) -> None:
    asked = getattr(heads, name)
    vectors = torch.randn(60, 24)
    labels = torch.stack([torch.randint(UNSURE, head.out_features, (60,)) for head in asked.heads], dim=1)
    owners = torch.arange(60) % 3
    labels[owners == 1, 0] = UNSURE  # the first owner is not asked the first question
    total, weights = 0.0, asked.weights.tolist()
    for owner in range(4):
        for number, head in enumerate(asked.heads):
            mine = (owners == owner) & (labels[:, number] != UNSURE)
            weight = torch.ones(head.out_features)
            weight[0] = asked.of_none[number]
            if mine.any():
                logits = head(asked.norm(vectors[mine]))
                total += weights[number] * nn.functional.cross_entropy(logits, labels[mine, number], weight).item()
    found = asked.of_owners(vectors, labels.to(torch.int8), owners, 4)
    assert found.item() == pytest.approx(total / sum(weights), rel=1e-5)


def test_one_owner_is_what_a_single_scene_gives(heads: AuxHeads) -> None:
    vectors, labels = torch.randn(2, 5, 24), torch.zeros(2, 5, 4, dtype=torch.int8)
    owners = torch.zeros(10, dtype=torch.int64)
    flat = heads.histories.of_owners(vectors.flatten(0, 1), labels.flatten(0, 1), owners, 1)
    assert torch.equal(heads.histories(vectors, labels), flat)


def test_what_is_in_doubt_moves_nothing(heads: AuxHeads) -> None:
    loss = heads.states(torch.randn(3, 24), torch.full((3, len(heads.states.heads)), UNSURE, dtype=torch.int8))
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in heads.parameters())
