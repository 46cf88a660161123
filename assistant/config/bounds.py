"""How much people may ask for: one place for each bound, with its message. Plain values; any thread may hold them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from assistant.errors import ConfigError


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Numbers that are accepted.

    >>> FPS.problem(31)
    'it must be above 0 and at most 30; 2 suits most cameras'
    """

    least: float
    most: float
    remedy: str
    excludes_least: bool = False
    """Whether numbers must lie above `least`."""
    unit: str = ""

    def problem(self, value: float) -> str | None:
        """What is wrong with a number, with the remedy; None where it is accepted."""
        is_enough = value > self.least if self.excludes_least else value >= self.least
        if is_enough and value <= self.most:
            return None
        between = (
            f"above {self.least:g} and at most {self.most:g}"
            if self.excludes_least
            else f"from {self.least:g} to {self.most:g}"
        )
        return f"it must be {between}{self.unit}; {self.remedy}"

    def check(self, value: float, name: str) -> None:
        """Raise `ConfigError` for a number outside."""
        if (problem := self.problem(value)) is not None:
            raise ConfigError(f"{name} {value:g}: {problem}")

    def validated(self, value: float) -> float:
        """The number; `ValueError` where it lies outside, as pydantic wants it."""
        if (problem := self.problem(value)) is not None:
            raise ValueError(problem)
        return value


TALKATIVE = NumberRange(-20.0, 20.0, "0 is usual, 1 speaks more")
"""Log-odds in favour of speaking."""
FPS = NumberRange(0.0, 30.0, "2 suits most cameras", excludes_least=True)
"""Frames a second for the model."""

OPEN_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 3.0
PICTURE_TIMEOUT_S = 30.0
"""How long a source is waited for where nothing else is said: to open, while nothing comes, for its first picture."""
OPEN_TIMEOUT = NumberRange(0.0, 60.0, f"{OPEN_TIMEOUT_S:g} is usual", excludes_least=True, unit=" seconds")
READ_TIMEOUT = replace(OPEN_TIMEOUT, remedy=f"{READ_TIMEOUT_S:g} is usual")
PICTURE_TIMEOUT = replace(OPEN_TIMEOUT, most=600.0, remedy=f"{PICTURE_TIMEOUT_S:g} is usual")
VIEWER_TIMEOUTS = {
    "open_timeout_s": replace(OPEN_TIMEOUT, most=30.0),
    "read_timeout_s": replace(READ_TIMEOUT, most=30.0),
    "picture_timeout_s": replace(PICTURE_TIMEOUT, most=120.0),
}
"""What a viewer of the browser app may have a source waited for."""

MOST_LETTERS = 2000
"""Length of a question, or of a standing instruction."""


def text_problem(text: str) -> str | None:
    """What is wrong with the length of a question or an instruction; None where it is accepted."""
    return (
        None if len(text) <= MOST_LETTERS else f"{len(text)} characters: at most {MOST_LETTERS} are allowed; shorten it"
    )


def check_text(text: str, what: str) -> None:
    """Raise `ConfigError` for a text that is too long. what: as "a question"."""
    if (problem := text_problem(text)) is not None:
        raise ConfigError(f"{what} of {problem}")


def validated_text(text: str) -> str:
    """The text; `ValueError` where it is too long, as pydantic wants it."""
    if (problem := text_problem(text)) is not None:
        raise ValueError(problem)
    return text
