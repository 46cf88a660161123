"""Texts about the model for users: what it can and cannot do, and how to start another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from assistant.program import called_as
from assistant.rules.wording import TAUGHT_FORMS


@dataclass(frozen=True, slots=True)
class ModelAbout:
    """Description of a model for users."""

    title: str
    can: str
    cannot: str
    other: str
    """How to start a larger model; empty if this is one."""
    questions: tuple[str, str, str]
    """Three example questions."""
    rules: str = ""
    """What rules it can judge; empty if it can be asked anything."""


@cache
def about_embedded() -> ModelAbout:
    """The description of the checkpoint that comes with the program."""
    return ModelAbout(
        title="The small embedded model is watching",
        can="It was trained on rendered scenes: it notices when something enters, moves, stops or leaves, where, "
        "and when the light or the view changes.",
        cannot="On such scenes it names 98 of 100 happenings rightly and answers nine questions in ten; it errs most "
        "about clips. It has no words for people, faces, objects or text.",
        other=f"For real understanding start a released one: {called_as()} ui --model DAMO-NLP-SG/VideoLLaMA3-2B",
        questions=("What is on the left?", "How many shapes are there?", "What happened last?"),
        rules=f"The embedded model can judge {TAUGHT_FORMS}.",
    )


TRAINED_CANNOT = "It can be wrong about small things, numbers and what left the picture a while ago."
STAND_IN = "A simple rule decides when it speaks: when the picture changes after quiet."


def _not_measured() -> str:
    measure = f"{called_as()} calibrate FOLDER"
    return f"whether it was trained to decide that itself was not measured; {measure} measures it"


def decision_in_words(decision: str, reason: str) -> str:
    """A sentence on how a checkpoint decides when to speak, and why. decision: `trained` or `stand_in`."""
    if decision == "trained":
        return f"It decides itself when to speak ({reason or 'its settings say that it was trained to'})."
    return f"{STAND_IN.removesuffix('.')} ({reason or _not_measured()})."


def about_model(name: str, *, embedded: bool, decision: str, reason: str = "") -> ModelAbout:
    """The description of a checkpoint. decision: `trained`, or `stand_in` if a simple rule decides when to speak.

    reason: what `calibrate` measured; empty if it was not run.
    """
    if embedded:
        return about_embedded()
    return ModelAbout(
        title=f"{name} is watching",
        can="It describes what it sees and answers questions about the last minutes, and about pictures and clips "
        "that you attach.",
        cannot=f"{TRAINED_CANNOT} {decision_in_words(decision, reason)}",
        other="",
        questions=("What is happening?", "Who or what is in the picture?", "What changed in the last minute?"),
    )
