"""The memory that all sessions and questions together may come to take. Plain arithmetic; any thread."""

from __future__ import annotations

from assistant.serving.contracts import CapacityExceeded


class MemoryBudget:
    """At most `max_bytes`; without a bound where None."""

    def __init__(self, max_bytes: int | None) -> None:
        self.max_bytes = max_bytes

    def check(self, name: str, num_bytes: int, *, beside: int) -> None:
        """Raise `CapacityExceeded` where `num_bytes` do not fit beside what the others may come to take."""
        limit = self.max_bytes
        if limit is None or beside + num_bytes <= limit:
            return
        fit = max(0, limit - beside) // num_bytes
        of_all = limit // num_bytes
        free = max(0, limit - beside)
        raise CapacityExceeded(
            f"{name}: its cache may come to {_mib(num_bytes)}, and {_mib(free)} of {_mib(limit)} are free; "
            f"{of_all} such streams fit in all, {fit} beside those that run; raise --max-memory, free memory "
            "of the device, or lower its window"
        )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
