"""Questions of the kind that people ask here, and the comparison of words that counts what was misheard."""

from __future__ import annotations

import re
from collections.abc import Sequence

from assistant.speech.heard import words_of

QUESTIONS = (
    "What is on the left?", "What is on the right?", "What is in the middle?", "What is at the top?",
    "Where is the red square?", "Where is the blue circle?", "Where is the green triangle?", "Where did it go?",
    "What color is the circle?", "What color is the square?", "Is the circle moving?", "Is anything moving?",
    "How many shapes are there?", "How many squares can you see?", "How many people are there?",
    "How many cars are in the street?", "Who came in?", "Who left the room?", "Is anybody there?",
    "Is somebody at the door?", "Is the door open?", "Is the window closed?", "Is the light on?",
    "Did a car stop here?", "Did anyone take the bottle?", "Did something fall?", "Did it get dark?",
    "When did the car leave?", "When did the square stop?", "When did somebody come in?",
    "What happened at ten seconds?", "What happened in the last minute?", "What happened before that?",
    "What did you say at two minutes?", "What did you see first?", "What entered at the top?",
    "What moved last?", "What stopped on the right?", "Which shape is the largest?", "Which way did it move?",
    "Is the square still there?", "Is the triangle above the circle?", "Is the dog in the garden?",
    "Where is the cat?", "What is the man doing?", "What is the woman holding?", "Is the child alone?",
    "How long has the car been there?", "How long ago did it leave?", "Has the picture changed?",
    "Has anything happened since then?", "Tell me what you see.", "Tell me when someone comes in.",
    "Describe the picture.", "Is the street empty?", "Is it raining?", "Are two people talking?",
    "Are there any animals?", "Do you see a bicycle?", "Do you see a yellow square?", "Was that a truck?",
    "Was the gate open at night?", "Can you see the table?", "What is behind the chair?",
)  # fmt: skip
"""Sixty-four of them; none is in what the recogniser is told to expect."""
VOICES = ("en-us", "en-gb", "en-us+f3")
"""Three of eSpeak NG's: American, British, and a woman's."""
FLITE_VOICES = ("slt", "rms", "awb")
"""Three of Flite's, made of recorded speech: an American woman and man, and a Scot."""

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SPELLINGS = {
    "colour": "color", "colours": "colors", "centre": "center", "grey": "gray",
    **{str(number): word for number, word in enumerate(_ONES)},
    **{str(10 * number): word for number, word in enumerate(_TENS, 2)},
    **{f"{number}{one}": f"{ten} {_ONES[one]}" for number, ten in enumerate(_TENS, 2) for one in range(1, 10)},
}  # fmt: skip
"""Spellings of one spoken word: American ones, and numbers below a hundred in words."""
_CONTRACTIONS = (
    (r"\b(what|where|who|when|how|that|there|it|here)['’]s\b", r"\1 is"),
    (r"n['’]t\b", " not"),
    (r"['’]re\b", " are"),
    (r"['’]ve\b", " have"),
    (r"['’]ll\b", " will"),
    (r"\bi['’]m\b", "i am"),
)
"""Short forms and what they are short for; both are said alike, or nearly."""


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Words that were misheard, added or left out, and the number of words said.

    >>> word_errors("What is on the left?", "what is on left"), word_errors("At two minutes.", "At 2 minutes!")
    ((1, 5), (0, 3))
    """
    wanted, got = plain_words(said), plain_words(heard)
    row = list(range(len(got) + 1))
    for number, word in enumerate(wanted, 1):
        before, row = row, [number]
        for column, other in enumerate(got, 1):
            row.append(min(before[column] + 1, row[-1] + 1, before[column - 1] + (word != other)))
    return row[-1], len(wanted)


def rate(errors: Sequence[tuple[int, int]]) -> float:
    """The word error rate of several questions."""
    return sum(wrong for wrong, _ in errors) / max(1, sum(words for _, words in errors))


def plain_words(text: str) -> list[str]:
    """The words of a text in small letters, each in one spelling, without short forms.

    >>> plain_words("What's in the centre at 21 seconds?")
    ['what', 'is', 'in', 'the', 'center', 'at', 'twenty', 'one', 'seconds']
    """
    text = re.sub(r"-", " ", text.lower())
    for short, whole in _CONTRACTIONS:
        text = re.sub(short, whole, text)
    return " ".join(_SPELLINGS.get(word, word) for word in words_of(text)).split()
