"""Measurements that leave no trace in a session: the score of speaking, and the probability of yes against no.

The engine's thread owns it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.checkpoint.settings import SpeakingSettings
from models.session.context import Context
from models.session.results import Check
from models.session.runtime import Runtime
from models.session.steps import StepGenerator, as_steps

NEAR_SPEAKING = -2.0
"""Calibrated log-odds above which log P(assistant), the second part of the decision to speak, is measured too."""


class Probes:
    """Measurements on forks of one session's memory."""

    def __init__(self, runtime: Runtime, context: Context, speaking: SpeakingSettings) -> None:
        self._runtime = runtime
        self._context = context
        self._speaking = speaking

    def score(self, logits: torch.Tensor) -> float:
        """s = logit(im_start) − logit(stream_start), from logits `[n, vocab]` that end with a frame's last token."""
        special = self._runtime.checkpoint.special
        return float(logits[-1, special.im_start] - logits[-1, special.stream_start])

    def might_speak(self, score: float, speak_above: float | None) -> bool:
        """Whether to measure log P(assistant): the score is above `speak_above`, or near a trained decision's
        threshold."""
        if speak_above is not None:
            return score > speak_above
        speaking = self._speaking
        calibrated = speaking.platt_scale * score + speaking.platt_shift
        return speaking.decision == "trained" and calibrated > NEAR_SPEAKING

    def opening(self, speak_above: float | None) -> torch.Tensor | None:
        """Embeddings of the start of a remark, to be tried in the frame's own pass; `None` where `might_speak` never
        asks."""
        if speak_above is None and self._speaking.decision != "trained":
            return None
        return self._runtime.embed([self._runtime.checkpoint.special.im_start, *self._runtime.codec.assistant[:-1]])

    def log_p_assistant(self, logits: torch.Tensor) -> float:
        """log P of the word `assistant` after `<|im_start|>`, from logits `[n, vocab]` at the tokens of `opening`."""
        chosen = torch.tensor(self._runtime.codec.assistant, device=logits.device)[:, None]
        return float(logits.float().log_softmax(-1).gather(1, chosen).sum())

    @as_steps
    def yes_or_no(
        self, questions: Sequence[Sequence[int]], yes: Sequence[int], no: Sequence[int]
    ) -> StepGenerator[list[Check]]:
        """The probability of two sets of tokens after the ids of each question, compared; memory stays as it is."""
        found = yield from self._context.try_all([self._runtime.embed(ids) for ids in questions])
        return [_check(logits, yes, no) for logits in found]

    def check_of(self, logits: torch.Tensor) -> Check:
        """The probability of yes against no, from logits `[n, vocab]` that end with a question's last token."""
        return _check(logits, *self._runtime.codec.yes_no)


def _check(logits: torch.Tensor, yes: Sequence[int], no: Sequence[int]) -> Check:
    row = logits[-1].float()
    log_odds = float(row[list(yes)].logsumexp(-1) - row[list(no)].logsumexp(-1))
    return Check(yes=log_odds > 0, log_odds=log_odds)
