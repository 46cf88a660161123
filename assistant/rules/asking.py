"""Asks a model about the conditions of all rules of a frame at once. The engine's thread owns it.

The questions are asked on forks of the model's memory, so they leave no trace in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from assistant.rules.wording import SIDES, Condition
from assistant.stream.speaking import sigmoid
from models.groundtruth.remarks import SIDE_PHRASES, capitalised
from models.session.steps import StepGenerator, Steps, as_steps

if TYPE_CHECKING:
    from models.session.results import Check

LIKELY = 0.5
"""Probability of a thing from which on it is asked where it is."""
SIDE_ANSWERS = tuple(f"{capitalised(SIDE_PHRASES[side])}." for side in SIDES)


class RuleSession(Protocol):
    """What rules need of the model's side (`models.session.session.Session`)."""

    def check_and_choose(
        self, questions: Sequence[str], choices: Sequence[tuple[str, Sequence[str]]]
    ) -> Steps[tuple[list[Check], list[list[float]]]]: ...


@dataclass(slots=True)
class ConditionAnswers:
    """What a model said about the conditions of rules at one frame."""

    yes: dict[str, float] = field(default_factory=dict)
    """The probability of yes, by question."""
    places: dict[str, list[float]] = field(default_factory=dict)
    """The shares of `SIDE_ANSWERS`, by the question where a thing is."""

    def missing(self, conditions: Sequence[Condition], guess: ConditionAnswers) -> tuple[list[str], list[str]]:
        """The questions of both kinds that are still to be asked, each once, if all else is as in `guess`."""
        questions, places = dict.fromkeys(condition.question for condition in conditions), dict[str, None]()
        for condition in conditions:
            if condition.side is None or not guess.has(condition.question):
                continue
            for thing in condition.things:
                questions[thing.question] = None
                if guess.has(thing.question):
                    places[thing.where] = None
        return [each for each in questions if each not in self.yes], [
            each for each in places if each not in self.places
        ]

    def has(self, question: str) -> bool:
        """Whether the thing that a question asks for is likely in view."""
        return self.yes.get(question, 0.0) >= LIKELY

    def probability(self, condition: Condition) -> float:
        """The probability that a condition holds; where it names a side, that a thing in view is there."""
        probability = self.yes[condition.question]
        if condition.side is None or probability < LIKELY:
            return probability
        number = SIDES.index(condition.side)
        there = [
            self.yes[thing.question] * self.places[thing.where][number]
            for thing in condition.things
            if self.has(thing.question)
        ]
        return min(probability, max(there, default=0.0))


@as_steps
def ask(
    model: RuleSession, conditions: Sequence[Condition], before: ConditionAnswers
) -> StepGenerator[ConditionAnswers]:
    """What has to be asked to judge some conditions now.

    What `before`, the answers at an earlier frame, made necessary then is asked along at once, in the same pass; what
    turns out to be needed beside it is asked after. What is said does not depend on it.
    """
    answers = ConditionAnswers()
    guess = before
    while (wanted := answers.missing(conditions, guess)) != ([], []):
        questions, places = wanted
        checks, shares = yield from model.check_and_choose(questions, [(where, SIDE_ANSWERS) for where in places])
        answers.yes |= {question: sigmoid(check.log_odds) for question, check in zip(questions, checks, strict=True)}
        answers.places |= dict(zip(places, shares, strict=True))
        guess = answers
    return answers
