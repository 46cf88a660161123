"""Auxiliary heads for training: classify cells, their history and the scene's state. Used in the training process
only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from models.training.cell_targets import CELL_SIZES, MASK_SIDE, UNSURE
from models.training.data import STATE_SIZES
from models.training.history_targets import HISTORY_SIZES
from models.training.named_pictures import NAME_SIZES

if TYPE_CHECKING:
    from transformers import VideoLlama3ForConditionalGeneration

_CELL_WEIGHTS = (0.5, 0.5, 1.5, 4.0, 0.5, 0.5, 0.3, 0.5, 0.5, 1.0, 1.0)
"""Weights of the questions about a cell. Shape has the highest: it is learnt last, because the other questions' losses
outweigh it."""


class AuxHeads(nn.Module):
    """Linear heads that read a cell's place and content from its visual token, and the scene's state from a frame's
    last token.

    After half of the language model's layers, each visual token is also asked for its history. The heads make the
    encoder and the language model learn quickly what remarks alone teach slowly; they are not part of the trained
    checkpoint. From patches halfway up the vision tower a head predicts the masks of things, from which their shapes
    are then recognised.
    """

    def __init__(self, hidden: int, vision_hidden: int, *, named: bool = False) -> None:
        """named: whether to ask for the names of real things, too, for cells and for a whole picture."""
        super().__init__()
        self.masks = nn.Sequential(nn.LayerNorm(vision_hidden), nn.Linear(vision_hidden, MASK_SIDE**2))
        num_others = len(STATE_SIZES) - 1
        self.cells = _Answers(hidden, CELL_SIZES, _CELL_WEIGHTS, (1.0, 1.0, 0.2, 0.2, *[1.0] * 7))
        self.histories = _Answers(hidden, HISTORY_SIZES, (1.5, 1.0, 1.0, 1.5), (0.3, 0.3, 0.5, 0.2))
        self.states = _Answers(hidden, STATE_SIZES, (1.0,) * (num_others + 1), (0.1, *[1.0] * num_others))
        self.names = _Answers(hidden, NAME_SIZES, (1.0, 1.0), (0.3, 0.3)) if named else None
        self.mains = _Answers(hidden, NAME_SIZES, (1.0, 1.0), (1.0, 1.0)) if named else None

    @classmethod
    def of(cls, model: VideoLlama3ForConditionalGeneration, *, named: bool = False) -> AuxHeads:
        """New heads with the widths of a model."""
        widths = int(model.lm_head.in_features), int(model.model.vision_model.post_layernorm.weight.shape[0])
        return cls(*widths, named=named)

    def load_known(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load the weights of an earlier stage; questions that stage did not ask keep their random weights."""
        own = self.state_dict()
        self.load_state_dict(own | {name: values for name, values in state.items() if name in own})


class _Answers(nn.Module):
    """Several classifications of one vector, computed in one matrix product."""

    weights: torch.Tensor
    of_none: torch.Tensor
    """Weight of the first answer of each question."""
    padded: torch.Tensor
    padding: torch.Tensor

    def __init__(
        self, hidden: int, sizes: Sequence[int], weights: Sequence[float], weight_of_none: Sequence[float]
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        most = max(sizes)
        places, begins = torch.arange(most), torch.tensor([0, *np.cumsum(sizes)[:-1].tolist()])
        there = places < torch.tensor(sizes)[:, None]
        tables = {
            "weights": torch.tensor(weights),
            "of_none": torch.tensor(weight_of_none),
            "padded": (begins[:, None] + places * there).flatten(),
            "padding": torch.zeros(there.shape).masked_fill(~there, -math.inf),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Weighted loss over the questions. vectors: `[..., hidden]`; labels: int `[..., num_questions]`."""
        vectors, labels = vectors.flatten(0, -2), labels.flatten(0, -2)
        return self.of_owners(vectors, labels, torch.zeros(len(labels), dtype=torch.int64, device=labels.device), 1)

    def odds(self, vectors: torch.Tensor) -> list[torch.Tensor]:
        """Logits of each question's answers, `[..., num_answers]` each. vectors: `[..., hidden]`."""
        vectors = self.norm(vectors)
        return [head(vectors) for head in self.heads]

    def of_owners(
        self, vectors: torch.Tensor, labels: torch.Tensor, owners: torch.Tensor, num_owners: int
    ) -> torch.Tensor:
        """`forward`'s losses summed separately over the vectors of each owner.

        vectors: `[num_vectors, hidden]`; labels: int `[num_vectors, num_questions]`; owners: int64 `[num_vectors]`.
        """
        vectors, labels = self.norm(vectors), labels.long()
        weight, bias = (torch.cat([getattr(head, name) for head in self.heads]) for name in ("weight", "bias"))
        logits = nn.functional.linear(vectors, weight, bias).float()
        # Each question's answers padded to the largest number of answers: `[num_vectors, num_questions, most]`.
        every = logits.index_select(1, self.padded).unflatten(1, self.padding.shape) + self.padding
        known = labels != UNSURE
        answers = labels.clamp_min(0).unsqueeze(-1)
        wrong = every.logsumexp(dim=-1) - every.gather(-1, answers).squeeze(-1)
        shares = torch.where(labels == 0, self.of_none, 1.0) * known
        sums = torch.zeros(2, num_owners, len(self.of_none), device=logits.device)
        sums = sums.index_add(1, owners, torch.stack([wrong * shares, shares]))
        return ((sums[0] / sums[1].clamp_min(1e-9)) @ self.weights).sum() / self.weights.sum()
