"""Run one steps method of an object at a time, although steps may be suspended between two forward passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from models.errors import SessionError
from models.session.steps import StepGenerator, Steps, as_steps


class OneAtATime(Protocol):
    """An object whose methods marked `exclusive` never overlap."""

    _busy: str | None
    """Name of the method that is running."""


S = TypeVar("S", bound=OneAtATime)
P = ParamSpec("P")
T = TypeVar("T")


def exclusive(method: Callable[Concatenate[S, P], Steps[T]]) -> Callable[Concatenate[S, P], Steps[T]]:
    """Raise `SessionError` when a method is started while another one, from its first step to its end or `close`, is
    running."""

    @wraps(method)
    @as_steps
    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> StepGenerator[T]:
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
