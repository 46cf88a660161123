"""Turns a rule's probabilities, frame by frame, into occurrences with a start, a peak and an end.

Pure state machine on media time, without clocks or threads; one for each rule of one stream.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum

from assistant.rules.rule import Rule

RELEASE_LOG_ODDS = 1.0
"""A hit counts on until the log-odds have fallen so far below the rule's: a probability that trembles ends nothing."""
MOST_SHOWN = 8
"""Hits kept of an occurrence, its first and its latest, as the frames that decided."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One stretch of time in which a rule holds."""

    started_s: float
    """Media time of the first hit."""
    latest_s: float
    """Media time of the latest hit."""
    peak: float
    """Highest probability so far."""
    peak_s: float
    """Media time of the peak."""
    hits: tuple[tuple[float, float], ...]
    """Media time and probability of the hits that led to the alert, oldest first, at most `MOST_SHOWN`."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A rule's probability at one frame."""

    time_s: float
    """Media time."""
    probability: float
    may_begin: bool = True
    """Whether an occurrence might begin then: something had changed in the rule's zone, or it has none."""


class Change(StrEnum):
    """What a frame changed for a rule."""

    NOTHING = "nothing"
    RAISED = "raised"
    """It has held long enough: an alert is due."""
    HELD_BACK = "held_back"
    """It has held long enough, but an alert was raised less than the cooldown ago."""
    ENDED = "ended"
    """An occurrence with an alert is over."""


class RuleState:
    """Follows one rule on one stream."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        log_odds = math.log(rule.sure / (1 - rule.sure))
        self._release_below = 1 / (1 + math.exp(RELEASE_LOG_ODDS - log_odds))
        self._began: Occurrence | None = None
        self._num_hits = 0
        self._hits: deque[tuple[float, float]] = deque()
        self._is_raised = self._is_held_back = False
        self._quiet_from_s = -math.inf
        self.num_held_back = 0
        """Occurrences so far whose alert waited, as the cooldown was not over."""

    @property
    def occurrence(self) -> Occurrence | None:
        """The occurrence that goes on, whether or not an alert was raised; None where the rule does not hold."""
        return self._began

    @property
    def is_raised(self) -> bool:
        """Whether an alert was raised for the occurrence that goes on."""
        return self._is_raised

    def step(self, judged: Judged) -> tuple[Change, Occurrence | None]:
        """Take a frame's probability; returns what it changed, and the occurrence that this is about."""
        time_s, probability = judged.time_s, judged.probability
        if self._began is not None and time_s < self._began.latest_s:
            self.reset()  # sought: what was before is another time
        if self._counts(probability, may_begin=judged.may_begin):
            self._hit(time_s, probability)
            return self._due(time_s)
        if self._began is None:
            return Change.NOTHING, None
        if not self._is_raised or time_s - self._began.latest_s >= self.rule.clear_s:
            return self.end(time_s)
        return Change.NOTHING, None

    def end(self, time_s: float) -> tuple[Change, Occurrence | None]:
        """End the occurrence that goes on: the rule holds no more, the stream ended, or it cannot be known."""
        ended, was_raised = self._began, self._is_raised
        self.reset()
        if was_raised:
            self._quiet_from_s = time_s
            return Change.ENDED, ended
        return Change.NOTHING, None

    def reset(self) -> None:
        """Forget the occurrence that goes on without a word."""
        self._began, self._num_hits = None, 0
        self._is_raised = self._is_held_back = False
        self._hits.clear()

    def _counts(self, probability: float, *, may_begin: bool) -> bool:
        if self._began is None:
            return probability >= self.rule.sure and may_begin
        return probability >= (self._release_below if self._is_raised else self.rule.sure)

    def _hit(self, time_s: float, probability: float) -> None:
        self._num_hits += 1
        if not self._is_raised:
            if len(self._hits) == MOST_SHOWN:
                del self._hits[1]
            self._hits.append((time_s, probability))
        if self._began is None:
            self._began = Occurrence(time_s, time_s, probability, time_s, ())
            return
        began = replace(self._began, latest_s=time_s)
        self._began = replace(began, peak=probability, peak_s=time_s) if probability > began.peak else began

    def _due(self, time_s: float) -> tuple[Change, Occurrence | None]:
        began = self._began
        assert began is not None
        if self._is_raised or self._num_hits < self.rule.confirmations:
            return Change.NOTHING, None
        if time_s - began.started_s < self.rule.hold_s:
            return Change.NOTHING, None
        if 0 <= time_s - self._quiet_from_s < self.rule.cooldown_s:
            # Raised once the cooldown is over, if it still holds then.
            change = Change.NOTHING if self._is_held_back else Change.HELD_BACK
            self.num_held_back += change is Change.HELD_BACK
            self._is_held_back = True
            return change, began
        self._is_raised = True
        self._began = replace(began, hits=tuple(self._hits))
        return Change.RAISED, self._began
