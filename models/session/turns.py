"""Turns of the assistant: generated token by token, stoppable at any token, and always closed properly.

The engine's thread owns them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from models.session.context import Context
from models.session.runtime import Runtime
from models.session.steps import StepGenerator, TextPiece, as_steps
from models.session.token_sampling import Choice, TokenSampler
from models.session.tokenizer import Detokenizer, StreamTokenizer
from models.spans import Span, SpanKind


@dataclass(frozen=True, slots=True)
class Utterance:
    """A turn that the assistant said."""

    text: str
    token_ids: tuple[int, ...]
    logprob: float
    """Log-probability of the tokens under the model, summed; includes the end token where it was reached."""
    truncated: bool
    """Whether the length limit ended the turn."""
    cut: bool
    """Whether something more urgent ended the turn."""
    first_token_at: float | None
    """Clock time, in seconds, when the first token was known."""
    num_before: int = 0
    """Tokens that the model had before it: memory, the question and the opening of the turn."""


@dataclass(slots=True)
class OpenTurn:
    """The assistant's turn while it is generated, with the question it answers."""

    kind: SpanKind
    time_s: float | None
    opening: list[int]
    question: Span | None = None
    said: list[int] = field(default_factory=list)
    num_cached: int = 0
    """Number of the turn's `ids` that are in the cache."""
    text: str = ""
    logprob: float = 0.0
    truncated: bool = False
    first_token_at: float | None = None
    num_before: int = 0
    _detokenizer: Detokenizer | None = None

    @property
    def ids(self) -> list[int]:
        """Token ids of the question, the opening and what was said so far."""
        return [*(self.question.ids if self.question else []), *self.opening, *self.said]

    @property
    def owed(self) -> list[int]:
        """Those of `ids` that are not in the cache yet."""
        return self.ids[self.num_cached :]

    def say(self, token: int, codec: StreamTokenizer) -> str:
        """Add a generated token; returns the text it completes."""
        self._detokenizer = self._detokenizer or Detokenizer(codec)
        self.said.append(token)
        piece = self._detokenizer.push(token)
        self.text += piece
        return piece

    def finish_text(self) -> str:
        """Add the text of a character that the turn left incomplete, and return it."""
        rest = self._detokenizer.rest() if self._detokenizer else ""
        self.text += rest
        return rest

    def spans(self, closing: list[int]) -> list[Span]:
        """The units of the finished turn in the ledger: the question, where there is one, and the answer."""
        answer = Span(self.kind, [*self.opening, *self.said, *closing], time_s=self.time_s)
        return [answer] if self.question is None else [self.question, answer]

    def utterance(self, *, cut: bool) -> Utterance:
        return Utterance(
            text=self.text.strip(),
            token_ids=tuple(self.said),
            logprob=self.logprob,
            truncated=self.truncated,
            cut=cut,
            first_token_at=self.first_token_at,
            num_before=self.num_before,
        )


