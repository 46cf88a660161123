"""Parse answers into meanings, so that answers are compared by content and not by wording. Pure functions; any thread.

The true answer determines the form of the content; a given answer is searched for content of that form only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from models.groundtruth.remarks import parse
from models.groundtruth.wording import NEVER, NUMBERS
from streaming.scenes.object_names import NAMES
from streaming.scenes.scenery import COLOURS, SHAPES

TIME_TOLERANCE_S = 1.0
"""Largest error of a right time, in seconds; answers give whole seconds."""

Content = tuple[object, ...]
Reader = Callable[[str], Content | None]

_NUMBER_WORDS = {word.casefold(): number for number, word in enumerate(NUMBERS)} | {"zero": 0, "nothing": 0, "no": 0}
_PLACES = {
    "left": "left",
    "right": "right",
    "centre": "centre",
    "center": "centre",
    "middle": "centre",
    "top": "up",
    "up": "up",
    "upwards": "up",
    "bottom": "down",
    "down": "down",
    "downwards": "down",
}
_SECONDS = r"(\d+(?:\.\d+)?)"
_FROM_TO = re.compile(rf"{_SECONDS}\s*(?:s|seconds?)?\s*(?:to|until|-|and)\s*{_SECONDS}")
_TWO_TIMES = re.compile(rf"\D+ at {_SECONDS} seconds\D+ at {_SECONDS} seconds\.?")
_THING = re.compile(rf"\b(?:({'|'.join(COLOURS)})\s+({'|'.join(SHAPES)})s?|(something|{'|'.join(NAMES)}))\b")
_CHOICES = ("first", "second", "both", "neither")


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a text: the form of its content, and the content."""

    form: str
    content: Content


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s.'-]", " ", text.casefold()).split())


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", _plain(text))


def _yes_no(text: str) -> Content | None:
    found = [word for word in _words(text) if word in ("yes", "no")]
    return (found[0],) if found and len(set(found)) == 1 else None


def _never(text: str) -> Content | None:
    return ("never",) if "of that kind" in _plain(text) or "never" in _words(text) else None


def _nothing(text: str) -> Content | None:
    return ("nothing",) if re.match(r"(nothing|no one|none)\b(?! of that kind)", _plain(text)) else None


def _remark(text: str) -> Content | None:
    slots = parse(text)
    return tuple(sorted(slots.items())) if slots else None


def _span(text: str) -> Content | None:
    found = _FROM_TO.search(_plain(text)) or _TWO_TIMES.fullmatch(_plain(text))
    return (float(found.group(1)), float(found.group(2))) if found else None


def _time(text: str) -> Content | None:
    found = re.findall(_SECONDS, _plain(text))
    return (float(found[0]),) if len(found) == 1 else None


def _things(text: str) -> Content | None:
    found = [f"{colour} {shape}".strip() or some for colour, shape, some in _THING.findall(_plain(text))]
    return tuple(sorted(Counter(found).elements())) if found else None


def _among(names: tuple[str, ...]) -> Reader:
    """A reader that returns which of the names a text mentions."""

    def read(text: str) -> Content | None:
        words = [word.removesuffix("s") if word.removesuffix("s") in names else word for word in _words(text)]
        return tuple(sorted({word for word in words if word in names})) or None

    return read


def _place(text: str) -> Content | None:
    return tuple(sorted({_PLACES[word] for word in _words(text) if word in _PLACES})) or None


def _number(text: str) -> Content | None:
    words = _words(text)
    found = {int(word) if word.isdigit() else _NUMBER_WORDS[word] for word in words if _is_number(word)}
    return (found.pop(),) if len(found) == 1 else None


def _is_number(word: str) -> bool:
    return word.isdigit() or word in _NUMBER_WORDS


_READERS: dict[str, Reader] = {
    "never": _never,
    "yes_no": _yes_no,
    "remark": _remark,
    "span": _span,
    "time": _time,
    "things": _things,
    "nothing": _nothing,
    "number": _number,
    "choice": _among(_CHOICES),
    "place": _place,
    "colour": _among(tuple(COLOURS)),
    "shape": _among(SHAPES),
}
"""Readers by form, in the order in which a true answer is tried: the most specific first."""


def meaning(truth: str) -> Meaning | None:
    """The meaning of a true answer; `None` where it has no known form.

    >>> meaning("A red circle and something.").content
    ('red circle', 'something')
    """
    if truth.strip().rstrip(".").casefold() == NEVER.rstrip(".").casefold():
        return Meaning("never", ("never",))
    if truth.strip().rstrip(".").casefold() in {word.casefold() for word in NUMBERS}:
        return Meaning("number", _number(truth) or ())
    for form, read in _READERS.items():
        content = read(truth)
        if content is not None:
            return Meaning(form, content)
    return None


def is_right(given: str, truth: str) -> bool:
    """Whether a given answer agrees with the true one.

    Times agree within a second; lists in any order; "nothing" and "never" only where the true answer says so.

    >>> is_right("It is red.", "Red."), is_right("Red or blue.", "Red."), is_right("Two shapes", "Two.")
    (True, False, True)
    """
    wanted = meaning(truth)
    if wanted is None:
        return _plain(given).rstrip(".") == _plain(truth).rstrip(".") != ""
    if wanted.form not in ("never", "nothing", "number", "yes_no") and (_never(given) or _nothing(given)):
        return False
    if wanted.form == "nothing" and _never(given):
        return False
    read = _READERS[wanted.form](given)
    if read is None:
        return False
    if wanted.form in ("time", "span"):
        return all(
            abs(float(str(said)) - float(str(true))) <= TIME_TOLERANCE_S
            for said, true in zip(read, wanted.content, strict=True)
        )
    return read == wanted.content
