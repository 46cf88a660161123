"""One method of an object at a time, where methods are steps that may rest between two forward passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from models.errors import SessionError
from models.session.steps import StepGenerator, Steps, as_steps


class OneAtATime(Protocol):
    """Does one thing at a time."""

    _busy: str | None
    """The method under way."""


S = TypeVar("S", bound=OneAtATime)
P = ParamSpec("P")
T = TypeVar("T")


def exclusive(method: Callable[Concatenate[S, P], Steps[T]]) -> Callable[Concatenate[S, P], Steps[T]]:
    """Refuse a method, with a `SessionError`, from another's first step to its end or `close`."""

    @wraps(method)
    @as_steps
    def guarded(self: S, *args: P.args, **kwargs: P.kwargs) -> StepGenerator[T]:
        if self._busy is not None:
            raise SessionError(
                f"{method.__name__} while {self._busy} is under way: a session does one thing at a time; "
                "finish that job, or cancel it first"
            )
        self._busy = method.__name__
        try:
            return (yield from method(self, *args, **kwargs))
        finally:
            self._busy = None

    return guarded
