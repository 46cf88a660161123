"""Yes/no questions and choices among given answers, measured together on continuations of a session's memory.

The engine's thread owns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import torch

from models.session.steps import StepGenerator, as_steps

if TYPE_CHECKING:
    from models.session.context import Context
    from models.session.probes import Probes
    from models.session.results import Check
    from models.session.runtime import Runtime


@dataclass(frozen=True, slots=True)
class AnswerChoice:
    """A question with the answers to choose from, as token ids."""

    ids: Sequence[int]
    answers: Sequence[Sequence[int]]
    """None is empty."""

    @property
    def fed(self) -> list[list[int]]:
        """What is fed for each answer: the question, and the answer without its last token."""
        return [[*self.ids, *answer[:-1]] for answer in self.answers]

    def shares(self, found: Sequence[torch.Tensor]) -> list[float]:
        """How probable each answer is, as shares that add up to 1, from the last logits `[n, vocab]` of what was fed.

        The log-probabilities of an answer's tokens are added up, as if the model said it word by word.
        """
        sums = []
        for answer, logits in zip(self.answers, found, strict=True):
            chosen = torch.tensor(list(answer), device=logits.device)[:, None]
            rows = logits[-len(answer) :].float().log_softmax(-1)
            sums.append(float(rows.gather(1, chosen).sum()))
        return [float(share) for share in torch.tensor(sums, dtype=torch.float64).softmax(0)]


@as_steps
def check_and_choose(
    runtime: Runtime,
    context: Context,
    probes: Probes,
    questions: Sequence[Sequence[int]],
    choices: Sequence[AnswerChoice],
) -> StepGenerator[tuple[list[Check], list[list[float]]]]:
    """A check of each question's ids and the shares of each choice, in passes that all of them share.

    What all of them begin with is computed once.
    """
    fed = [*questions, *(ids for choice in choices for ids in choice.fed)]
    num_shared = num_in_common([*questions, *(choice.ids for choice in choices)]) if len(fed) > 1 else 0
    shared = runtime.embed(fed[0][:num_shared]) if num_shared else None
    asked = [runtime.embed(ids[num_shared:]) for ids in fed]
    found = yield from context.try_all(asked, "all" if choices else "last", shared)
    checks = [probes.check_of(logits) for logits in found[: len(questions)]]
    rest = iter(found[len(questions) :])
    return checks, [choice.shares([next(rest) for _ in choice.answers]) for choice in choices]


def num_in_common(questions: Sequence[Sequence[int]]) -> int:
    """With how many tokens several questions all begin, but for the last token of each.

    >>> num_in_common([[7, 8, 1, 9], [7, 8, 2, 9]]), num_in_common([[7, 8], [7, 8]])
    (2, 1)
    """
    most = min(map(len, questions)) - 1
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*(ids[:most] for ids in questions), strict=True))
    return sum(1 for _ in alike)
