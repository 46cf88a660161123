"""A session's memory: the cache and its ledger, changed together so that each token in the cache belongs to a unit.

The engine's thread owns it. A step that fails or is stopped leaves the cache unchanged. Where that is impossible,
because an eviction failed after some layers had moved, the cache is marked stale and prefilled again before its next
use.
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
from models.network.slots import SlotTail
from models.session.runtime import Runtime
from models.session.steps import Forward, Output, StepGenerator, as_steps
from models.spans import Span, SpanKind
from streaming.difffp.refresh import FRAME_OVERHEAD_TOKENS

PREFILL_TOKENS = 1024
"""Most tokens of one forward pass; longer prefills are split, and other sessions run in between."""
PREFILL_TOKENS_CPU = 256
"""The same on a CPU, where larger passes gain nothing: a pass needs memory for its tokens times the cache's, and passes
of 1,024 raised the process's memory by 17 MiB at each rebase."""

logger = logging.getLogger(__name__)

Chunks = Callable[[int], Sequence[int]]
"""Splits a number of tokens into the sizes of the forward passes, which add up to it."""


def even_chunks(num_tokens: int, most: int = PREFILL_TOKENS) -> list[int]:
    """Split a number of tokens into chunks of `most` and one rest.

    >>> even_chunks(2500)
    [1024, 1024, 452]
    """
    full, rest = divmod(num_tokens, most)
    return [most] * full + [rest] * (rest > 0)


def pass_tokens(device: torch.device) -> int:
    """Most tokens of one forward pass, of all sessions together."""
    return PREFILL_TOKENS_CPU if device.type == "cpu" else PREFILL_TOKENS


def chunks_on(device: torch.device) -> Chunks:
    """Even chunks of a size that suits the device."""
    return partial(even_chunks, most=pass_tokens(device))


