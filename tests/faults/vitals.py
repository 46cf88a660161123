"""Measures a process's memory, threads and open files, and whether they stay flat."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Vitals:
    """One measurement of this process."""

    rss_mib: float
    num_threads: int
    num_files: int


def take_vitals() -> Vitals:
    """Measure this process; works on Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    rss_mib = pages * os.sysconf("SC_PAGE_SIZE") / _MIB
    return Vitals(round(rss_mib, 1), threading.active_count(), len(os.listdir("/proc/self/fd")))


@dataclass(frozen=True, slots=True)
class Flatness:
    """How flat a series of measurements is, without its first quarter, in which caches fill and libraries load."""

    rss_first_mib: float
    """Mean of the second quarter."""
    rss_last_mib: float
    """Mean of the last quarter."""
    rss_most_mib: float
    threads: tuple[int, int]
    """Least and greatest number."""
    files: tuple[int, int]

    @property
    def growth_mib(self) -> float:
        """Growth from the second quarter to the last, MiB."""
        return round(self.rss_last_mib - self.rss_first_mib, 1)


def flatness(series: Sequence[Vitals]) -> Flatness:
    """Summarise at least four evenly spaced measurements."""
    settled = series[len(series) // 4 :]
    third = max(1, len(settled) // 3)
    rss = np.array([look.rss_mib for look in settled])
    threads, files = ([getattr(look, name) for look in settled] for name in ("num_threads", "num_files"))
    return Flatness(
        round(float(rss[:third].mean()), 1),
        round(float(rss[-third:].mean()), 1),
        float(rss.max()),
        (min(threads), max(threads)),
        (min(files), max(files)),
    )
