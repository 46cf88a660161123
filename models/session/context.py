"""A session's memory: cache and ledger moved together, so that each token in the cache belongs to a unit.

The engine's thread owns it. A step that fails or is stopped leaves the cache as it found it. Where it cannot, because
an eviction failed after some layers had moved, the cache is stale, and prefilled anew before anything else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch

from models.errors import SessionError
from models.eviction import Eviction, WindowSettings, window_tokens
from models.ledger import Ledger
from models.session.runtime import Runtime
from models.session.steps import Forward, Output, StepGenerator, as_steps
from models.spans import Span, SpanKind

PREFILL_TOKENS = 1024
"""Most tokens of one forward pass; longer prefills come in several, between which other sessions get their turn."""
PREFILL_TOKENS_CPU = 256
"""The same on a processor, where larger passes gain nothing: what a pass works on grows with its tokens times the
cache's, and 1,024 at once made the process's memory rise by 17 MiB whenever the time was rebased."""

logger = logging.getLogger(__name__)

Chunks = Callable[[int], Sequence[int]]
"""How many tokens each forward pass takes: from a total to sizes that add up to it."""


def even_chunks(num_tokens: int, most: int = PREFILL_TOKENS) -> list[int]:
    """Full chunks and a rest.

    >>> even_chunks(2500)
    [1024, 1024, 452]
    """
    full, rest = divmod(num_tokens, most)
    return [most] * full + [rest] * (rest > 0)


def chunks_on(device: torch.device) -> Chunks:
    """Even chunks of the size that suits a device."""
    return partial(even_chunks, most=PREFILL_TOKENS_CPU if device.type == "cpu" else PREFILL_TOKENS)


class Context:
    """Cache and ledger of one session."""

    def __init__(
        self,
        runtime: Runtime,
        window: WindowSettings,
        max_cells: int,
        chunks: Chunks | None = None,
        most_tokens: int | None = None,
    ) -> None:
        """max_cells: most visual tokens of a frame. chunks: how prefills are split; None for what suits the device.

        most_tokens: what the cache may ever hold; None for what its windows come to
        (`models.session.memory.most_tokens`).
        """
        self._runtime = runtime
        self._chunks = chunks or chunks_on(runtime.checkpoint.device)
        self.ledger = Ledger(window)
        self._max_cells = max_cells
        self._most_tokens = most_tokens
        self.cache = runtime.new_cache(most_tokens or window_tokens(window, max_cells))
        self.last_logits: torch.Tensor | None = None
        """`[1, vocab]` at the last token that stays; `None` after the cache was changed otherwise."""
        self.evictions: list[Eviction] = []
        """Evictions not yet handed out."""
        self.num_evictions = 0
        self.elapsed_ms = 0.0
        """Time in forward passes so far."""
        self._valid: int | None = None
        self._on_fork = False
        self._is_eviction_due = False

    @property
    def is_stale(self) -> bool:
        """Whether the cache lags behind the ledger and needs `rebuild`."""
        return self._valid is not None

    def check(self, num_open: int) -> None:
        """Mark the cache stale where a layer holds other than the ledger says and `num_open` tokens more."""
        expected = len(self.ledger) + num_open
        if self._valid is None and (self.cache.is_torn or self.cache.length != expected):
            held = sorted({layer.length for layer in self.cache.layers})
            logger.error("a session's cache held %s tokens where %d belong; it is prefilled anew", held, expected)
            self._valid, self.last_logits = 0, None

    def set_window(self, window: WindowSettings) -> None:
        """Other watermarks from the next eviction on."""
        self.ledger.window = window
        self.cache.set_capacity(self._most_tokens or window_tokens(window, self._max_cells))

    @as_steps
    def extend(self, embeddings: torch.Tensor, logits: Literal["last", "all"] = "last") -> StepGenerator[torch.Tensor]:
        """Append embeddings `[n, hidden]` to the cache; gives logits `[1, vocab]` or `[n, vocab]`.

        Raises `SessionError` where that is more than was set aside for the session.
        """
        mark, most = self.cache.length, self.cache.capacity
        if mark + len(embeddings) > most:
            raise SessionError(
                f"{len(embeddings)} tokens behind {mark}: a session of these windows holds {most} at most; "
                "shorten the text, attach fewer pictures, or widen the windows"
            )
        rows: list[torch.Tensor] = []
        sizes = list(self._chunks(len(embeddings)))
        try:
            for number, part in enumerate(torch.split(embeddings, sizes)):
                wanted: Literal["none", "last", "all"] = logits
                if logits == "last" and number < len(sizes) - 1:
                    wanted = "none"
                output = yield Forward(self.cache, part, wanted)
                assert isinstance(output, Output)
                self.elapsed_ms += output.elapsed_ms
                rows.append(output.logits)
        except BaseException:
            self.cache.truncate(mark)
            raise
        gathered = rows[-1] if logits == "last" else torch.cat(rows)
        if not self._on_fork:
            self.last_logits = gathered[-1:]
        return gathered

    def enter(self, span: Span) -> None:
        """Enter a unit whose tokens are the newest in the cache, or the next of those."""
        self.ledger.append(span)
        self._is_eviction_due = self._is_eviction_due or not span.pinned

    def evict(self) -> None:
        """Bring the windows under their watermarks; survivors move up at once."""
        self._is_eviction_due = False
        self._apply(self.ledger.evict())

    def catch_up(self) -> None:
        """`evict`, where a step that entered something was stopped or failed before it came to that."""
        if self._is_eviction_due:
            self.evict()

    def withdraw(self, num_tokens: int) -> None:
        """Take back the last tokens, which no unit was entered for."""
        self.cache.truncate(self.cache.length - num_tokens)
        self.last_logits = None

    def retract(self, spans: Sequence[Span]) -> None:
        """Take given units back, if they are the newest; nothing where another came after them."""
        if self.ledger.retract(spans):
            self.withdraw(sum(len(span) for span in spans))

    def remove(self, spans: Sequence[Span], reason: str) -> None:
        """Take given units out."""
        self._apply(self.ledger.remove(spans, reason))
        self.last_logits = None

    def take_evictions(self) -> tuple[Eviction, ...]:
        """Evictions since the last call."""
        taken, self.evictions = tuple(self.evictions), []
        return taken

    @contextmanager
    def fork(self) -> Iterator[None]:
        """What is appended inside is gone afterwards, as if it had never been there."""
        mark, self._on_fork = self.cache.length, True
        try:
            yield
        finally:
            self._on_fork = False
            self.cache.truncate(mark)

    def evict_before(self, time_s: float, reason: str) -> None:
        """Take out unpinned units older than `time_s`; the cache is stale behind the pinned text it begins with."""
        self._mark_stale()
        eviction = self.ledger.evict_before(time_s, reason)
        if eviction is not None:
            self._count(eviction)

    def forget(self, reason: str) -> None:
        """Take out all but pinned text, which is to be prefilled anew, so that nothing of the rest shines through."""
        self._mark_stale()
        eviction = self.ledger.remove([span for span in self.ledger if not span.pinned], reason)
        if eviction is not None:
            self._count(eviction)

    @as_steps
    def rebuild(self) -> StepGenerator[None]:
        """Prefill what the ledger holds behind the part of the cache that is still right."""
        assert self._valid is not None, "rebuild of a cache that is not stale"
        self.cache.truncate(self._valid)
        parts, start = [], 0
        for span in self.ledger:
            if start >= self._valid:
                parts.append(self.embeddings(span))
            start += len(span)
        if parts:
            yield from self.extend(torch.cat(parts))
        self._valid = None

    def embeddings(self, span: Span) -> torch.Tensor:
        """`[len(span), hidden]`: a unit as the language model reads it."""
        vision = span.vision if isinstance(span.vision, torch.Tensor) else None
        return self._runtime.embed_with_vision(span.ids, span.visual_offsets.tolist(), vision)

    def _mark_stale(self, num_right: int | None = None) -> None:
        """Nothing of the cache is right but the pinned text it begins with, as far as it lies in `num_right` tokens."""
        valid = 0
        for span in self.ledger:
            if not span.pinned or span.kind is SpanKind.FRAME:
                break
            if num_right is not None and valid + len(span) > num_right:
                break
            valid += len(span)
        self._valid = valid if self._valid is None else min(valid, self._valid)
        self.last_logits = None

    def _apply(self, eviction: Eviction | None) -> None:
        if eviction is None:
            return
        self._count(eviction)
        try:
            self.cache.keep(eviction.keep)
        except BaseException:
            self._mark_stale(eviction.num_unmoved)
            raise

    def _count(self, eviction: Eviction) -> None:
        self.evictions.append(eviction)
        self.num_evictions += 1
