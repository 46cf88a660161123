"""What a transcript means: a question, a command to the announcer, or the announcer's own voice. Plain functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

OWN_SHARE = 0.6
"""Share of a transcript's words that were just said aloud, from which it is our own voice."""
PHRASE_LIKENESS = 0.75
"""How like the wake phrase the beginning of a transcript must be, by letters."""
_STOP = re.compile(r"(please )?(stop|stop it|stop talking|be quiet|quiet|silence|shut up|enough)( please)?")
_REPEAT = re.compile(r"(please )?(repeat|repeat that|say that again|say it again|again|pardon|what was that)( please)?")


class Intent(StrEnum):
    """What somebody wants."""

    QUESTION = "question"
    STOP = "stop"
    REPEAT = "repeat"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Heard:
    """A transcript with what it means."""

    intent: Intent
    text: str
    """The question, in the words that were heard."""


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without marks.

    >>> words_of("What's on the LEFT?")
    ['whats', 'on', 'the', 'left']
    """
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("’", ""))


def understood(text: str) -> Heard:
    """What a transcript without a wake phrase means.

    >>> understood("Stop talking, please.").intent, understood("What is on the left?").intent
    (<Intent.STOP: 'stop'>, <Intent.QUESTION: 'question'>)
    """
    words = " ".join(words_of(text))
    if not words:
        return Heard(Intent.NOTHING, "")
    if _STOP.fullmatch(words):
        return Heard(Intent.STOP, text)
    return Heard(Intent.REPEAT if _REPEAT.fullmatch(words) else Intent.QUESTION, text.strip())


def after_phrase(text: str, phrase: str) -> str | None:
    """What follows the wake phrase at a transcript's beginning; None where it does not begin with it.

    >>> after_phrase("Hey, assistant. What is on the left?", "hey assistant")
    'What is on the left?'
    >>> after_phrase("Hey assistance, who came in?", "hey assistant"), after_phrase("Who came in?", "hey assistant")
    ('who came in?', None)
    """
    wanted = " ".join(words_of(phrase))
    pieces = list(re.finditer(r"\S+", text))
    count = len(wanted.split())
    for taken in (count, count - 1, count + 1):  # a recogniser may join or split words
        if not 0 < taken <= len(pieces):
            continue
        begin = " ".join(words_of(" ".join(piece.group() for piece in pieces[:taken])))
        if SequenceMatcher(None, begin, wanted, autojunk=False).ratio() >= PHRASE_LIKENESS:
            return text[pieces[taken - 1].end() :].lstrip(" ,.!?;:-")
    return None


def is_own_voice(transcript: str, said: str) -> bool:
    """Whether a transcript is of what was just said aloud: most of its words were said, and in that order.

    >>> is_own_voice("a purple square enters the top", "A purple square enters at the top.")
    True
    >>> is_own_voice("what is on the left", "A purple square enters at the top.")
    False
    """
    heard, spoken = words_of(transcript), words_of(said)
    if not heard or not spoken:
        return False
    blocks = SequenceMatcher(None, heard, spoken, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) >= OWN_SHARE * len(heard)
