"""What a transcript means: a question, a command to the announcer, or the announcer's own voice. Plain functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

OWN_SHARE = 0.6
"""Share of a transcript's words that were just said aloud, from which it is our own voice."""
PHRASE_LIKENESS = 0.75
"""How like the wake phrase the beginning of a transcript must be, by letters; its last word alone, too."""
FIRST_LIKENESS = 0.5
"""How like the phrase's first word the first letters must be: hay for hey, but not an."""
_STOP = re.compile(r"(please )?(stop|stop it|stop talking|be quiet|quiet|silence|shut up|enough)( please)?")
_REPEAT = re.compile(r"(please )?(repeat|repeat that|say that again|say it again|again|pardon|what was that)( please)?")


_SECONDS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
}  # fmt: skip
_SPOKEN_SECONDS = re.compile(rf"\b({'|'.join(_SECONDS)})(?=\s+seconds?\b)", re.I)
_LOST_AT = re.compile(r"\b(did you (?:say|see)|happened),?\s+(?=\d+(?:\.\d+)?\s+seconds?\b)", re.I)


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
    if _REPEAT.fullmatch(words):
        return Heard(Intent.REPEAT, text)
    return Heard(Intent.QUESTION, as_typed(text))


def as_typed(text: str) -> str:
    """A question with its seconds as people type them; recognisers often lose the short "at" before them.

    >>> as_typed("What did you say, three seconds?"), as_typed("What happened at 12 seconds?")
    ('What did you say at 3 seconds?', 'What happened at 12 seconds?')
    """
    figures = _SPOKEN_SECONDS.sub(lambda found: str(_SECONDS[found[1].lower()]), text.strip())
    return _LOST_AT.sub(r"\1 at ", figures)


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
        last = (begin.split() or [""])[-1]
        first = wanted.split()[0]
        is_greeting = _likeness(begin[: len(first)], first) >= FIRST_LIKENESS
        if is_greeting and min(_likeness(begin, wanted), _likeness(last, wanted.split()[-1])) >= PHRASE_LIKENESS:
            return text[pieces[taken - 1].end() :].lstrip(" ,.!?;:-")
    return None


def _likeness(one: str, other: str) -> float:
    """How like two texts are by their letters, in [0, 1]."""
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


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