class Context:
    """The cache and the ledger of one session."""

    def __init__(
        self,
        runtime: Runtime,
        window: WindowSettings,
        max_cells: int,
        chunks: Chunks | None = None,
        most_tokens: int | None = None,
    ) -> None:
        """max_cells: most visual tokens of a frame. chunks: how prefills are split; `None` for a size that suits the
        device.

        most_tokens: capacity of the cache in tokens; `None` derives it from the windows
        (`models.eviction.window_tokens`).
        """
        self._runtime = runtime
        self._chunks = chunks or chunks_on(runtime.checkpoint.device)
        self.ledger = Ledger(window)
        self._max_cells = max_cells
        self._most_tokens = most_tokens
        self.cache = runtime.new_cache(most_tokens or window_tokens(window, max_cells))
        self.last_logits: torch.Tensor | None = None
        """`[1, vocab]` at the newest token; `None` after the cache was changed in another way than by appending."""
        self.likeliest: tuple[int, float] | None = None
        """The likeliest token after the last pass and its log-probability, where the device has chosen it."""
        self.evictions: list[Eviction] = []
        """Evictions not yet returned by `take_evictions`."""
        self.num_evictions = 0
        self.elapsed_ms = 0.0
        """Total time spent in forward passes."""
        self._valid: int | None = None
        self._on_fork = False
        self._is_eviction_due = False
        self._tail: SlotTail | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the cache does not match the ledger and needs `rebuild`."""
        return self._valid is not None

    def check(self, num_open: int) -> None:
        """Mark the cache stale where it does not hold the ledger's tokens and `num_open` more."""
        expected = len(self.ledger) + num_open
        if self._valid is None and self.cache.length != expected:
            held = self.cache.length
            logger.error("a session's cache held %d tokens where %d belong; it is prefilled anew", held, expected)
            self._valid, self.last_logits = 0, None

    def set_window(self, window: WindowSettings) -> None:
        """Use other windows from the next eviction on."""
        self.ledger.window = window
        self.drop_tail()
        self.cache.set_capacity(self._most_tokens or window_tokens(window, self._max_cells))

    @as_steps
    def extend(self, embeddings: torch.Tensor, logits: Literal["last", "all"] = "last") -> StepGenerator[torch.Tensor]:
        """Append embeddings `[n, hidden]` to the cache; returns logits `[1, vocab]` or `[n, vocab]`.

        Raises `SessionError` where the cache would exceed its capacity.
        """
        return (yield from self.extend_and_try(embeddings, None, logits))[0]

    @as_steps
    def extend_and_try(
        self, embeddings: torch.Tensor, ahead: torch.Tensor | None, logits: Literal["last", "all"] = "last"
    ) -> StepGenerator[tuple[torch.Tensor, torch.Tensor | None]]:
        """`extend`, and in its last pass a continuation `ahead` `[m, hidden]` that leaves no trace.

        Also returns the continuation's logits, `[m, vocab]`, at each of its tokens.
        """
        mark, rows, tried = self.cache.length, [], None
        self._check_room(len(embeddings) + (0 if ahead is None else len(ahead)))
        sizes = list(self._chunks(len(embeddings)))
        try:
            for number, part in enumerate(torch.split(embeddings, sizes)):
                is_last = number == len(sizes) - 1
                wanted: Literal["none", "last", "all"] = logits if is_last or logits == "all" else "none"
                branches = (ahead,) if is_last and ahead is not None else ()
                output = yield from self._pass(Forward(self.cache, part, wanted, branches, "all"))
                rows.append(output.logits)
                tried = output.branches[0] if output.branches else None
        except BaseException:
            self.cache.truncate(mark)
            raise
        gathered = rows[-1] if logits == "last" else torch.cat(rows)
        if not self._on_fork:
            self.last_logits = gathered[-1:]
        return gathered, tried

    @as_steps
    def try_all(
        self,
        branches: Sequence[torch.Tensor],
        logits: Literal["last", "all"] = "last",
        shared: torch.Tensor | None = None,
    ) -> StepGenerator[list[torch.Tensor]]:
        """Logits of each continuation `[n, hidden]` of the memory, which stays as it is.

        `[1, vocab]` at the last token, or `[n, vocab]` at each. shared: `[m, hidden]`, with which all of them begin and
        which is computed once; `branches` are then what follows it.

        Continuations share passes as far as they fit, and are blind to each other. Raises `SessionError` where one does
        not fit the cache.
        """
        if not branches:
            return []
        trunk = branches[0][:0] if shared is None else shared
        self._check_room(len(trunk) + max(map(len, branches)))
        (most, *_) = self._chunks(len(trunk) + sum(map(len, branches)))
        found: list[torch.Tensor] = []
        waiting = list(branches)
        with self.fork():
            if len(trunk) and len(trunk) + len(waiting[0]) > most:
                yield from self.extend(trunk)
                trunk = trunk[:0]
            while waiting:
                room = min(most, self._end - self.cache.length)
                if len(waiting[0]) > room:
                    with self.fork():
                        found.append((yield from self.extend(waiting.pop(0), logits)))
                    continue
                taken = [waiting.pop(0)]
                while waiting and len(trunk) + sum(map(len, taken)) + len(waiting[0]) <= room:
                    taken.append(waiting.pop(0))
                output = yield from self._pass(Forward(self.cache, trunk, "none", tuple(taken), logits))
                found += output.branches
                trunk = trunk[:0]
        return found

    @as_steps
    def _pass(self, request: Forward) -> StepGenerator[Output]:
        output = yield request
        assert isinstance(output, Output)
        self.elapsed_ms += output.elapsed_ms
        self.likeliest = output.likeliest
        return output

    def _check_room(self, num_tokens: int) -> None:
        """Raise `SessionError` where the cache has no room for so many more tokens; the tail gives way to them."""
        mark, most = self.cache.length, self.cache.capacity
        if mark + num_tokens > most:
            raise SessionError(
                f"{num_tokens} tokens behind {mark}: a session of these windows holds {most} at most; "
                "shorten the text, attach fewer pictures, or widen the windows"
            )
        if mark + num_tokens > self._end:
            self.drop_tail()

    @property
    def _end(self) -> int:
        """Position up to which the cache may grow without taking room from the tail."""
        return self.cache.capacity if self._tail is None else self._tail.start

    @property
    def tail_length(self) -> int:
        """Tokens in the tail; 0 where there is none."""
        return 0 if self._tail is None else self._tail.length

    def open_tail(self, num_tokens: int) -> bool:
        """Set the free end of the cache aside for tokens that are to take the place of its own; returns whether it is.

        There must be room for `num_tokens`, and behind both the present tokens and those for what comes meanwhile. The
        tail is dropped where the cache itself needs the room.
        """
        free = self.cache.capacity - self.cache.length - num_tokens
        if self._tail is None and self.cache.states and free >= 2 * (self._max_cells + FRAME_OVERHEAD_TOKENS):
            self._tail = SlotTail(self.cache, self.cache.length + free // 2)
        return self._tail is not None

    @as_steps
    def extend_tail(self, embeddings: torch.Tensor) -> StepGenerator[bool]:
        """Append embeddings `[n, hidden]` to the tail; returns whether they had room. The tail is dropped otherwise."""
        tail = self._tail
        if tail is None or tail.length + len(embeddings) > tail.capacity:
            self.drop_tail()
            return False
        mark = tail.length
        try:
            for part in torch.split(embeddings, list(self._chunks(len(embeddings)))):
                yield from self._pass(Forward(tail, part, "none"))
        except BaseException:
            tail.truncate(mark)
            raise
        return True

    def truncate_tail(self, length: int) -> None:
        """Remove the tokens of the tail from position `length` on."""
        if self._tail is not None:
            self._tail.truncate(length)

    def drop_tail(self) -> None:
        """Give the free end of the cache back."""
        self._tail = None

    def adopt_tail(self) -> None:
        """Take the tail's tokens, which must be the ledger's first ones, for those of a stale cache."""
        tail, self._tail = self._tail, None
        if tail is not None and self._valid is not None and tail.length > self._valid:
            self.cache.adopt(tail)
            self._valid = tail.length

    def enter(self, span: Span) -> None:
        """Add a unit to the ledger whose tokens were just appended to the cache."""
        self.ledger.append(span)
        self._is_eviction_due = self._is_eviction_due or not span.pinned

    def evict(self) -> None:
        """Evict down to the low watermarks; the tokens that stay move up at once."""
        self._is_eviction_due = False
        self._apply(self.ledger.evict())

    def catch_up(self) -> None:
        """Evict if a step that added a unit was stopped or failed before its own eviction."""
        if self._is_eviction_due:
            self.evict()

    def withdraw(self, num_tokens: int) -> None:
        """Remove the last tokens, which belong to no unit."""
        self.cache.truncate(self.cache.length - num_tokens)
        self.last_logits = None

    def retract(self, spans: Sequence[Span]) -> None:
        """Remove the given units if they are the newest; do nothing otherwise."""
        if self.ledger.retract(spans):
            self.withdraw(sum(len(span) for span in spans))

    def remove(self, spans: Sequence[Span], reason: str) -> None:
        """Remove the given units."""
        self._apply(self.ledger.remove(spans, reason))
        self.last_logits = None

    def take_evictions(self) -> tuple[Eviction, ...]:
        """The evictions since the last call."""
        taken, self.evictions = tuple(self.evictions), []
        return taken

    @contextmanager
    def fork(self) -> Iterator[None]:
        """Context in which appended tokens are temporary: they are removed at its end."""
        mark, outer, self._on_fork = self.cache.length, self._on_fork, True
        try:
            yield
        finally:
            self._on_fork = outer
            self.cache.truncate(mark)

    def evict_before(self, time_s: float, reason: str) -> None:
        """Remove unpinned units older than `time_s`; the cache is stale from the end of the leading pinned text on."""
        self._mark_stale()
        eviction = self.ledger.evict_before(time_s, reason)
        if eviction is not None:
            self._count(eviction)

    def forget(self, reason: str) -> None:
        """Remove all but pinned text. Pinned text after removed units is prefilled again: it attended to them."""
        self._mark_stale()
        eviction = self.ledger.remove([span for span in self.ledger if not span.pinned], reason)
        if eviction is not None:
            self._count(eviction)

    @as_steps
    def rebuild(self) -> StepGenerator[None]:
        """Prefill the ledger's units after the part of the cache that is still valid."""
        assert self._valid is not None, "rebuild of a cache that is not stale"
        self.cache.truncate(self._valid)
        parts, start = [], 0
        for span in self.ledger:
            if start >= self._valid:
                parts.append(self.embeddings(span))
            start += len(span)
        if parts:
            joined = torch.cat(parts)
            parts.clear()  # else they would be kept twice while it is prefilled
            yield from self.extend(joined)
        self._valid = None

    def embeddings(self, span: Span) -> torch.Tensor:
        """`[len(span), hidden]`: a unit's embeddings, visual tokens included."""
        vision = span.vision if isinstance(span.vision, torch.Tensor) else None
        return self._runtime.embed_with_vision(span.ids, span.visual_offsets.tolist(), vision)

    def _mark_stale(self, num_right: int | None = None) -> None:
        """Mark the cache stale from the end of the leading pinned text on, as far as that lies in the first `num_right`
        tokens."""
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
