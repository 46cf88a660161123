"""Questions about what is in view now. Each function takes a moment and returns question and answer, or `None`."""

from __future__ import annotations

from collections.abc import Callable

from models.groundtruth.moment import Pair, SceneMoment
from models.groundtruth.remarks import SIDE_PHRASES, a, capitalised
from models.groundtruth.wording import NUMBERS, WHICH_WAY, listed, named
from streaming.scenes.object_names import NAMES, PLURALS
from streaming.scenes.scenario import EventKind, Family
from streaming.scenes.scenery import COLOURS, SHAPES
from streaming.scenes.state import ThingState

_ASK_COUNT = (0.2, 0.6, 1.0, 1.0, 1.0, 1.0)
"""Probability of asking where the count is 0, 1, 2, …, chosen so that no answer is much more frequent than another."""


def _in_view(moment: SceneMoment) -> Pair | None:
    if moment.state.covered and moment.past_certain:
        return moment.words("in_view"), "The view is covered."
    if not moment.certain or (not moment.things and moment.chance(0.7)):
        return None
    return moment.words("in_view"), listed([named(thing.colour, thing.shape, thing.name) for thing in moment.things])


def _counted(moment: SceneMoment, question: str, count: int) -> Pair | None:
    if not moment.certain or not moment.chance(_ASK_COUNT[min(count, 5)]):
        return None
    return question, f"{NUMBERS[count]}."


def _count(moment: SceneMoment) -> Pair | None:
    return _counted(moment, moment.words("count"), len(moment.shapes))


def _drawn(moment: SceneMoment, present: list[str], names: tuple[str, ...]) -> str:
    """In most cases a value that is present, preferably one that is present twice."""
    doubled = [value for value in present if present.count(value) > 1]
    return moment.one_of(doubled or present) if present and moment.chance(0.75) else moment.one_of(names)


def _count_colour(moment: SceneMoment) -> Pair | None:
    present = [thing.colour or "" for thing in moment.shapes]
    colour = _drawn(moment, present, tuple(COLOURS))
    return _counted(moment, moment.words("count_colour", colour=colour), present.count(colour))


def _count_shape(moment: SceneMoment) -> Pair | None:
    present = [thing.shape or "" for thing in moment.shapes]
    shape = _drawn(moment, present, SHAPES)
    return _counted(moment, moment.words("count_shape", shape=shape), present.count(shape))


def _alone(moment: SceneMoment, attribute: str) -> ThingState | None:
    """A shape in view whose colour or shape no other shape has."""
    values = [getattr(thing, attribute) for thing in moment.shapes]
    alone = [thing for thing in moment.shapes if values.count(getattr(thing, attribute)) == 1]
    return moment.one_of(alone) if moment.certain and alone else None


def _colour(moment: SceneMoment) -> Pair | None:
    thing = _alone(moment, "shape")
    if thing is None:
        return None
    moment.speak_of(thing.colour, thing.shape)
    return moment.words("colour", shape=thing.shape or ""), f"{capitalised(thing.colour or '')}."


def _shape(moment: SceneMoment) -> Pair | None:
    thing = _alone(moment, "colour")
    if thing is None:
        return None
    moment.speak_of(thing.colour, thing.shape)
    return moment.words("shape", colour=thing.colour or ""), f"{capitalised(a(thing.shape or ''))}."


def _place(thing: ThingState) -> str | None:
    return f"{capitalised(SIDE_PHRASES[thing.side])}." if thing.side_sure and not thing.moving else None


def _where(moment: SceneMoment) -> Pair | None:
    if not moment.certain or not moment.shapes:
        return None
    thing = moment.one_of(moment.shapes)
    place = _place(thing)
    if place is None:
        return None
    moment.speak_of(thing.colour, thing.shape)
    return moment.words("where", colour=thing.colour or "", shape=thing.shape or ""), place


def _where_shape(moment: SceneMoment) -> Pair | None:
    thing = _alone(moment, "shape")
    place = _place(thing) if thing else None
    if thing is None or place is None:
        return None
    moment.speak_of(thing.colour, thing.shape)
    return moment.words("where_shape", shape=thing.shape or ""), place


def _moves(moment: SceneMoment) -> Pair | None:
    moving = [thing for thing in moment.things if thing.moving]
    if not moment.certain or (not moving and moment.chance(0.87)):
        return None
    names = [
        f"the {thing.colour} {thing.shape}" if thing.shape else f"the {thing.name}" if thing.name else "something"
        for thing in moving
    ]
    return moment.words("moves"), listed(names)


