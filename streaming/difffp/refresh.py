"""When each cell's newest token was appended, and which cells to renew before theirs leave the window.

Owned by the thread that prunes; numpy alone.
"""

from __future__ import annotations

import math

import numpy as np

FRAME_OVERHEAD_TOKENS = 16
"""Tokens that a frame costs beside its cells, at most: `<|stream_start|>stream\\nTime 1234.5s: ` and its tail."""


def least_window_tokens(num_cells: int) -> int:
    """The smallest low watermark for a view of so many cells: in a smaller one, refreshing is most of what is kept.

    Eight times the cells; for a view of a few cells, whose frames are mostly overhead, four whole frames.
    """
    return max(8 * num_cells, 4 * (num_cells + FRAME_OVERHEAD_TOKENS))


class RefreshClock:
    """Rolling refresh, clocked in tokens, as a video encoder's rolling intra refresh is in lines.

    Eviction takes whole frames from the front of the window, and each only while more than L tokens, the low
    watermark, stand from its start to the end. So a cell has a token for as long as fewer than L were appended since
    the frame that holds it began. Each appended frame renews the `ceil(b * N / (L - N - slack))` cells with the
    oldest tokens, b being what was appended since the frame before it (that frame, and all text since) and slack two
    whole frames; cells that change anyway count when they are among the oldest. What a burst of text brought close
    to the edge is renewed at once.
    """

    def __init__(self, num_cells: int, window_low_tokens: int) -> None:
        self._num_cells = num_cells
        self._whole_frame = num_cells + FRAME_OVERHEAD_TOKENS
        self._span = window_low_tokens - num_cells - 2 * self._whole_frame
        self._safe_age = window_low_tokens - 2 * self._whole_frame
        self._born = np.zeros(num_cells, dtype=np.int64)
        self._last_frame = 0

    def ages(self, tokens_before: int) -> np.ndarray:
        """Tokens appended since each cell's newest token's frame began, `[N]` int64."""
        return tokens_before - self._born

    def endangered(self, tokens_before: int) -> np.ndarray:
        """Cells that could be evicted before the next frame, or already were, `[N]` bool."""
        return self.ages(tokens_before) > self._safe_age

    def due(self, tokens_before: int) -> np.ndarray:
        """The cells that a frame appended now renews, `[N]` bool: the quota of oldest ones and the endangered."""
        appended = max(tokens_before - self._last_frame, 1)
        quota = min(math.ceil(appended * self._num_cells / self._span), self._num_cells)
        due = self.endangered(tokens_before)
        due[np.argsort(self._born, kind="stable")[:quota]] = True
        return due

    def appended(self, keep: np.ndarray, tokens_before: int) -> None:
        """A frame that starts at token `tokens_before` and holds the cells `keep` goes into the stream."""
        self._born[keep] = tokens_before
        self._last_frame = tokens_before
