"""How benchmarks score an answer: option letters, overlap of intervals, edit distance. Pure functions; any thread.

Intervals and edit distance follow the evaluation published with VideoLLaMA 3. Option letters are read more strictly: it
takes the first capital letter that is an option's, even of an article or a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"
RECALL_AT = (0.3, 0.5, 0.7)
"""Overlaps at which Charades-STA counts an interval as found."""
ANLS_THRESHOLD = 0.5
"""Similarity below which DocVQA gives no credit (Biten et al. 2019)."""

_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_INTERVAL = re.compile(rf"{_NUMBER}\s*(?:s|sec|seconds?)?\s*(?:-|–|to)\s*{_NUMBER}")


def chosen_letter(said: str, options: Sequence[str]) -> str | None:
    """The option that an answer chooses, by its letter or else by its words; None where it chooses none.

    >>> chosen_letter("(B) a dog", ["a cat", "a dog"]), chosen_letter("A dog.", ["a cat", "a dog"])
    ('B', 'B')
    """
    letters = LETTERS[: len(options)]
    text = said.strip()
    marked = re.match(rf"\(?([{letters}])\)?\s*(?:[.):,\n]|$)", text) or re.search(rf"\(([{letters}])\)", text)
    if marked is None:
        marked = re.search(rf"(?:answer|option|choice)\s*(?:is|:)?\s*:?\s*\(?([{letters}])\b(?!\s+[a-z])", text, re.I)
    if marked is not None and marked.group(1).upper() in letters:
        return marked.group(1).upper()
    plain = _plain(text)
    named = [index for index, option in enumerate(options) if _plain(option) and _within(_plain(option), plain)]
    if named:
        return letters[max(named, key=lambda index: len(options[index]))]
    alone = re.findall(rf"\b([{letters}])\b", text)
    return alone[0] if len(set(alone)) == 1 and not re.match(r"A\s+[a-z]", text) else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.casefold()))


def _within(part: str, whole: str) -> bool:
    return f" {part} " in f" {whole} "


def intervals_of(said: str) -> list[tuple[float, float]]:
    """The intervals, seconds, that an answer names: "A to B" and "A - B", or else its numbers, the last ones, in pairs.

    >>> intervals_of("From 3.5 to 10 seconds"), intervals_of("It starts at 2 s, ends at 4 s.")
    ([(3.5, 10.0)], [(2.0, 4.0)])
    """
    pairs = _INTERVAL.findall(said)
    if not pairs:
        numbers = re.findall(_NUMBER, said)
        numbers = numbers[len(numbers) % 2 :]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    return [(min(float(one), float(other)), max(float(one), float(other))) for one, other in pairs]


def overlap(said: Sequence[tuple[float, float]], wanted: tuple[float, float]) -> float:
    """Intersection over union of the intervals of an answer, together, and the wanted one: 0 to 1."""
    inside = sum(max(0.0, min(end, wanted[1]) - max(start, wanted[0])) for start, end in said)
    whole = wanted[1] - wanted[0] + sum(end - start for start, end in said) - inside
    return inside / whole if whole > 0 else float(wanted in said)


def anls(said: str, answers: Sequence[str]) -> float:
    """Average normalised Levenshtein similarity of one answer: to the nearest accepted one, 0 below the threshold.

    Edits are counted without regard to case and runs of blanks, lengths with them, as DocVQA does.
    """
    given = " ".join(said.lower().split())
    best = 0.0
    for answer in answers:
        wanted = " ".join(answer.lower().split())
        longest = max(len(said), len(answer))
        similarity = 1.0 if longest == 0 else 1.0 - _edits(given, wanted) / longest
        best = max(best, similarity)
    return best if best >= ANLS_THRESHOLD else 0.0


def _edits(one: str, other: str) -> int:
    """Levenshtein distance."""
    before = list(range(len(other) + 1))
    for row, letter in enumerate(one, start=1):
        now = [row]
        for column, against in enumerate(other, start=1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (letter != against)))
        before = now
    return before[-1]
