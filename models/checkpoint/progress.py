"""Progress of loading a checkpoint: libraries by number, weights by bytes. Used from the loading thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MIB = 2**20
_BYTES_A_UNIT = 100 * _MIB
"""Weights of this size count as one library: both take about the same time on a laptop."""


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress at one moment."""

    doing: str
    """What is being done, for display: `reading the weights, 210 of 4300 MiB`."""
    share: float | None
    """Share done, in [0, 1]; `None` while the total is unknown."""


OnLoading = Callable[[Loading], None]


class LoadingSteps:
    """Reports the share done before each step and, within steps counted in bytes, after each read.

    >>> steps = LoadingSteps(lambda loading: print(f"{loading.share:.0%} {loading.doing}"), ("torch",), 50 * 2**20)
    >>> steps.next("torch")
    0% torch
    >>> steps.next("weights")
    50% weights
    >>> steps.read(25 * 2**20)
    75% weights, 25 of 50 MiB
    """

    def __init__(self, on_loading: OnLoading | None, steps: tuple[str, ...], num_bytes: int) -> None:
        """steps: names of the steps before the weights. num_bytes: size of the weights, read after them."""
        self._on_loading = on_loading or (lambda loading: None)
        self._steps = steps
        self._num_bytes = num_bytes
        self._of_weights = max(1.0, num_bytes / _BYTES_A_UNIT)
        self._num_begun = 0
        self._num_read = 0
        self._doing = ""

    def next(self, doing: str) -> None:
        """Finish the step before and start this one."""
        assert self._num_begun <= len(self._steps), "more steps than were said"
        self._num_begun += 1
        self._doing = doing
        self._tell(doing)

    def read(self, num_bytes: int) -> None:
        """Count `num_bytes` more bytes of the weights as read."""
        self._num_read += num_bytes
        self._tell(f"{self._doing}, {self._num_read / _MIB:.0f} of {self._num_bytes / _MIB:.0f} MiB")

    def _tell(self, doing: str) -> None:
        weights = self._of_weights * self._num_read / max(1, self._num_bytes)
        share = (self._num_begun - 1 + weights) / (len(self._steps) + self._of_weights)
        self._on_loading(Loading(doing, min(1.0, share)))


def told_download(on_loading: OnLoading) -> type[Any]:
    """A progress bar class for the hub's client that reports the bytes downloaded so far."""
    from huggingface_hub.utils.tqdm import tqdm

    class SentState(tqdm):
        """Counts by itself, because a disabled bar does not count."""

        def __init__(self, *values: Any, **named: Any) -> None:
            self._counts = named.get("unit") == "B" and "econstruct" in str(named.get("desc"))
            self._num_bytes = 0
            super().__init__(*values, **named)  # type: ignore[no-untyped-call]  # tqdm has no annotation there

        def update(self, n: float | None = 1) -> bool | None:
            self._num_bytes += int(n or 0)
            if self._counts:
                total = int(self.total or 0)
                of = f" of {total / _MIB:.0f}" if total else ""
                share = min(1.0, self._num_bytes / total) if total else None
                on_loading(Loading(f"downloading, {self._num_bytes / _MIB:.0f}{of} MiB", share))
            shown: bool | None = super().update(n)
            return shown

    return SentState
