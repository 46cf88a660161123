"""The next rebase of a session's time, prepared over the frames before it. The engine's thread owns it.

What the rebase keeps is prefilled with its new times into the free end of the session's slot, a part in each frame. In
the frame of the rebase it moves to the front, and only the rest is prefilled. Where the slot has no room for that,
everything is prefilled in the frame of the rebase. Both give the same memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from models.eviction import is_before
from models.session.context import Context
from models.session.steps import StepGenerator, as_steps
from models.session.stream_time import StreamTime
from models.session.tokenizer import StreamTokenizer
from models.spans import Span, SpanKind

FRAMES_AHEAD = 16
"""Number of frames before a rebase over which it is prepared: what it keeps is prefilled, and the cells that it would
remove are kept again, a part in each frame."""


def new_heads(
    codec: StreamTokenizer, time: StreamTime, spans: Iterable[Span], base_s: float
) -> list[tuple[Span, list[int]]]:
    """The frames that a rebase to `base_s` keeps, each with the token ids of the time it is then shown with."""
    return [
        (span, codec.frame_head(time.shown(span.time_s, base_s)))
        for span in spans
        if span.kind is SpanKind.FRAME and span.time_s is not None and span.time_s >= base_s
    ]


@dataclass(frozen=True, slots=True)
class _Prefilled:
    """A unit in the tail."""

    span: Span
    ids: list[int]
    """The unit's ids at that time: another list where the unit changed since."""
    num_tokens: int
    """Its tokens with the new time."""


class ComingRebase:
    """A rebase to a base that is chosen before its frame comes."""

    def __init__(self, context: Context, codec: StreamTokenizer, time: StreamTime, base_s: float) -> None:
        """base_s: media time that is shown as zero from the rebase on."""
        self.base_s = base_s
        self._context = context
        self._codec = codec
        self._time = time
        self._prefilled: list[_Prefilled] = []

    def headroom(self, since_s: float) -> int:
        """Vision tokens to come until the rebase, estimated by those since `since_s`, where evictions on the way would
        take units that the rebase keeps.

        All that was prefilled behind such units would have to be prefilled again.
        """
        frames = [span for span in self._context.ledger if span.kind is SpanKind.FRAME and span.is_seen_frame]
        num_coming = 5 * sum(len(span) for span in frames if (span.time_s or 0.0) > since_s) // 4
        num_kept = sum(len(span) for span in self._staying() if span.is_seen_frame)
        return num_coming if num_kept + num_coming > self._context.ledger.window.vision_low else 0

    @as_steps
    def prefill_part(self, num_frames: int) -> StepGenerator[None]:
        """Prefill a part of what stays. num_frames: frames left before the rebase, this one included."""
        staying = self._staying()
        waiting = self._waiting(staying)
        if not waiting or not self._context.open_tail(sum(map(len, staying))):
            return
        share = sum(map(len, waiting)) / num_frames
        part: list[Span] = []
        num_tokens = 0
        for span in waiting:
            if part and num_tokens + len(span) / 2 > share:  # the sum nearest to it, so that frames are alike
                break
            part.append(span)
            num_tokens += len(span)
        heads = {id(span): head for span, head in new_heads(self._codec, self._time, part, self.base_s)}
        headed = [span.with_head(heads[id(span)]) if id(span) in heads else span for span in part]
        ready = [_Prefilled(span, span.ids, len(new)) for span, new in zip(part, headed, strict=True)]
        if (yield from self._context.extend_tail(torch.cat([self._context.embeddings(span) for span in headed]))):
            self._prefilled += ready

    def finish(self) -> None:
        """Leave no more in the tail than what the rebase can take over."""
        self._waiting(self._staying())

    def _staying(self) -> list[Span]:
        return [span for span in self._context.ledger if not is_before(span, self.base_s)]

    def _waiting(self, staying: Sequence[Span]) -> Sequence[Span]:
        """The units that stay and are not prefilled, without the newest, whose logits the rebase needs.

        What is prefilled is valid up to the first unit that left or changed since.
        """
        num_ready, num_tokens = 0, 0
        for unit, span in zip(self._prefilled, staying[:-1], strict=False):
            if unit.span is not span or unit.ids is not span.ids or num_tokens >= self._context.tail_length:
                break
            num_ready, num_tokens = num_ready + 1, num_tokens + unit.num_tokens
        del self._prefilled[num_ready:]
        self._context.truncate_tail(num_tokens)
        return staying[num_ready:-1]
