"""Clock and memory of one device. The thread that runs the engine owns it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch


class Meter:
    """Times what a device does, which runs behind the program until it is waited for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.exact = False
        """Whether `now` waits for the device, so that each part of a frame is charged its own work."""

    def now(self) -> float:
        """The engine's clock, seconds."""
        return self.mark() if self.exact else time.perf_counter()

    def mark(self) -> float:
        """Seconds, once the device has done all it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    def begin_peak(self) -> None:
        """`peak_bytes` counts from here."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def peak_bytes(self) -> int | None:
        """Most memory in tensors since `begin_peak`; `None` where torch does not count it."""
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Median and 95th percentile with their count; `None` of nothing.

    >>> spread([1.0, 2.0, 3.0])
    {'p50': 2.0, 'p95': 2.9, 'n': 3}
    """
    if not values:
        return None
    p50, p95 = (round(float(value), 3) for value in np.percentile(values, [50, 95]))
    return {"p50": p50, "p95": p95, "n": len(values)}
