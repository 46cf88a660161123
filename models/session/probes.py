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

    @as_steps
    def log_p_assistant(self) -> StepGenerator[float]:
        """log P of the word `assistant` after `<|im_start|>`, measured on a fork."""
        word = self._runtime.codec.assistant
        opening = [self._runtime.checkpoint.special.im_start, *word[:-1]]
        with self._context.fork():
            logits = yield from self._context.extend(self._runtime.embed(opening), "all")
        chosen = torch.tensor(word, device=logits.device)[:, None]
        return float(logits.float().log_softmax(-1).gather(1, chosen).sum())

    @as_steps
    def yes_or_no(self, ids: Sequence[int], yes: Sequence[int], no: Sequence[int]) -> StepGenerator[Check]:
        """The probability of two sets of tokens after `ids`, compared on a fork."""
        with self._context.fork():
            logits = yield from self._context.extend(self._runtime.embed(ids))
        row = logits[-1].float()
        log_odds = float(row[list(yes)].logsumexp(-1) - row[list(no)].logsumexp(-1))
        return Check(yes=log_odds > 0, log_odds=log_odds)
