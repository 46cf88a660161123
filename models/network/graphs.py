"""CUDA graphs of padded steps: one for each bucket of sessions and lengths, captured at start, in one memory pool.

Where capture fails, steps run eagerly from then on, which is said once. The engine's thread owns it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from models.network.padded import StepBuffers, padded_step
from models.network.pool import PooledSlot, SlotPool
from models.network.weights import DecoderWeights

FEWEST_KEYS = 512
MOST_ROWS = 64
"""Sessions of the largest bucket."""

Replay = Callable[[], None]
Capture = Callable[[Replay], Replay]
"""Turns a step on static buffers into something that repeats it."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Result of a padded step for one row."""

    logits: torch.Tensor
    """`[1, vocab]`."""
    token: int
    """The likeliest token."""
    logprob: float
    is_finite: bool


class CudaCapture:
    """Captures steps as CUDA graphs that share one memory pool."""

    def __init__(self) -> None:
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, step: Replay) -> Replay:
        """Run a step once to warm up, then capture it. Raises `RuntimeError` where it cannot be captured."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            step()
        replay: Replay = graph.replay
        return replay


class StepGraphs:
    """Padded steps of one token each for the sessions of a pool."""

    def __init__(self, weights: DecoderWeights, pool: SlotPool, capture: Capture) -> None:
        self._weights = weights
        self._pool = pool
        self._capture: Capture | None = capture
        self._buffers = {
            rows: StepBuffers.of(weights, pool, rows) for rows in _doubled(1, min(MOST_ROWS, pool.num_slots))
        }
        self._steps: dict[tuple[int, int], Replay] = {}

    @property
    def most_rows(self) -> int:
        """Most sessions of one step."""
        return max(self._buffers)

    def warm_up(self) -> Iterator[tuple[int, int]]:
        """Capture every bucket; yields how many are done, of how many."""
        keys = [(rows, length) for rows in self._buffers for length in _doubled(FEWEST_KEYS, self._pool.room)]
        for number, (rows, num_keys) in enumerate(keys):
            self._step(rows, num_keys)
            yield number + 1, len(keys)

    def run(self, slots: Sequence[PooledSlot], embeddings: torch.Tensor) -> list[Chosen]:
        """Append one token, `[rows, hidden]`, to each slot; one read from the device for all rows."""
        lengths = [slot.length for slot in slots]
        rows = min(size for size in self._buffers if size >= len(slots))
        num_keys = next(size for size in _doubled(FEWEST_KEYS, self._pool.room) if size > max(lengths))
        buffers, num_padded = self._buffers[rows], rows - len(slots)
        buffers.embeddings[: len(slots)] = embeddings
        device = embeddings.device
        indices = [slot.index for slot in slots] + [self._pool.padding] * num_padded
        buffers.slots.copy_(torch.tensor(indices, device=device))
        buffers.positions.copy_(torch.tensor(lengths + [0] * num_padded, device=device))
        self._step(rows, num_keys)()
        chosen = buffers.choice[: len(slots)].tolist()
        for slot in slots:
            slot.length += 1
        logits = buffers.logits[: len(slots)].clone()
        return [
            Chosen(logits[row : row + 1], int(token), logprob, bool(is_finite))
            for row, (token, logprob, is_finite) in enumerate(chosen)
        ]

    def _step(self, rows: int, num_keys: int) -> Replay:
        if (rows, num_keys) not in self._steps:
            step = partial(padded_step, self._weights, self._pool, self._buffers[rows], num_keys)
            self._steps[rows, num_keys] = self._captured(step)
        return self._steps[rows, num_keys]

    def _captured(self, step: Replay) -> Replay:
        if self._capture is None:
            return step
        try:
            return self._capture(step)
        except RuntimeError as error:
            self._capture = None
            logger.warning("CUDA graphs cannot be captured here (%s); tokens are computed without them", error)
            return step


def _doubled(first: int, most: int) -> list[int]:
    """`first`, twice as much and so on, and `most` last.

    >>> _doubled(512, 1800)
    [512, 1024, 1800]
    """
    sizes = [first]
    while sizes[-1] < most:
        sizes.append(2 * sizes[-1])
    return [*sizes[:-1], most] if len(sizes) > 1 or most < first else sizes
