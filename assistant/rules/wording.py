"""Turns a rule's plain words into the yes/no questions that a model is asked. Pure; any thread."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import product

from assistant.errors import ConfigError
from models.groundtruth.instructions import all_instructions
from models.groundtruth.remarks import SIDE_PHRASES, a
from models.groundtruth.wording import TEMPLATES, YES_NO_SUFFIX
from streaming.scenes.scenery import COLOURS, SHAPES

_VERBS = "enters|leaves|stops|moves|starts|comes|goes|falls|opens|closes|has|does|can"
_KNOWN_STATES = {
    "the view is covered": "Is the view covered?",
    "the camera is covered": "Is the view covered?",
    "it is dark": "Is it dark?",
    "the view is dark": "Is it dark?",
    "the view is blurred": "Is the view blurred?",
    "the picture is blurred": "Is the view blurred?",
    "anything moves": "Is anything moving?",
    "anything is moving": "Is anything moving?",
    "something moves": "Is anything moving?",
    "something is moving": "Is anything moving?",
    "anything": "Is anything in view?",
    "something": "Is anything in view?",
    "anything in view": "Is anything in view?",
    "something in view": "Is anything in view?",
    "anything is in view": "Is anything in view?",
    "something is in view": "Is anything in view?",
    "anyone": "Is anyone in view?",
    "someone": "Is anyone in view?",
}
"""Questions for statements that have a wording of their own."""
SIDES = ("left", "centre", "right")
"""Sides that the small model was taught to name of a thing that stands still."""
_RELATIVE = re.compile(r"(?i)\b(that|which|who|whose|where|when|while|if)\b")
"""Words that begin a clause, after which an "is" may be another verb than the sentence's own."""
_BE = re.compile(r"(?P<subject>.+?) (?P<be>is|are) (?P<rest>.+)", re.IGNORECASE)
TAUGHT_FORMS = (
    "a red circle, a green shape or a square (in view, or on the left, on the right or in the "
    "centre), anything, anything moves, the view is covered, it is dark, the view is blurred"
)
"""What rules the small model was taught to judge, for people."""


@dataclass(frozen=True, slots=True)
class PlacedThing:
    """One thing that is asked for, and the question where it is."""

    question: str
    """Whether it is in view."""
    where: str


@dataclass(frozen=True, slots=True)
class Condition:
    """What a model is asked, to judge a rule."""

    question: str
    """A yes/no question."""
    side: str | None = None
    """A key of `SIDE_PHRASES` where the side is asked for apart: the rule holds where a thing is there."""
    things: tuple[PlacedThing, ...] = ()
    """The things whose side may be meant."""
    is_taught: bool = True
    """Whether the model's card says that it was taught to judge this."""

    @property
    def whole_question(self) -> str:
        """All that the rule asks, as one question, the side included."""
        if self.side is None:
            return self.question
        return self.question.replace(" in view?", f" {SIDE_PHRASES[self.side]}?")


def condition_of(words: str, *, is_small: bool) -> Condition:
    """How a model is asked about a rule's words.

    is_small: whether it is the embedded model, which knows few words and is asked only in the forms that it was
    taught. Raises `ConfigError` for words that it cannot read.
    """
    plain = _plain(words)
    if not is_small:
        return Condition(_asked(plain) + YES_NO_SUFFIX)
    condition = _side_condition(plain) or Condition(_asked(plain))
    unknown = [word for word in re.findall(r"[a-z]+", plain.lower()) if word not in _vocabulary()]
    if unknown:
        raise ConfigError(
            f"rule words {words!r}: the embedded model cannot read {', '.join(map(repr, unknown))}; "
            f"it can judge {TAUGHT_FORMS}; use such words, or a released model"
        )
    return Condition(condition.question, condition.side, condition.things, is_taught=_is_taught(condition))


def _plain(words: str) -> str:
    return re.sub(r"\s+", " ", words).strip().rstrip(".!").strip()


def _asked(plain: str) -> str:
    """A statement, the name of a thing, or a question, as a question."""
    if plain.endswith("?"):
        return plain[0].upper() + plain[1:]
    lower = plain if plain[1:2].isupper() else plain[0].lower() + plain[1:]
    known = _KNOWN_STATES.get(lower.lower())
    if known is not None:
        return known
    statement = _BE.fullmatch(lower)
    if statement is not None and not _RELATIVE.search(lower):
        return f"{statement['be'].capitalize()} {statement['subject']} {statement['rest']}?"
    verbs = len(re.findall(r"(?i)\b(?:is|are)\b", lower))
    is_sentence = _has_verb(lower) or verbs > 1
    if re.match(r"(?i)(two|three|four|five|six|several|some|many)\b", lower) and not is_sentence:
        return f"Are {lower} in view?"
    if re.match(r"(?i)(a|an|the|any|no)\b", lower) and not is_sentence:
        return f"Is {lower} in view?" if " in view" not in lower else f"Is {lower}?"
    return f"Is it true now that {lower}?"


def _has_verb(phrase: str) -> bool:
    """Whether a phrase seems to say what a thing does: "a car stops at the gate"."""
    return bool(
        re.search(r"(?i)\b(enters|leaves|stops|moves|starts|comes|goes|falls|opens|closes|has|does|can)\b", phrase)
    )


def _side_condition(plain: str) -> Condition | None:
    """A shape on a side: the small model is asked whether it is in view, and then where it is."""
    phrases = {SIDE_PHRASES[side]: side for side in SIDES}
    # Of other sides it was taught no answers.
    found = re.fullmatch(rf"(?i)(an? .+?)(?: is)? ({'|'.join(phrases)})", plain)
    if found is None:
        return None
    article_free = found[1].split(" ", 1)[1].lower()
    looks = [(c, s) for c, s in product(COLOURS, SHAPES) if article_free in (f"{c} {s}", f"{c} shape", s, "shape")]
    things = tuple(PlacedThing(f"Is {a(f'{c} {s}')} in view?", f"Where is the {c} {s}?") for c, s in looks)
    return Condition(f"Is {a(article_free)} in view?", phrases[found[2].lower()], things) if things else None


def _is_taught(condition: Condition) -> bool:
    return condition.question in _taught_questions()


@cache
def _taught_questions() -> frozenset[str]:
    """Every yes/no question about the present that the small model was trained on."""
    whats = [f"{c} {s}" for c in COLOURS for s in SHAPES] + [f"{c} shape" for c in COLOURS] + list(SHAPES)
    there = {template.format(a_what=a(what)) for template in TEMPLATES["is_there"] for what in whats}
    kinds = ("is_anything", "is_moving", "is_covered", "is_dark", "is_blurred")
    return frozenset(there.union(*(TEMPLATES[kind] for kind in kinds)))


@cache
def _vocabulary() -> frozenset[str]:
    """The words of the questions about shapes and of the instructions that the small model was trained on."""
    texts = [template for templates in TEMPLATES.values() for template in templates]
    texts += [*COLOURS, *SHAPES, *SIDE_PHRASES.values(), *_KNOWN_STATES, *all_instructions()]
    return frozenset(word for text in texts for word in re.findall(r"[a-z]+", text.lower())) - {"anyone", "someone"}
