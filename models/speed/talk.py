"""A sampler that makes any model say a fixed text, so that turns of equal length can be timed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from models.session.token_sampling import Choice, TokenSampler

SPOKEN = "A red circle enters on the left and a blue square leaves on the right. "


class Reciter(TokenSampler):
    """Chooses as its base class does, and then returns the next token of a fixed text: random weights would end a turn
    anywhere."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__()
        self._ids = list(ids)

    def choose(self, logits: torch.Tensor, said: Sequence[int], *, barred: Collection[int] = ()) -> Choice:
        choice = super().choose(logits, said, barred=barred)
        return Choice(self._ids[len(said) % len(self._ids)], choice.logprob)
