"""Sample the next token with transformers' own logits processors. Greedy by default."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.errors import SettingsError

if TYPE_CHECKING:
    from transformers.generation.logits_process import LogitsProcessorList


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How tokens are sampled. The defaults are greedy and change no logits."""

    temperature: float = 0.0
    """0 takes the most likely token."""
    top_p: float = 1.0
    top_k: int = 0
    """0 considers all tokens."""
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    """Length of token sequences that may not repeat within one turn; 0 allows any."""
    seed: int = 0

    def __post_init__(self) -> None:
        rules = (
            ("temperature", 0 <= self.temperature <= 5, "0 to 5; 0 is greedy"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1; 1 is off"),
            ("top_k", self.top_k >= 0, "at least 0; 0 is off"),
            ("repetition_penalty", 0.5 <= self.repetition_penalty <= 5, "0.5 to 5; 1 is off"),
            ("no_repeat_ngram", self.no_repeat_ngram >= 0, "at least 0; 0 is off"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise SettingsError(f"{name} {getattr(self, name)}: {rule}")


@dataclass(frozen=True, slots=True)
class Choice:
    """A sampled token and its log-probability under the model itself, before any processor."""

    token: int
    logprob: float


class TokenSampler:
    """Samples tokens for one session. The engine's thread calls it."""

    def __init__(self, settings: SamplingSettings | None = None) -> None:
        settings = settings or SamplingSettings()
        self._greedy = settings.temperature == 0
        self._seed = settings.seed
        self._generators: dict[torch.device, torch.Generator] = {}
        self._processors = _processors(settings)

    @property
    def takes_likeliest(self) -> bool:
        """Whether `choose` takes the likeliest token that is not barred, which a device can find by itself."""
        # A subclass may choose otherwise.
        return type(self) is TokenSampler and self._greedy and not self._processors

    def choose(self, logits: torch.Tensor, said: Sequence[int], *, barred: Collection[int] = ()) -> Choice:
        """Sample the next token from `logits` `[1, vocab]`; never one of `barred`. said: token ids of this turn so
        far."""
        logits = logits.float()
        scores = logits
        if self._processors or barred:
            scores = logits.clone()
            scores[:, list(barred)] = -math.inf
        if self._processors:
            ids = torch.tensor([list(said)], dtype=torch.long, device=logits.device)
            scores = self._processors(ids, scores)  # type: ignore[arg-type]
        if self._greedy:
            token = int(scores[0].argmax())
        else:
            token = int(torch.multinomial(scores[0].softmax(-1), 1, generator=self._generator(logits.device)))
        return Choice(token, float(logits[0].log_softmax(-1)[token]))

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def _processors(settings: SamplingSettings) -> LogitsProcessorList | None:
    """transformers' processors for these settings; `None`, and nothing imported, where none is needed."""
    if settings.temperature == 0 and settings.repetition_penalty == 1 and not settings.no_repeat_ngram:
        return None
    from transformers.generation import logits_process as known

    processors = known.LogitsProcessorList()
    if settings.repetition_penalty != 1:
        processors.append(known.RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.no_repeat_ngram:
        processors.append(known.NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram))
    if settings.temperature:
        processors.append(known.TemperatureLogitsWarper(settings.temperature))
        if settings.top_k:
            processors.append(known.TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1:
            processors.append(known.TopPLogitsWarper(settings.top_p))
    return processors