def _direction(moment: SceneMoment) -> Pair | None:
    moving = [thing for thing in moment.things if thing.moving]
    if not moment.certain or len(moving) != 1 or moving[0].direction is None:
        return None
    thing, answer = moving[0], f"{capitalised(moving[0].direction)}."
    moment.speak_of(thing.colour, thing.shape)
    if thing.shape and moment.chance(0.5):
        return WHICH_WAY.format(colour=thing.colour, shape=thing.shape), answer
    return moment.words("direction"), answer


def _is_there(moment: SceneMoment) -> Pair | None:
    if not moment.certain:
        return None
    return moment.existence("is_there", {(thing.colour or "", thing.shape or "") for thing in moment.shapes})


def _truth_of(moment: SceneMoment, kind: str, truth: bool, ask_yes: float, ask_no: float) -> Pair | None:
    """A yes/no question with a probability of asking for each answer, chosen so that both answers are equally
    frequent."""
    if not moment.chance(ask_yes if truth else ask_no):
        return None
    return moment.yes_no(moment.words(kind), truth)


def _is_anything(moment: SceneMoment) -> Pair | None:
    return _truth_of(moment, "is_anything", bool(moment.things), 0.7, 0.7) if moment.certain else None


def _is_moving(moment: SceneMoment) -> Pair | None:
    moving = any(thing.moving for thing in moment.things)
    return _truth_of(moment, "is_moving", moving, 1.0, 0.22) if moment.certain else None


def _rest_on_view(moment: SceneMoment, *kinds: EventKind) -> None:
    """Rest the answer on the newest frame and on the last change of these kinds, because the end of a frame shows its
    content."""
    changes = [event.visible_s for event in moment.events if event.kind in kinds]
    moment.rest_on(*changes[-1:], moment.t_s)


def _is_covered(moment: SceneMoment) -> Pair | None:
    if not moment.past_certain or Family.VIEW not in moment.families:
        return None
    _rest_on_view(moment, EventKind.COVERED, EventKind.UNCOVERED)
    return _truth_of(moment, "is_covered", moment.state.covered, 1.0, 0.07)


def _is_dark(moment: SceneMoment) -> Pair | None:
    if not moment.past_certain or moment.state.covered or Family.LIGHT not in moment.families:
        return None
    _rest_on_view(moment, EventKind.GETS_DARK, EventKind.GETS_BRIGHT)
    return _truth_of(moment, "is_dark", moment.state.dark, 1.0, 0.16)


def _is_blurred(moment: SceneMoment) -> Pair | None:
    if not moment.past_certain or Family.VIEW not in moment.families:
        return None
    if moment.state.covered or moment.state.dark:
        return None
    _rest_on_view(moment, EventKind.BLURRED, EventKind.SHARP)
    return _truth_of(moment, "is_blurred", moment.state.blurred, 1.0, 0.06)


NOW: dict[str, Callable[[SceneMoment], Pair | None]] = {
    "in_view": _in_view,
    "count": _count,
    "count_colour": _count_colour,
    "count_shape": _count_shape,
    "colour": _colour,
    "shape": _shape,
    "where": _where,
    "where_shape": _where_shape,
    "moves": _moves,
    "direction": _direction,
    "is_there": _is_there,
    "is_anything": _is_anything,
    "is_moving": _is_moving,
    "is_covered": _is_covered,
    "is_dark": _is_dark,
    "is_blurred": _is_blurred,
}


def _is_anyone(moment: SceneMoment) -> Pair | None:
    people = any(thing.name == "person" for thing in moment.things)
    return _truth_of(moment, "is_anyone", people, 1.0, 0.5) if moment.certain else None


def _word(moment: SceneMoment) -> str:
    """In most cases the name of a thing in view."""
    there = sorted({thing.name for thing in moment.things if thing.name})
    return moment.one_of(there) if there and moment.chance(0.5) else moment.one_of(NAMES)


def _is_named(moment: SceneMoment) -> Pair | None:
    if not moment.certain:
        return None
    word = _word(moment)
    there = any(thing.name == word for thing in moment.things)
    return moment.yes_no(moment.words("is_named", a_what=a(word)), there)


def _count_named(moment: SceneMoment) -> Pair | None:
    word = _word(moment)
    count = sum(thing.name == word for thing in moment.things)
    return _counted(moment, moment.words("count_named", plural=PLURALS[word]), count)


def _where_named(moment: SceneMoment) -> Pair | None:
    words = [thing.name for thing in moment.things if thing.name]
    alone = [thing for thing in moment.things if thing.name and words.count(thing.name) == 1]
    if not moment.certain or not alone:
        return None
    thing = moment.one_of(alone)
    place = _place(thing)
    return (moment.words("where_named", what=thing.name or ""), place) if place else None


NAMED_NOW: dict[str, Callable[[SceneMoment], Pair | None]] = {
    "is_anyone": _is_anyone,
    "is_named": _is_named,
    "count_named": _count_named,
    "where_named": _where_named,
}
"""Questions about real things, for scenes that contain some."""
