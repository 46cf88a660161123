"""Copy targets: the tokens from which answers copy words of remarks, and times. Pure, for data workers.

A time is shown before its frame, so the tokens of its digits cannot represent what happened then. The tokens at the end
of the following remark can: its full stop fetches the first digit, and the tokens that close the turn fetch the others.
An answer that finds the remark then finds the remark's time in the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from models.checkpoint.types import SpecialIds
from models.session.tokenizer import StreamTokenizer
from models.training.examples import IGNORED, StreamExample

_HEAD_TOKENS = 8
"""A time's digits begin at most this many tokens after the start of its frame."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """Which tokens are digits and words, and which ones open and close a frame's head and a remark."""

    digits: np.ndarray
    """int16 `[vocabulary]`: the digit that a token stands for; −1 for none."""
    words: np.ndarray
    """int32 `[vocabulary]`: the same number for words that differ only in a leading space and capitals; 0 for tokens
    that are no word."""
    frame_start: int
    frame_end: int
    opening: tuple[int, ...]
    """Tokens before the text of an assistant's turn."""
    closing: int

    @classmethod
    def of(cls, codec: StreamTokenizer, special: SpecialIds) -> Spelling:
        """The spelling of a tokenizer in which every digit is a token of its own."""
        size = len(codec.tokenizer)
        digits, words = np.full(size, -1, dtype=np.int16), np.zeros(size, dtype=np.int32)
        known: dict[str, int] = {}
        for token in range(size):
            text = codec.decode([token])
            if len(text) == 1 and text.isascii() and text.isdigit():
                digits[token] = int(text)
            elif (plain := text.strip().lower()).isalpha():
                words[token] = known.setdefault(plain, len(known) + 1)
        return cls(digits, words, special.stream_start, special.stream_end, tuple(codec.opening), codec.closing[0])


@dataclass(frozen=True, slots=True)
class _Told:
    """A remark of the stream and the time shown before it."""

    first: int
    """Position of the remark's first word."""
    end: int
    """Position after its full stop: the token that ends the turn."""
    digits: tuple[int, ...]
    """Positions of the whole seconds' digits, and of the token after them."""
    second: int

    @property
    def carries(self) -> list[tuple[int, int]]:
        """Pairs of (token, what it fetches): for the full stop, the end token and the line break; with three digits,
        the token after them is left out."""
        return list(zip(range(self.end - 1, self.end + 2), self.digits, strict=False))


def with_copies(example: StreamExample, spelling: Spelling) -> StreamExample:
    """The example with all copy targets: what remarks' words and last tokens fetch, what answers copy, which times
    questions name."""
    told = list(_remarks(example.ids, spelling))
    carries = [(*pair, int(spelling.digits[example.ids[pair[1]]] >= 0)) for remark in told for pair in remark.carries]
    asides = example.asides
    copies: list[tuple[int, int]] = []
    matches: list[tuple[int, int]] = []
    for number, after in enumerate(asides.after):
        tokens = np.flatnonzero(asides.numbers == number)
        earlier = [remark for remark in told if remark.end < after]
        rests = [(int(first), int(end)) for of, first, end in asides.evidence if of == number]
        known = [remark for first, end in rests for remark in earlier if first <= remark.first < end]
        copies.extend(_copied(example, tokens, known, spelling))
        matches.extend(_named(example, tokens, earlier, spelling))
    asides = replace(asides, copies=_pairs(copies), matches=np.concatenate([asides.matches, _pairs(matches)]))
    dated = _pairs([(at, remark.digits[-2]) for remark in told for at in range(remark.first, remark.end + 1)])
    return replace(example, asides=asides, carries=np.array(carries, dtype=np.int32).reshape(-1, 3), dated=dated)


def _remarks(ids: np.ndarray, spelling: Spelling) -> Iterator[_Told]:
    """Remarks that directly follow a frame whose time is shown in digits."""
    opening = np.array(spelling.opening)
    starts = np.flatnonzero(ids == spelling.frame_start)
    for frame_end in np.flatnonzero(ids == spelling.frame_end):
        first = int(frame_end) + 1 + len(opening)
        before = starts[starts < frame_end]
        if not len(before) or not np.array_equal(ids[frame_end + 1 : first], opening):
            continue
        closed = np.flatnonzero(ids[first:-1] == spelling.closing)
        if not len(closed):
            continue
        end = first + int(closed[0])
        head = int(before[-1]) + 1
        runs = _runs(ids[head : head + _HEAD_TOKENS], spelling.digits)
        if runs:
            start, stop = (head + place for place in runs[0])
            yield _Told(first, end, tuple(range(start, stop + 1)), _number(ids[start:stop], spelling.digits))


def _runs(values: np.ndarray, digits: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of each run of digits among token ids."""
    known = (values >= 0) & (values < len(digits))
    is_digit = known & (digits[np.where(known, values, 0)] >= 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_digit, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _number(values: np.ndarray, digits: np.ndarray) -> int:
    return int("".join(str(int(digits[value])) for value in values))


def _copied(
    example: StreamExample, tokens: np.ndarray, known: list[_Told], spelling: Spelling
) -> Iterator[tuple[int, int]]:
    """Pairs of an answer's token and its source: times come from the remarks' tokens that fetch them, the first time
    from the first remark; other words from equal words.

    The words before a time repeat its remark, so they are copied from that remark only.
    """
    labels = example.asides.labels[tokens]
    runs = _runs(labels, spelling.digits)
    if not runs:
        yield from _words_copied(example, tokens, known, spelling)
    begin = 0
    for (start, end), remark in zip(runs, known, strict=False):
        if _number(labels[start:end], spelling.digits) == remark.second:
            yield from _in_order(_words_copied(example, tokens[begin:start], [remark], spelling))
            yield from zip(tokens[start : end + 1].tolist(), (word for word, _ in remark.carries), strict=False)
        begin = end


def _words_copied(
    example: StreamExample, tokens: np.ndarray, known: list[_Told], spelling: Spelling
) -> Iterator[tuple[int, int]]:
    labels = example.asides.labels[tokens]
    for token, label in zip(tokens.tolist(), labels.tolist(), strict=True):
        word = spelling.words[label] if label != IGNORED else 0
        for remark in known if word else ():
            same = np.flatnonzero(spelling.words[example.ids[remark.first : remark.end]] == word)
            yield from ((token, remark.first + int(place)) for place in same)


def _in_order(pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The pairs whose words of a remark are repeated in the remark's order."""
    token_before, place_before = -1, -1
    for token, place in pairs:
        if token > token_before and place > place_before:
            yield token, place
            token_before, place_before = token, place


def _named(
    example: StreamExample, tokens: np.ndarray, earlier: list[_Told], spelling: Spelling
) -> Iterator[tuple[int, int]]:
    """The last digit of a time in a question, paired with the token that fetches its digit in each remark of that
    second.

    Where no remark has that second, remarks of the second before or after count: a remark may be one frame off.
    """
    asked = tokens[example.asides.labels[tokens] == IGNORED]
    values = example.asides.ids[asked]
    for start, end in _runs(values, spelling.digits):
        second = _number(values[start:end], spelling.digits)
        near = [remark for remark in earlier if abs(remark.second - second) <= 1]
        there = [remark for remark in near if remark.second == second] or near
        places = [remark.carries[len(remark.digits) - 2][0] for remark in there]
        yield from ((int(asked[end - 1]), place) for place in places or [0])


def _pairs(found: list[tuple[int, int]]) -> np.ndarray:
    return np.array(found, dtype=np.int32).reshape(-1, 2)
