"""Decides when to give the model up: after an error that only a new process heals, or many in a row. Engine's thread.

Some CUDA errors leave the process's context broken: every later call raises them again, and "the process must be
terminated and relaunched" (CUDA's driver_types.h, `cudaError`). Memory that ran out is not one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from assistant.errors import AssistantError
from models.errors import ModelError
from streaming.redact import redact_text

MOST_IN_A_ROW = 10
"""Faults in a row, over all that the model watches, after which it is given up: cameras give up their memory after
three each, which heals what lies in it."""

_ONLY_A_NEW_PROCESS = frozenset(
    {4, 46, 100, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999}
)
"""The numbers of those errors, which torch's `AcceleratorError` has as `error_code`; with those of a device that is
gone, of memory whose errors cannot be corrected, and of what CUDA does not know itself."""
_IN_WORDS = re.compile(
    r"illegal memory access|launch timed out|device-side assert|hardware stack error|illegal instruction|"
    r"misaligned address|operation not supported on global/shared address space|invalid program counter|"
    r"unspecified launch failure|Tensor Memory not completely freed|uncorrectable|context is destroyed|"
    r"driver shutting down|no CUDA-capable device|busy or unavailable|MPS client|(?:CUDA|HIP) error: unknown error|"
    r"access of peer GPU memory over nvlink",
    re.IGNORECASE,
)
"""The same as `cudaGetErrorString` says them, for libraries that raise a plain `RuntimeError`."""


class ModelBroken(AssistantError):
    """The model does not work any more in this process."""


class FaultCount:
    """Counts the model's faults in a row, over all streams."""

    def __init__(self, most_in_a_row: int = MOST_IN_A_ROW) -> None:
        self._most = most_in_a_row
        self.num_in_a_row = 0

    def succeeded(self) -> None:
        """Note a step with a forward pass that succeeded."""
        self.num_in_a_row = 0

    def note(self, error: BaseException, *, counts: bool = True) -> ModelBroken | None:
        """Note a step that failed. Returns the reason to give the model up, or None. A refusal is no fault.

        counts: whether it is one of those in a row; what somebody submitted is not.
        """
        if isinstance(error, ModelError | AssistantError):
            return None
        self.num_in_a_row += counts
        what = redact_text(f"{type(error).__name__}: {_first_line(error)}")
        if breaks_the_process(error):
            return ModelBroken(f"{what}: only a new process heals this; start the program again")
        if counts and self.num_in_a_row >= self._most:
            return ModelBroken(
                f"{what}: {self.num_in_a_row} steps of the model in a row went wrong over all that it watches, and at "
                f"most {self._most - 1} may; start the program again, and look at its log if that does not help"
            )
        return None


def breaks_the_process(error: BaseException) -> bool:
    """Whether an error means that no later step of this process can work.

    >>> breaks_the_process(RuntimeError("CUDA error: device-side assert triggered"))
    True
    >>> breaks_the_process(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    False
    """
    return any(isinstance(cause, RuntimeError) and _says_so(cause) for cause in _causes(error))


def _says_so(error: RuntimeError) -> bool:
    return getattr(error, "error_code", None) in _ONLY_A_NEW_PROCESS or _IN_WORDS.search(str(error)) is not None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and the chain of its causes."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
