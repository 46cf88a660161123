"""Figures of one stream, for its summary. Constant memory; the engine's thread writes, anyone may read `summary`."""

from __future__ import annotations

import sys
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assistant.stream.speaking import Reason

NUM_TIMED = 4096
"""Frames that the percentiles are taken over: the latest."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a stream at its end."""

    frames_read: int
    """Decoded, those between two samples included."""
    frames_sampled: int
    """Given to the model's session."""
    frames_used: int
    """Appended to the stream that the model sees."""
    frames_empty: int
    """Looked like the frames before them, so not appended."""
    frames_dropped: int
    frames_damaged: int
    share_changed: float
    """Of all cells of the sampled frames."""
    share_refreshed: float
    ms_frame_p50: float
    """From the sample to its decision, remarks aside."""
    ms_frame_p95: float
    cache_tokens: int
    cache_capacity: int
    evictions: int
    rebases: int
    comments: int
    answers: int
    media_s: float
    """Media time from the first frame to the last."""
    wall_s: float
    peak_memory_bytes: int
    """Of the process, its weights included."""
    decisions: dict[str, int] = field(default_factory=dict)
    """How often each reason came up."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Lines of text for a person."""
        decided = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in self.decisions.items())
        lost = f", dropped {self.frames_dropped}" if self.frames_dropped else ""
        lost += f", damaged {self.frames_damaged}" if self.frames_damaged else ""
        fill = self.cache_tokens / self.cache_capacity if self.cache_capacity else 0.0
        speed = f" ({self.media_s / self.wall_s:.1f}x real time)" if self.wall_s > 0 and self.media_s > 0 else ""
        return [
            f"frames     read {self.frames_read}, sampled {self.frames_sampled}, used {self.frames_used}, "
            f"empty {self.frames_empty}{lost}",
            f"cells      changed {self.share_changed:.1%}, refreshed {self.share_refreshed:.1%}",
            f"time       {self.ms_frame_p50:.0f} ms a frame at p50, {self.ms_frame_p95:.0f} at p95; "
            f"{self.media_s:.1f} s of video in {self.wall_s:.1f} s{speed}",
            f"cache      {self.cache_tokens} of {self.cache_capacity} tokens ({fill:.0%}), "
            f"evictions {self.evictions}, rebases {self.rebases}",
            f"said       comments {self.comments}, answers {self.answers}; decisions: {decided or 'none'}",
            f"memory     {self.peak_memory_bytes / 2**20:.0f} MiB at most",
        ]


@dataclass(slots=True)
class StreamStats:
    """Running counts."""

    read: int = 0
    sampled: int = 0
    used: int = 0
    dropped: int = 0
    damaged: int = 0
    evictions: int = 0
    rebases: int = 0
    comments: int = 0
    answers: int = 0
    said_ms: float = 0.0
    """How long the last turn took, from its start to its end."""
    cells: int = 0
    cells_changed: int = 0
    cells_refreshed: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    _frame_ms: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_TIMED))

    def took(self, frame_ms: float) -> None:
        """Note how long a frame took from its sample to its decision."""
        self._frame_ms.append(frame_ms)

    def summary(self, *, cache_tokens: int, cache_capacity: int, wall_s: float, reasons: Counter[Reason]) -> Summary:
        """The figures so far, with those that others count."""
        ordered = sorted(self._frame_ms)
        cells = max(1, self.cells)
        return Summary(
            frames_read=self.read,
            frames_sampled=self.sampled,
            frames_used=self.used,
            frames_empty=self.sampled - self.used,
            frames_dropped=self.dropped,
            frames_damaged=self.damaged,
            share_changed=self.cells_changed / cells,
            share_refreshed=self.cells_refreshed / cells,
            ms_frame_p50=_percentile(ordered, 0.5),
            ms_frame_p95=_percentile(ordered, 0.95),
            cache_tokens=cache_tokens,
            cache_capacity=cache_capacity,
            evictions=self.evictions,
            rebases=self.rebases,
            comments=self.comments,
            answers=self.answers,
            media_s=0.0 if self.first_s is None else self.last_s - self.first_s,
            wall_s=wall_s,
            peak_memory_bytes=peak_memory_bytes(),
            decisions={reason.value: count for reason, count in sorted(reasons.items()) if count},
        )


def peak_memory_bytes() -> int:
    """Peak memory of the process (`ru_maxrss`: KiB on Linux, bytes on macOS); 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _percentile(ordered: list[float], share: float) -> float:
    """Nearest rank; 0 where nothing was measured."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
