"""Remarks about a scene: one short sentence per event, and the parser from a sentence back to its content.

Pure functions, for any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from streaming.scenes.object_names import PLURALS
from streaming.scenes.scenario import EventKind, TruthEvent
from streaming.scenes.scenery import COLOURS, SHAPES
from streaming.scenes.source import Scene

SIDE_PHRASES = {
    "left": "on the left",
    "centre": "in the centre",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
DIRECTIONS = ("left", "right", "up", "down")
_THIRDS = ("left", "centre", "right")
_EDGES = ("left", "right", "top", "bottom")

VIEW_REMARKS: dict[EventKind, str] = {
    EventKind.GETS_DARK: "It gets dark.",
    EventKind.GETS_BRIGHT: "It gets bright.",
    EventKind.COVERED: "The view is covered.",
    EventKind.UNCOVERED: "The view is clear again.",
    EventKind.BLURRED: "The view is blurred.",
    EventKind.SHARP: "The view is sharp again.",
    EventKind.CAMERA_MOVES: "The camera moves.",
    EventKind.CUT: "The scene changes.",
}

COUNT_WORDS = {"two": "2", "three": "3", "four": "4", "five": "5", "several": "several"}
"""Numbers of things that a remark can state, other than one."""

SLOT_NAMES = ("object", "colour", "shape", "side", "direction", "new_colour", "action")


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence that the assistant should say, and when."""

    time_s: float
    """Time when a quarter of the change is visible."""
    speak_s: float
    """Time from which on the sentence is true and can be known."""
    text: str
    slots: dict[str, str]
    """The sentence's content by `SLOT_NAMES`, as `parse` reads it from the text."""
    kind: EventKind


