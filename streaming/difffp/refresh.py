"""Rolling refresh: tracks when each cell's newest token was appended, and renews cells before eviction reaches it.

Belongs to the thread that prunes; uses numpy only.
"""

from __future__ import annotations

import math

import numpy as np

FRAME_OVERHEAD_TOKENS = 16
"""Most tokens that a frame costs besides its cells: `<|stream_start|>stream\\nTime 1234.5s: ` and its tail."""


def least_window_tokens(num_cells: int) -> int:
    """The smallest allowed low watermark for a view of `num_cells`: in a smaller one, most kept cells are refreshes.

    Eight times the cells; for a view of few cells, whose frames are mostly overhead, four whole frames.
    """
    return max(8 * num_cells, 4 * (num_cells + FRAME_OVERHEAD_TOKENS))


class RefreshClock:
    """Rolling refresh clocked in tokens, as a video encoder's rolling intra refresh is clocked in lines.

    Eviction removes whole frames from the front of the window, and a frame only while more than L tokens (the low
    watermark) lie from its start to the end. So a cell keeps its token while fewer than L tokens were appended since
    the token's frame began. Each appended frame renews the `ceil(b * N / (L - N - slack))` cells with the oldest
    tokens, where b is the number of tokens appended since the previous frame began (that frame and all text since)
    and slack is two whole frames. Cells that change anyway count if they are among the oldest. Cells that a burst of
    text brought close to eviction are renewed at once.
    """

    def __init__(self, num_cells: int, window_low_tokens: int) -> None:
        self._num_cells = num_cells
        self._whole_frame = num_cells + FRAME_OVERHEAD_TOKENS
        self._span = window_low_tokens - num_cells - 2 * self._whole_frame
        self._safe_age = window_low_tokens - 2 * self._whole_frame
        self._born = np.zeros(num_cells, dtype=np.int64)
        self._last_frame = 0

    def ages(self, tokens_before: int) -> np.ndarray:
        """Tokens appended since the frame with each cell's newest token began, `[N]` int64."""
        return tokens_before - self._born

    def endangered(self, tokens_before: int) -> np.ndarray:
        """Cells whose token may be evicted before the next frame, or already was, `[N]` bool."""
        return self.ages(tokens_before) > self._safe_age

    def due(self, tokens_before: int) -> np.ndarray:
        """Cells that a frame appended now must renew, `[N]` bool: the quota of oldest ones, and all endangered ones."""
        appended = max(tokens_before - self._last_frame, 1)
        quota = min(math.ceil(appended * self._num_cells / self._span), self._num_cells)
        due = self.endangered(tokens_before)
        due[np.argsort(self._born, kind="stable")[:quota]] = True
        return due

    def record_frame(self, keep: np.ndarray, tokens_before: int) -> None:
        """Record an appended frame that starts at token `tokens_before` and holds the cells `keep`, `[N]` bool."""
        self._born[keep] = tokens_before
        self._last_frame = tokens_before
