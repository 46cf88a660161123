"""Steps: generators by which a session asks the engine for work of the model.

A session's methods are steps: generators that yield a `Forward` or an `Encode` and receive the result, or yield a
`TextPiece` of generated text. The engine runs them and answers what many sessions wait for in one pass, so that N
sessions advance side by side and any of them can be stopped between two passes.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    import torch

    from models.network.slots import Slot
    from streaming.difffp.live import CellGrid

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")

NOTED_CALLS = 12
"""Number of innermost calls that are noted with an error."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A request to append embeddings to a session's slot, and to try continuations that leave no trace."""

    cache: Slot
    embeddings: torch.Tensor
    """`[num_tokens, hidden]`, in the model's dtype and on its device."""
    logits: Literal["none", "last", "all"] = "last"
    """Where logits are computed: nowhere, at the last token, or at each token."""
    branches: tuple[torch.Tensor, ...] = ()
    """Continuations `[n, hidden]`, n > 0, each as if it alone followed the embeddings; they are forgotten."""
    branch_logits: Literal["last", "all"] = "last"
    """Where logits of the branches are computed."""

    @property
    def num_rows(self) -> int:
        """Tokens that the pass computes for this request."""
        return len(self.embeddings) + sum(map(len, self.branches))


@dataclass(frozen=True, slots=True)
class Output:
    """The result of a forward pass."""

    logits: torch.Tensor
    """`[0, vocab]`, `[1, vocab]` or `[num_tokens, vocab]`, as requested; in the model's dtype and on its device."""
    elapsed_ms: float
    """Duration of the pass, which may have served other sessions too."""
    branches: tuple[torch.Tensor, ...] = ()
    """Logits of each branch: `[1, vocab]`, or `[n, vocab]` where all were requested."""
    likeliest: tuple[int, float] | None = None
    """The likeliest token at the last logits and its log-probability, where the device has chosen it already."""


@dataclass(frozen=True, slots=True)
class Encode:
    """A request for the visual tokens of one frame."""

    patches: torch.Tensor
    """Float32 `[num_patches, values]`, as `VisionSettings.cut` orders them."""
    grid: CellGrid


@dataclass(frozen=True, slots=True)
class EncodeOutput:
    """The result of encoding a frame."""

    tokens: torch.Tensor
    """`[num_cells, hidden]`."""
    elapsed_ms: float
    """Duration of the pass, which may have encoded other sessions' frames too."""


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of generated text; complete characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class Pause:
    """End of a step of work that the session does itself, such as encoding a part of some attached pictures."""


Request = Forward | Encode | Pause
"""What a job can wait for."""
Reply = Output | EncodeOutput | None
"""What it receives: the result, or `None` after a pause."""
StepGenerator = Generator[Request | TextPiece, Reply, T]
"""Type of the generator that the body of a steps function is."""

if TYPE_CHECKING:

    class Steps(StepGenerator[T_co], Awaitable[T_co]):
        """Steps to be run: with `yield from`, or as a `Job` of the engine.

        Awaitable for the type checker only, which thereby reports calls whose result is discarded and which would do
        nothing (mypy's `unused-awaitable`).
        """

else:
    Steps = StepGenerator


def as_steps(function: Callable[P, StepGenerator[T]]) -> Callable[P, Steps[T]]:
    """Mark a generator function as steps: a call does nothing until its result is run."""
    return cast("Callable[P, Steps[T]]", function)


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """One running generator. The engine's thread advances it; the code that started it reads the outcome."""

    steps: Steps[T]
    pieces: list[str] = field(default_factory=list)
    """Text generated so far, in pieces."""
    done: bool = False
    result: T | None = None
    error: Exception | None = None
    num_passes: int = 0
    """Forward passes whose result the job has received."""
    num_waited: int = 0
    """Steps of the engine since the request that were full without it."""
    _pending: Request | None = None
    _num_taken: int = 0

    def take_pieces(self) -> list[str]:
        """The pieces added since the last call."""
        new = self.pieces[self._num_taken :]
        self._num_taken = len(self.pieces)
        return new

    def cancel(self) -> None:
        """Stop the job at its current step; the session stays usable. Called on the engine's thread."""
        self.steps.close()
        self._pending = None
        self.done = True

    def outcome(self) -> T:
        """The result; raises the job's error."""
        if self.error is not None:
            raise self.error
        assert self.done, "outcome of a job that is still under way"
        return self.result  # type: ignore[return-value]

    def begin(self) -> None:
        """Run up to the first request."""
        self._advance(None)

    @property
    def request(self) -> Request | None:
        """What the job waits for; `None` before it began and after it ended."""
        return self._pending

    def resume(self, reply: Reply) -> None:
        """Pass the result of the request to the job, `None` after a pause, and run up to its next request."""
        self.num_passes += isinstance(reply, Output)
        self.num_waited = 0
        self._advance(reply)

    def fail(self, error: Exception) -> None:
        """Raise a forward pass's error inside the generator, which may clean up; the job ends with that error."""
        try:
            self.steps.throw(error)
        except StopIteration:
            pass
        except Exception as raised:  # the generator's own error belongs to this job only
            error = raised
        self.steps.close()
        drop_traceback(error)
        self._pending, self.error, self.done = None, error, True

    def _advance(self, reply: Reply) -> None:
        self._pending = None
        try:
            while True:
                request = self.steps.send(reply)
                if not isinstance(request, TextPiece):
                    self._pending = request
                    return
                self.pieces.append(request.text)
                reply = None
        except StopIteration as stop:
            self.result, self.done = stop.value, True
        except Exception as error:  # belongs to this job only; the job's owner raises it
            drop_traceback(error)
            self.error, self.done = error, True


def drop_traceback(error: BaseException | None) -> None:
    """Remove the traceback from an error and note its calls as text, because its frames hold activations and pictures.

    An error kept in a future, for example, would keep all of them alive. Clearing the frames' variables is not enough,
    because torch's calls hold theirs in closures.
    """
    while error is not None:
        if error.__traceback__ is not None:
            error.add_note("Raised at:\n" + "".join(traceback.format_tb(error.__traceback__, -NOTED_CALLS)).rstrip())
            error.__traceback__ = None
        error = error.__cause__ or error.__context__