def a(words: str) -> str:
    """The words with their indefinite article: "an orange star"."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def capitalised(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def remark_text(event: TruthEvent) -> str:
    """The sentence for an event."""
    if event.kind in VIEW_REMARKS:
        return VIEW_REMARKS[event.kind]
    side = SIDE_PHRASES[event.side or "centre"]
    if event.name is not None:
        return named_text(event.kind, event.name, event.side or "centre")
    if event.shape is None:
        verb = {
            EventKind.ENTERS: "enters",
            EventKind.LEAVES: "leaves",
            EventKind.STARTS: "moves",
            EventKind.STOPS: "stops",
        }[event.kind]
        return f"Something {verb} {side}."
    name = f"{event.colour} {event.shape}"
    if event.kind is EventKind.ENTERS:
        return f"{capitalised(a(name))} enters {side}."
    if event.kind is EventKind.LEAVES:
        return f"The {name} leaves {side}."
    if event.kind is EventKind.STOPS:
        return f"The {name} stops {side}."
    if event.kind is EventKind.STARTS:
        return f"The {name} starts moving {event.direction}."
    return f"The {name} turns {event.new_colour}."


_VIEW_ACTIONS = {text: kind.value for kind, text in VIEW_REMARKS.items()}
_COLOUR = "|".join(COLOURS)
_THING = rf"(?:(?:a|an|the) (?P<colour>{_COLOUR}) (?P<shape>{'|'.join(SHAPES)})|(?P<something>something))"
_ACTION = (
    r"(?:(?P<verb>enters|leaves|stops|moves) (?P<side>on the left|in the centre|on the right|at the top|at the bottom)"
    rf"|starts moving (?P<direction>{'|'.join(DIRECTIONS)})|turns (?P<new_colour>{_COLOUR}))"
)
_SENTENCE = re.compile(rf"^{_THING} {_ACTION}\.?$")
_ONE_NAMED = rf"(?:a|an|the) (?P<name>{'|'.join(PLURALS)})"
_SEVERAL_NAMED = rf"(?P<count>{'|'.join(COUNT_WORDS)}) (?P<plural>{'|'.join(PLURALS.values())})"
_NAMED_ACTION = (
    r"(?:(?P<verb>enter|leave|stop|move)s? (?P<side>on the left|in the centre|on the right|at the top|at the bottom)"
    rf"|starts? moving (?P<direction>{'|'.join(DIRECTIONS)})|(?:is|are) (?:walking|moving))"
)
_NAMED = re.compile(rf"^(?:{_ONE_NAMED}|{_SEVERAL_NAMED}) {_NAMED_ACTION}\.?$")
_SINGULARS = {plural: name for name, plural in PLURALS.items()}
_PHRASE_SIDES = {phrase: side for side, phrase in SIDE_PHRASES.items()}


def parse(text: str) -> dict[str, str]:
    """Parse a remark into slots; an empty dict where the text is not one of these remarks.

    `action` is an `EventKind` value, `object` is "shape", "something", "view" or one of `names.NAMES`; other slots are
    present where the sentence has them. `count` is present where the sentence is about several things: "2" to "5", or
    "several".

    >>> parse("The red circle stops in the centre.")["side"]
    'centre'
    """
    plain = " ".join(text.split())
    view = _VIEW_ACTIONS.get(capitalised(plain) if plain.endswith(".") else capitalised(plain) + ".")
    if view is not None:
        return {"object": "view", "action": view}
    match = _SENTENCE.match(plain[:1].lower() + plain[1:])
    if match is None:
        return _parse_named(plain[:1].lower() + plain[1:])
    found = {key: value for key, value in match.groupdict().items() if value is not None}
    slots = {"object": "something" if "something" in found else "shape"}
    slots |= {key: found[key] for key in ("colour", "shape", "direction", "new_colour") if key in found}
    if "side" in found:
        slots["side"] = _PHRASE_SIDES[found["side"]]
    verb = found.get("verb") or ("moves" if "direction" in found else "turns")
    slots["action"] = {"moves": "starts", "turns": "changes_colour"}.get(verb, verb)
    return slots


def _parse_named(plain: str) -> dict[str, str]:
    """Parse a remark on named things into slots; an empty dict where the text is none."""
    match = _NAMED.match(plain)
    if match is None:
        return {}
    found = {key: value for key, value in match.groupdict().items() if value is not None}
    slots = {"object": found.get("name") or _SINGULARS[found["plural"]]}
    if "count" in found:
        slots["count"] = COUNT_WORDS[found["count"]]
    if "direction" in found:
        slots["direction"] = found["direction"]
    if "side" in found:
        slots["side"] = _PHRASE_SIDES[found["side"]]
    verb = found.get("verb", "move")
    slots["action"] = "starts" if verb == "move" else f"{verb}s"
    return slots


def named_text(kind: EventKind, name: str, side: str, count: int = 1) -> str:
    """The sentence for one or several named things that enter, leave, start or stop.

    >>> named_text(EventKind.ENTERS, "person", "left"), named_text(EventKind.STOPS, "bus", "centre", 2)
    ('A person enters on the left.', 'Two buses stop in the centre.')
    """
    verb = "move" if kind is EventKind.STARTS else kind.value.removesuffix("s")
    if count > 1:
        number = next((word for word, digits in COUNT_WORDS.items() if digits == str(count)), "several")
        return f"{capitalised(number)} {PLURALS[name]} {verb} {SIDE_PHRASES[side]}."
    subject = a(name) if kind is EventKind.ENTERS else f"the {name}"
    return f"{capitalised(subject)} {verb}s {SIDE_PHRASES[side]}."


def event_slots(event: TruthEvent) -> dict[str, str]:
    """The slots of the remark for an event."""
    if event.kind in VIEW_REMARKS:
        return {"object": "view", "action": event.kind.value}
    unshaped = event.name or "something"
    slots = {"object": unshaped if event.shape is None else "shape", "action": event.kind.value}
    if event.shape is not None:
        slots |= {"colour": event.colour or "", "shape": event.shape}
    plain_start = event.shape is not None and event.kind is EventKind.STARTS
    if plain_start:
        slots["direction"] = event.direction or ""
    elif event.kind is EventKind.CHANGES_COLOUR:
        slots["new_colour"] = event.new_colour or ""
    else:
        slots["side"] = event.side or "centre"
    return slots


def remarks(scene: Scene) -> list[Remark]:
    """One remark for each event of the scene, in order of time."""
    return [remark_of(event) for event in scene.truth]


def remark_of(event: TruthEvent) -> Remark:
    """The remark for an event."""
    return Remark(event.time_s, event.visible_s, remark_text(event), event_slots(event), event.kind)


def named_remarks() -> Iterator[str]:
    """Every sentence that `remarks` can make about named real things, one or several."""
    for name in PLURALS:
        for kind, sides in (
            (EventKind.ENTERS, _EDGES),
            (EventKind.LEAVES, _EDGES),
            (EventKind.STARTS, _THIRDS),
            (EventKind.STOPS, _THIRDS),
        ):
            yield from (named_text(kind, name, side, count) for side in sides for count in (1, 2, 3, 4, 5, 9))


def as_remark(text: str) -> Remark:
    """A `Remark` with the text and its content, without a particular time."""
    slots = parse(text)
    return Remark(0.0, 0.0, text, slots, EventKind(slots["action"]))


def all_remarks() -> Iterator[str]:
    """Every sentence that `remarks` can make."""
    yield from VIEW_REMARKS.values()
    for kind, sides in (
        (EventKind.ENTERS, _EDGES),
        (EventKind.LEAVES, _EDGES),
        (EventKind.STARTS, _THIRDS),
        (EventKind.STOPS, _THIRDS),
    ):
        yield from (remark_text(TruthEvent(kind, 0.0, 0.0, 0, None, None, side)) for side in sides)
        for colour in COLOURS:
            for shape in SHAPES:
                if kind is EventKind.STARTS:
                    events = [TruthEvent(kind, 0.0, 0.0, 0, colour, shape, "left", way) for way in DIRECTIONS]
                else:
                    events = [TruthEvent(kind, 0.0, 0.0, 0, colour, shape, side) for side in sides]
                yield from map(remark_text, events)
    for colour in COLOURS:
        for shape in SHAPES:
            for new in COLOURS:
                if new != colour:
                    event = TruthEvent(EventKind.CHANGES_COLOUR, 0.0, 0.0, 0, colour, shape, "left", None, new)
                    yield remark_text(event)