class Speaker:
    """Generates turns into a session's memory, token by token, and closes turns that were left open."""

    def __init__(self, runtime: Runtime, context: Context, sampler: TokenSampler) -> None:
        self._runtime = runtime
        self._codec = runtime.codec
        self._context = context
        self._sampler = sampler
        self._open: OpenTurn | None = None
        self._last: list[Span] = []

    @property
    def owed(self) -> list[int]:
        """Token ids that would complete and close the open turn; empty where none is open."""
        return [*self._open.owed, *self._codec.closing] if self._open is not None else []

    @property
    def num_cached(self) -> int:
        """Number of tokens of the open turn in the cache; they belong to no unit yet."""
        return self._open.num_cached if self._open is not None else 0

    def mark_uncached(self) -> None:
        """Count the open turn's tokens as not cached, because a rebuild of the cache prefills finished units only."""
        if self._open is not None:
            self._open.num_cached = 0

    @as_steps
    def say(self, turn: OpenTurn, max_tokens: int) -> StepGenerator[Utterance]:
        """Generate a turn; it stays in memory, after its question."""
        self._open = turn
        embeddings = self._runtime.embed(turn.opening)
        if turn.question is not None:
            embeddings = torch.cat([self._context.embeddings(turn.question), embeddings])
        logits = yield from self._context.extend(embeddings)
        turn.num_cached = len(turn.ids)
        yield from self._decode(turn, logits, max_tokens, stays=True)
        return (yield from self._finish(turn))

    @as_steps
    def say_on_fork(self, turn: OpenTurn, attached: Span, max_tokens: int) -> StepGenerator[Utterance]:
        """Generate a turn after `attached` on a fork; then append the turn and its own question as text."""
        self._open = turn
        embeddings = torch.cat([self._context.embeddings(attached), self._runtime.embed(turn.opening)])
        with self._context.fork():
            logits = yield from self._context.extend(embeddings)
            yield from self._decode(turn, logits, max_tokens, stays=False)
        return (yield from self._finish(turn))

    @as_steps
    def say_aside(self, turn: OpenTurn, asked: Span, max_tokens: int) -> StepGenerator[Utterance]:
        """Generate a turn after `asked` on a fork: memory is unchanged."""
        embeddings = torch.cat([self._context.embeddings(asked), self._runtime.embed(turn.opening)])
        with self._context.fork():
            logits = yield from self._context.extend(embeddings)
            yield from self._decode(turn, logits, max_tokens, stays=False)
        return turn.utterance(cut=False)

    @as_steps
    def close_open(self) -> StepGenerator[Utterance | None]:
        """Close a turn that was left open; returns what was said, `None` where no turn was open."""
        if self._open is None:
            return None
        return (yield from self._finish(self._open, cut=True))

    def retract(self) -> None:
        """Remove the last turn from memory if nothing was appended after it."""
        self._context.retract(self._last)
        self._last = []

    @as_steps
    def _decode(self, turn: OpenTurn, logits: torch.Tensor, max_tokens: int, *, stays: bool) -> StepGenerator[None]:
        """Sample tokens until one ends the turn. stays: whether the tokens stay in the cache.

        An answer has at least one token before it may end; a remark may be empty.
        """
        stop = self._runtime.checkpoint.stop
        turn.num_before = self._context.cache.length
        while True:
            barred = stop if turn.kind is SpanKind.ANSWER and not turn.said else frozenset()
            likeliest = self._context.likeliest
            if likeliest is not None and self._sampler.takes_likeliest and likeliest[0] not in barred:
                choice = Choice(*likeliest)
            else:
                choice = self._sampler.choose(logits, turn.said, barred=barred)
            if turn.first_token_at is None:
                turn.first_token_at = self._runtime.now()
            turn.logprob += choice.logprob
            if choice.token in stop:
                break
            if piece := turn.say(choice.token, self._codec):
                yield TextPiece(piece)
            if len(turn.said) >= max_tokens:
                turn.truncated = True
                break
            logits = yield from self._context.extend(self._runtime.embed([choice.token]))
            turn.num_cached += stays
        if rest := turn.finish_text():
            yield TextPiece(rest)

    @as_steps
    def _finish(self, turn: OpenTurn, *, cut: bool = False) -> StepGenerator[Utterance]:
        """Close a turn and add it to the ledger; an empty turn leaves no trace, nor does its question."""
        self._last = turn.spans(self._codec.closing) if turn.said else []
        if turn.said:
            yield from self._context.extend(self._owed_embeddings(turn))
            for span in self._last:
                self._context.enter(span)
        else:
            self._context.withdraw(turn.num_cached)
        self._open = None
        self._context.evict()
        return turn.utterance(cut=cut)

    def _owed_embeddings(self, turn: OpenTurn) -> torch.Tensor:
        """`[n, hidden]`: embeddings of the turn's tokens that are not in the cache, and of its end."""
        if turn.num_cached or turn.question is None:
            return self._runtime.embed([*turn.owed, *self._codec.closing])
        rest = [*turn.opening, *turn.said, *self._codec.closing]
        return torch.cat([self._context.embeddings(turn.question), self._runtime.embed(rest)])
