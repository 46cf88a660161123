"""Counts what could not be decoded and sums it up in notices; belongs to the thread that reads the source."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.sources.pictures import Damage


@dataclass(slots=True)
class DamageTally:
    """What was damaged since the source was opened, and what of it was not told yet."""

    num_lost: int = 0
    """Frames that are missing."""
    num_doubtful: int = 0
    """Pieces that came damaged and were decoded nevertheless."""
    _num_lost_told: int = 0
    _num_doubtful_told: int = 0
    _reason: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether there is something to tell."""
        return (self.num_lost, self.num_doubtful) != (self._num_lost_told, self._num_doubtful_told)

    def add(self, damage: Damage) -> None:
        """Count one."""
        if not self.is_pending:
            self._reason = damage.reason
        self.num_lost += damage.num_lost
        self.num_doubtful += damage.num_lost == 0

    def drain(self) -> tuple[str, int]:
        """What to tell, once: a sentence, and how many frames were lost."""
        num_lost = self.num_lost - self._num_lost_told
        num_doubtful = self.num_doubtful - self._num_doubtful_told
        self._num_lost_told, self._num_doubtful_told = self.num_lost, self.num_doubtful
        parts = []
        if num_lost:
            parts.append(f"{num_lost} {'frame' if num_lost == 1 else 'frames'} could not be decoded")
        if num_doubtful:
            parts.append(f"{num_doubtful} {'piece' if num_doubtful == 1 else 'pieces'} of data came damaged")
        return f"{' and '.join(parts)} ({self._reason})", num_lost
