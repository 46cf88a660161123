"""Cuts growing text into pieces to say, so that speech can begin with the first clause. Belongs to one thread."""

from __future__ import annotations

import re

FIRST_LETTERS = 8
"""Letters after which the first clause is said; a shorter one waits for the next."""
CLAUSE_LETTERS = 60
"""Letters after which a later piece ends at a comma; shorter ones go on to the end of their sentence."""
MOST_LETTERS = 240
"""Letters after which a piece ends at a space, where no mark comes."""

_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*\s")
_CLAUSE = re.compile(r"[.!?…,;:–—]+[\"'”’)\]]*\s")


class ClauseSplitter:
    """Text goes in as it comes, pieces to say come out.

    >>> splitter = ClauseSplitter()
    >>> splitter.feed("Two people came in, one of them left at 3.5 s. Th")
    ['Two people came in,', 'one of them left at 3.5 s.']
    >>> splitter.feed("en it was quiet"), splitter.flush()
    ([], ['Then it was quiet'])
    """

    def __init__(self) -> None:
        self._waiting = ""
        self._is_first = True

    def feed(self, piece: str) -> list[str]:
        """The pieces that are complete with `piece`. A mark ends one only where a space follows: 3.5 stays whole."""
        self._waiting += piece
        found = []
        while (end := self._end()) is not None:
            said, self._waiting = self._waiting[:end].strip(), self._waiting[end:]
            if said:
                found.append(said)
                self._is_first = False
        return found

    def flush(self) -> list[str]:
        """What is left, at the text's end."""
        rest, self._waiting = self._waiting.strip(), ""
        return [rest] if rest else []

    def _end(self) -> int | None:
        """Where the next piece ends; None if more text is needed."""
        if self._is_first:
            return self._mark(_CLAUSE, FIRST_LETTERS)
        sentence, clause = self._mark(_SENTENCE, 0), self._mark(_CLAUSE, CLAUSE_LETTERS)
        ends = [end for end in (sentence, clause) if end is not None]
        if ends:
            return min(ends)
        if len(self._waiting) > MOST_LETTERS:
            return self._waiting.rfind(" ", 0, MOST_LETTERS) + 1 or MOST_LETTERS
        return None

    def _mark(self, pattern: re.Pattern[str], least: int) -> int | None:
        found = next((m.end() for m in pattern.finditer(self._waiting) if m.end() > least), None)
        return found


def clauses(text: str) -> list[str]:
    """A whole text as pieces to say.

    >>> clauses("A blue circle enters at the top.")
    ['A blue circle enters at the top.']
    """
    splitter = ClauseSplitter()
    return [*splitter.feed(text), *splitter.flush()]
