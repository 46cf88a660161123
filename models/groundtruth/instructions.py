"""Standing instructions: what a user asks to be told, and which remarks each instruction allows. Pure; any thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from models.groundtruth.remarks import VIEW_REMARKS, Remark, a, all_remarks, as_remark, remarks
from streaming.scenes.scenario import EventKind
from streaming.scenes.scenery import COLOURS, SHAPES
from streaming.scenes.source import Scene


class Instruction(NamedTuple):
    """A standing instruction: its text, and which remarks it allows."""

    text: str
    allows: Callable[[Remark], bool]


_EVERYTHING = (
    "Describe everything.",
    "Tell me everything that happens.",
    "Say what happens.",
    "Comment on everything.",
)
_NOTHING = ("Say nothing unless asked.", "Be silent unless asked.", "Speak only when asked.", "Do not comment.")
_ENTERS = ("Tell me only when {what} appears.", "Say only when {what} enters.", "Tell me when {what} comes into view.")
_LEAVES = ("Tell me only when {what} leaves.", "Say only when {what} goes out of view.")
_OF_KIND: dict[EventKind, tuple[str, ...]] = {
    EventKind.COVERED: ("Tell me when the view is covered.", "Say only when the view is covered."),
    EventKind.UNCOVERED: ("Tell me when the view is clear again.",),
    EventKind.GETS_DARK: ("Tell me when it gets dark.", "Say only when it gets dark."),
    EventKind.GETS_BRIGHT: ("Tell me when it gets bright.", "Say only when it gets bright."),
    EventKind.BLURRED: ("Tell me when the view is blurred.", "Say only when the view is blurred."),
    EventKind.CAMERA_MOVES: ("Tell me when the camera moves.", "Say only when the camera moves."),
    EventKind.CUT: ("Tell me when the scene changes.", "Say only when the scene changes."),
    EventKind.STOPS: ("Tell me only when something stops.",),
    EventKind.STARTS: ("Tell me only when something starts moving.",),
    EventKind.CHANGES_COLOUR: ("Tell me only when a shape changes its colour.",),
}
_SHAPES_ONLY = ("Tell me only about shapes.", "Speak of shapes only.")
_VIEW_ONLY = ("Tell me only about the light and the view.", "Speak of the light and the view only.")


def _matches(kind: EventKind, **slots: str) -> Callable[[Remark], bool]:
    def allows(remark: Remark) -> bool:
        return remark.kind is kind and all(remark.slots.get(name) == value for name, value in slots.items())

    return allows


@cache
def _groups() -> list[list[Instruction]]:
    """All instructions in groups; `instructions` first draws a group, then an instruction of it."""
    appear: list[Instruction] = []
    leave: list[Instruction] = []
    for templates, kind, group in ((_ENTERS, EventKind.ENTERS, appear), (_LEAVES, EventKind.LEAVES, leave)):
        wanted: list[tuple[str, dict[str, str]]] = [("anything", {})]
        wanted += [(f"{a(colour)} shape", {"colour": colour}) for colour in COLOURS]
        wanted += [(a(shape), {"shape": shape}) for shape in SHAPES]
        wanted += [(a(f"{c} {s}"), {"colour": c, "shape": s}) for c in COLOURS for s in SHAPES]
        group += [
            Instruction(template.format(what=what), _matches(kind, **slots))
            for what, slots in wanted
            for template in templates
        ]
    view = [Instruction(text, _matches(kind)) for kind, texts in _OF_KIND.items() for text in texts]
    return [
        [Instruction(text, lambda remark: True) for text in _EVERYTHING],
        [Instruction(text, lambda remark: False) for text in _NOTHING],
        appear,
        leave,
        view,
        [Instruction(text, lambda remark: remark.slots.get("object") == "shape") for text in _SHAPES_ONLY]
        + [Instruction(text, lambda remark: remark.slots.get("object") == "view") for text in _VIEW_ONLY],
    ]


def instructions(rng: np.random.Generator, scene: Scene | None = None) -> Instruction:
    """A random instruction. With a scene, in three cases of four one that allows some remark of the scene."""
    groups = _groups()
    odds = np.array([0.15, 0.15, 0.3, 0.1, 0.2, 0.1])
    group = groups[int(rng.choice(len(groups), p=odds))]
    if scene is not None and rng.random() < 0.75:
        owed = remarks(scene)
        speaking = [one for one in group if any(one.allows(remark) for remark in owed)]
        group = speaking or group
    return group[int(rng.integers(len(group)))]


REMARK_CHECK = "{instruction} {remark} Answer yes or no."
"""Question whether a standing instruction allows a drafted remark."""
_SOMETHING_SHARE = 0.5
"""Share of "something" among drawn remarks on things, as in "Something enters on the left.": half of all remarks made,
but few of the possible sentences."""
_BROAD_SHARE = 0.35
"""Share of instructions on one kind of event of any thing: few of all instructions, but they allow half of the remarks
made."""
_NEAR_SHARE = 0.8
"""Share of near misses, as `_near` defines them, among the drawn remarks that the instruction does not allow."""


@cache
def _judgeable() -> tuple[Remark, ...]:
    return tuple(as_remark(text) for text in all_remarks())


@cache
def _split(instruction: Instruction) -> tuple[list[Remark], list[Remark]]:
    """All remarks in two lists: those that an instruction allows, and the others."""
    passing: list[Remark] = []
    others: list[Remark] = []
    for remark in _judgeable():
        (passing if instruction.allows(remark) else others).append(remark)
    return passing, others


@cache
def _broad_instructions() -> tuple[Instruction, ...]:
    return tuple(one for group in _groups() for one in group if _is_broad(one))


def _is_broad(instruction: Instruction) -> bool:
    """Whether the instruction allows exactly one kind of event, of any thing."""
    passing, others = _split(instruction)
    kinds = {remark.kind for remark in passing}
    return len(kinds) == 1 and not kinds & VIEW_REMARKS.keys() and all(remark.kind not in kinds for remark in others)


def _draw(rng: np.random.Generator, among: list[Remark]) -> Remark:
    """Draw a remark: each kind of event with equal probability, "something" with its own share."""
    kinds = sorted({remark.kind for remark in among})
    kind = kinds[int(rng.integers(len(kinds)))]
    each = [remark for remark in among if remark.kind is kind]
    if rng.random() < _SOMETHING_SHARE:
        each = [remark for remark in each if remark.slots["object"] == "something"] or each
    return each[int(rng.integers(len(each)))]


def _near(rng: np.random.Generator, passing: list[Remark], others: list[Remark]) -> list[Remark]:
    """Near misses among the other remarks: another event of an allowed remark's thing, or the same event of another
    thing."""
    right = _draw(rng, passing)

    def thing(remark: Remark) -> tuple[str | None, ...]:
        return tuple(remark.slots.get(name) for name in ("object", "colour", "shape"))

    same_thing = [remark for remark in others if thing(remark) == thing(right)]
    same_deed = [remark for remark in others if remark.kind is right.kind]
    first, second = (same_thing, same_deed) if rng.random() < 0.5 else (same_deed, same_thing)
    return first or second


def judged(rng: np.random.Generator) -> tuple[str, bool]:
    """A question in the words of `REMARK_CHECK`, and whether the instruction allows the remark.

    Yes and no are equally probable where the instruction permits both; most remarks that are not allowed are near
    misses.
    """
    broad = _broad_instructions()
    instruction = broad[int(rng.integers(len(broad)))] if rng.random() < _BROAD_SHARE else instructions(rng)
    passing, others = _split(instruction)
    passes = bool(passing) and (not others or bool(rng.random() < 0.5))
    among = passing if passes else others
    if not passes and passing and rng.random() < _NEAR_SHARE:
        among = _near(rng, passing, others) or others
    return REMARK_CHECK.format(instruction=instruction.text, remark=_draw(rng, among).text), passes


def all_instructions() -> Iterator[str]:
    """The texts of all instructions."""
    for group in _groups():
        yield from (instruction.text for instruction in group)
