"""The last minute of a stream's figures, one sample a second. The sessions' thread writes, anyone may read."""

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
    """One second."""

    at_s: float
    """Our clock."""
    fps_in: float
    fps_used: float
    num_empty: int
    """So far, as those below."""
    num_dropped: int
    delays_ms: tuple[float, ...]
    """In the order of `STAGES`."""
    cache: tuple[int, int, int]
    """Tokens: pinned, text, vision."""


class RecentFigures:
    """A minute of samples."""

    def __init__(self) -> None:
        self._samples: deque[SecondOfFigures] = deque(maxlen=SECONDS)

    def sample(self, seen: ChannelSnapshot, at_s: float) -> None:
        """Take a sample unless one was taken within the second."""
        if self._samples and at_s - self._samples[-1].at_s < 0.95:
            return
        delays, cache = seen.delays_ms, seen.cache
        self._samples.append(
            SecondOfFigures(
                at_s,
                seen.fps_in,
                seen.fps_used,
                seen.num_empty,
                seen.num_dropped,
                tuple(getattr(delays, stage) for stage in STAGES),
                (cache.pinned, cache.text, cache.vision),
            )
        )

    def clear(self) -> None:
        """Another stream begins."""
        self._samples.clear()

    def samples(self) -> list[SecondOfFigures]:
        """Oldest first."""
        return list(self._samples)


def resident_memory_bytes() -> int:
    """What the process holds in memory now; on systems that do not say, the most it has held."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return peak_memory_bytes()
