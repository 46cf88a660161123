"""The memory that all sessions and questions together may come to take. Plain arithmetic; any thread."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from assistant.serving.contracts import CapacityExceeded


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """The most memory that a session or a question may come to take, bytes."""

    kept: int = 0
    """Caches and embeddings: for as long as it is served."""
    working: int = 0
    """What one of its steps takes beside them. One step runs at a time, so the largest of all counts once."""


def total_bytes(needs: Collection[MemoryNeed]) -> int:
    """The most memory of several together: what each keeps, and the largest step."""
    return sum(need.kept for need in needs) + max((need.working for need in needs), default=0)


class MemoryBudget:
    """At most `max_bytes`; without a bound where None."""

    def __init__(self, max_bytes: int | None) -> None:
        self.max_bytes = max_bytes

    def check(self, name: str, need: MemoryNeed, *, beside: Collection[MemoryNeed]) -> None:
        """Raise `CapacityExceeded` where `need` does not fit beside what the others may come to take."""
        limit = self.max_bytes
        if limit is None or total_bytes([*beside, need]) <= limit:
            return
        working = max(need.working, *(other.working for other in beside)) if beside else need.working
        free = max(0, limit - working - sum(other.kept for other in beside))
        step = f", and {_mib(working)} are set aside for a step of the model" if working else ""
        raise CapacityExceeded(
            f"{name}: its cache may come to {_mib(need.kept)}, and {_mib(free)} of {_mib(limit)} are free{step}; "
            f"{max(0, limit - working) // max(1, need.kept)} such streams fit in all, {free // max(1, need.kept)} "
            "beside those that run; raise --max-memory, free memory of the device, or lower its window"
        )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
