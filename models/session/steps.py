"""How a session asks for forward passes without running them: generators that yield requests and pieces of text.

A session's methods are *steps*: generators that yield a `Forward` and get an `Output` back, or yield a `TextPiece`
for whoever listens. The engine drives them, so that N sessions advance side by side and any of them can be stopped
between two forward passes.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    import torch

    from models.session.cache import RollingCache

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")

NOTED_CALLS = 12
"""How many of the last calls that an error came through are noted with it."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A request to append embeddings to a cache."""

    cache: RollingCache
    embeddings: torch.Tensor
    """`[num_tokens, hidden]`, the model's dtype and device."""
    logits: Literal["none", "last", "all"] = "last"
    """Where logits are wanted: nowhere, at the last token, or at each."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a forward pass gave."""

    logits: torch.Tensor
    """`[0, vocab]`, `[1, vocab]` or `[num_tokens, vocab]`, as asked; the model's dtype and device."""
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of generated text, complete characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class Pause:
    """The end of a turn: work that is no forward pass was done, a part of some pictures' encoding for one."""


StepGenerator = Generator[Forward | TextPiece | Pause, Output | None, T]
"""What the body of a steps function is."""

if TYPE_CHECKING:

    class Steps(StepGenerator[T_co], Awaitable[T_co]):
        """Steps that somebody has to drive: with `yield from`, or as a `Job` of the engine.

        Awaitable to the type checker alone, which therefore finds calls whose result is thrown away, and which would
        do nothing (mypy's `unused-awaitable`).
        """

else:
    Steps = StepGenerator


def as_steps(function: Callable[P, StepGenerator[T]]) -> Callable[P, Steps[T]]:
    """Mark a generator function as steps: calling it does nothing until somebody drives what it returns."""
    return cast("Callable[P, Steps[T]]", function)


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """One generator under way. The engine's thread advances it; whoever started it reads the outcome."""

    steps: Steps[T]
    pieces: list[str] = field(default_factory=list)
    """Text generated so far, piece by piece."""
    done: bool = False
    result: T | None = None
    error: Exception | None = None
    num_passes: int = 0
    """Forward passes that it was given the outcome of."""
    _pending: Forward | Pause | None = None
    _num_taken: int = 0

    def take_pieces(self) -> list[str]:
        """The pieces that came since the last call."""
        new = self.pieces[self._num_taken :]
        self._num_taken = len(self.pieces)
        return new

    def cancel(self) -> None:
        """Stop where it stands; the session stays usable. Call it from the engine's thread."""
        self.steps.close()
        self._pending = None
        self.done = True

    def outcome(self) -> T:
        """The result; raises what went wrong inside."""
        if self.error is not None:
            raise self.error
        assert self.done, "outcome of a job that is still under way"
        return self.result  # type: ignore[return-value]

    def begin(self) -> None:
        """Run up to the first request."""
        self._advance(None)

    @property
    def request(self) -> Forward | Pause | None:
        """The forward pass, or the next turn, that it waits for; `None` before it began and after it ended."""
        return self._pending

    def resume(self, output: Output | None) -> None:
        """Hand over what was asked for, nothing after a pause, and run up to the next request."""
        self.num_passes += output is not None
        self._advance(output)

    def fail(self, error: Exception) -> None:
        """A forward pass failed: tell the generator, which may clean up, and end with that error."""
        try:
            self.steps.throw(error)
        except StopIteration:
            pass
        except Exception as raised:  # the generator's own failure belongs to this job alone
            error = raised
        self.steps.close()
        let_go(error)
        self._pending, self.error, self.done = None, error, True

    def _advance(self, output: Output | None) -> None:
        self._pending = None
        try:
            while True:
                request = self.steps.send(output)
                if not isinstance(request, TextPiece):
                    self._pending = request
                    return
                self.pieces.append(request.text)
                output = None
        except StopIteration as stop:
            self.result, self.done = stop.value, True
        except Exception as error:  # belongs to this job alone; its owner raises it
            let_go(error)
            self.error, self.done = error, True


def let_go(error: BaseException | None) -> None:
    """Take the traceback off an error and note it as text: its frames hold activations and pictures.

    Who keeps the error, in a future for one, would keep all that alive; clearing the frames' variables is not enough,
    since torch's calls hold theirs in closures.
    """
    while error is not None:
        if error.__traceback__ is not None:
            error.add_note("Raised at:\n" + "".join(traceback.format_tb(error.__traceback__, -NOTED_CALLS)).rstrip())
            error.__traceback__ = None
        error = error.__cause__ or error.__context__
