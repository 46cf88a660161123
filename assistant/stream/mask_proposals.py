"""Masks worth proposing: parts of the picture that change in nearly every frame, a burnt-in clock for one."""

from __future__ import annotations

import numpy as np

MOST_HIDDEN = 0.5
"""Where more of the picture keeps changing, it is the scene that moves and no mask would help."""


def propose_masks(hot: np.ndarray, rows: int, cols: int) -> list[str]:
    """Rectangles over the hot cells as `--mask` takes them: x,y,width,height in parts of the picture.

    hot: bool `[rows * cols]`. Runs of cells in a row, joined where rows below repeat them.

    >>> propose_masks(np.array([0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0]), 3, 4)
    ['0.5,0,0.5,0.6667']
    """
    cells = hot.astype(bool).reshape(rows, cols)
    if not cells.any() or cells.mean() > MOST_HIDDEN:
        return []
    open_runs: dict[tuple[int, int], int] = {}
    found: list[tuple[int, int, int, int]] = []
    for row in range(rows + 1):
        runs = _runs(cells[row]) if row < rows else []
        for run in [run for run in open_runs if run not in runs]:
            found.append((run[0], open_runs.pop(run), run[1], row))
        for run in runs:
            open_runs.setdefault(run, row)
    return [
        _rectangle(left / cols, top / rows, right / cols, bottom / rows) for left, top, right, bottom in sorted(found)
    ]


def _rectangle(left: float, top: float, right: float, bottom: float) -> str:
    """Edges are rounded before sizes are taken, so that no rectangle ends outside the picture."""
    left, top, right, bottom = (round(edge, 4) for edge in (left, top, right, bottom))
    return ",".join(f"{value:.4g}" for value in (left, top, right - left, bottom - top))


def _runs(row: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of each run of true cells."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
