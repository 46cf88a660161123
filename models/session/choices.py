"""The probabilities of given answers to a question, measured on continuations of a session's memory.

The engine's thread owns it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.session.context import Context
from models.session.runtime import Runtime
from models.session.steps import StepGenerator, as_steps


@as_steps
def answer_shares(
    runtime: Runtime, context: Context, ids: Sequence[int], answers: Sequence[Sequence[int]]
) -> StepGenerator[list[float]]:
    """How probable each answer is after `ids`, as shares that add up to 1.

    answers: their token ids, none empty. Each is fed as if it alone followed the question, and its tokens'
    log-probabilities are added up, as if the model said it word by word.
    """
    fed = [runtime.embed([*ids, *answer[:-1]]) for answer in answers]
    found = yield from context.try_all(fed, "all")
    sums = []
    for answer, logits in zip(answers, found, strict=True):
        chosen = torch.tensor(list(answer), device=logits.device)[:, None]
        rows = logits[len(ids) - 1 :].float().log_softmax(-1)
        sums.append(float(rows.gather(1, chosen).sum()))
    return [float(share) for share in torch.tensor(sums, dtype=torch.float64).softmax(0)]
