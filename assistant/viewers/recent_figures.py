"""The last minute of a stream's figures, one sample per second. The thread "sessions" writes, any thread reads."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.stream.stats import peak_memory_bytes

if TYPE_CHECKING:
    from assistant.serving.channel_types import ChannelSnapshot

SECONDS = 60
STAGES = ("capture", "queue", "vision", "prefill", "decode")


@dataclass(frozen=True, slots=True)
class SecondOfFigures:
    """The figures of one second."""

    at_s: float
    """Time of the sample on `Clock.now_s`."""
    fps_in: float
    fps_used: float
    num_empty: int
    """Total so far, as is `num_dropped`."""
    num_dropped: int
    delays_ms: tuple[float, ...]
    """Milliseconds of each stage of `STAGES`."""
    cache: tuple[int, int, int]
    """Numbers of cached tokens: pinned, text, vision."""


class RecentFigures:
    """Samples of the last `SECONDS` seconds."""

    def __init__(self) -> None:
        self._samples: deque[SecondOfFigures] = deque(maxlen=SECONDS)

    def sample(self, seen: ChannelSnapshot, at_s: float) -> None:
        """Add a sample, unless the last one is less than a second old."""
        if self._samples and at_s - self._samples[-1].at_s < 0.95:
            return
        delays, cache = seen.delays_ms, seen.memory.cache
        self._samples.append(
            SecondOfFigures(
                at_s,
                seen.rates.fps_in,
                seen.rates.fps_used,
                seen.counts.num_empty,
                seen.counts.num_dropped,
                tuple(getattr(delays, stage) for stage in STAGES),
                (cache.pinned, cache.text, cache.vision),
            )
        )

    def clear(self) -> None:
        """Remove every sample, for a new stream."""
        self._samples.clear()

    def samples(self) -> list[SecondOfFigures]:
        """The samples, oldest first."""
        return list(self._samples)


def resident_memory_bytes() -> int:
    """Resident memory of the process now; its peak on systems without `/proc`."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return peak_memory_bytes()
