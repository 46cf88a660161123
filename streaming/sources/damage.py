"""Counts damage in a stream and summarises it for notices. Belongs to the thread that reads the source."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.sources.pictures import Damage


@dataclass(slots=True)
class DamageTally:
    """Counts the damage since the source was opened, and how much of it was reported."""

    num_lost: int = 0
    """Number of frames that are missing."""
    num_doubtful: int = 0
    """Number of pieces that arrived damaged and were decoded nevertheless."""
    _num_lost_reported: int = 0
    _num_doubtful_reported: int = 0
    _reason: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether some damage was not reported yet."""
        return (self.num_lost, self.num_doubtful) != (self._num_lost_reported, self._num_doubtful_reported)

    def add(self, damage: Damage) -> None:
        """Count one piece of damage."""
        if not self.is_pending:
            self._reason = damage.reason
        self.num_lost += damage.num_lost
        self.num_doubtful += damage.num_lost == 0

    def drain(self) -> tuple[str, int]:
        """A sentence about the damage that was not reported yet, and how many frames it lost; marks it as reported."""
        num_lost = self.num_lost - self._num_lost_reported
        num_doubtful = self.num_doubtful - self._num_doubtful_reported
        self._num_lost_reported, self._num_doubtful_reported = self.num_lost, self.num_doubtful
        parts = []
        if num_lost:
            parts.append(f"{num_lost} {'frame' if num_lost == 1 else 'frames'} could not be decoded")
        if num_doubtful:
            parts.append(f"{num_doubtful} {'piece' if num_doubtful == 1 else 'pieces'} of data came damaged")
        return f"{' and '.join(parts)} ({self._reason})", num_lost
