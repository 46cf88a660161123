"""How benchmarks score an answer: option letters, overlap of intervals, edit distance. Pure functions; any thread."""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"
RECALL_AT = (0.3, 0.5, 0.7)
"""Overlaps at which Charades-STA counts an interval as found."""
ANLS_THRESHOLD = 0.5
"""Similarity below which DocVQA gives no credit (Biten et al. 2019)."""

_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_INTERVAL = re.compile(rf"{_NUMBER}\s*(?:s|sec|seconds?)?\s*(?:-|–|to|and|until)\s*{_NUMBER}")


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


def interval_of(said: str) -> tuple[float, float] | None:
    """The first interval, seconds, that an answer names; None where there is none.

    >>> interval_of("From 3.5 to 10 seconds"), interval_of("It starts at 2 s, ends at 4 s.")
    ((3.5, 10.0), (2.0, 4.0))
    """
    found = _INTERVAL.search(said)
    numbers = list(found.groups()) if found else re.findall(_NUMBER, said)[:2]
    if len(numbers) < 2:
        return None
    start_s, end_s = float(numbers[0]), float(numbers[1])
    return (start_s, end_s) if start_s <= end_s else (end_s, start_s)


def overlap(one: tuple[float, float] | None, other: tuple[float, float]) -> float:
    """Intersection over union of two intervals, 0 to 1."""
    if one is None:
        return 0.0
    inside = min(one[1], other[1]) - max(one[0], other[0])
    whole = max(one[1], other[1]) - min(one[0], other[0])
    return max(inside, 0.0) / whole if whole > 0 else float(one == other)


def anls(said: str, answers: Sequence[str]) -> float:
    """Average normalised Levenshtein similarity of one answer: to the nearest accepted one, 0 below the threshold."""
    given = " ".join(said.casefold().split())
    best = 0.0
    for answer in answers:
        wanted = " ".join(answer.casefold().split())
        longest = max(len(given), len(wanted))
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
