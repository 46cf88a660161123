"""Questions about the past. Each function takes a moment and returns question and answer, or `None`."""

from __future__ import annotations

from collections.abc import Callable

from models.groundtruth.moment import Pair, SceneMoment, Sighting
from models.groundtruth.remarks import remark_of
from models.groundtruth.wording import BEEN_QUESTIONS, NEVER, NUMBERS, WHEN_QUESTIONS, listed, named
from streaming.scenes.scenario import EventKind, Family


def _was_there(moment: SceneMoment) -> Pair | None:
    return moment.existence("was_there", moment.seen_looks()) if moment.past_certain else None


def _family_of(kind: EventKind) -> Family:
    return Family.LIGHT if kind in (EventKind.GETS_DARK, EventKind.GETS_BRIGHT) else Family.VIEW


def _has_been(moment: SceneMoment) -> Pair | None:
    possible = [question for question, kind in BEEN_QUESTIONS.items() if _family_of(kind) in moment.families]
    if not possible:
        return None
    question = moment.one_of(possible)
    truth = BEEN_QUESTIONS[question] in {event.kind for event in moment.events}
    if not moment.past_certain or (not truth and moment.chance(0.85)):
        return None
    moment.rest_on(*(event.visible_s for event in moment.events if event.kind is BEEN_QUESTIONS[question]))
    return moment.yes_no(question, truth)


def _entered(moment: SceneMoment) -> list[Sighting]:
    return [sighting for sighting in moment.seen if sighting.entered]


def _first(moment: SceneMoment) -> Pair | None:
    entered = _entered(moment)
    if not moment.past_certain or not entered or moment.since_s > 0:
        return None
    moment.rest_on(entered[0].start_s)
    return moment.words("first"), listed([entered[0].name])


def _last(moment: SceneMoment) -> Pair | None:
    entered = _entered(moment)
    if not moment.past_certain or not entered or entered[-1].start_s < moment.since_s:
        return None
    moment.rest_on(entered[-1].start_s)
    return moment.words("last"), listed([entered[-1].name])


def _left_last(moment: SceneMoment) -> Pair | None:
    left = [event for event in moment.events if event.kind is EventKind.LEAVES and event.time_s >= moment.since_s]
    if not moment.past_certain or not left:
        return None
    moment.rest_on(left[-1].visible_s)
    return moment.words("left_last"), listed([named(left[-1].colour, left[-1].shape, left[-1].name)])


def _what_last(moment: SceneMoment) -> Pair | None:
    events = moment.events
    if not moment.past_certain or (not events and moment.chance(0.7)):
        return None
    if events and events[-1].time_s < moment.since_s:
        return None
    moment.rest_on(*(event.visible_s for event in events[-1:]))
    return moment.words("what_last"), remark_of(events[-1]).text if events else "Nothing."


def _what_at(moment: SceneMoment) -> Pair | None:
    events = [event for event in moment.events if event.time_s >= moment.since_s]
    if not moment.past_certain:
        return None
    if events and moment.chance(0.75):
        event = moment.one_of(events)
        second = moment.second(event.visible_s)
        if sum(abs(moment.second(other.visible_s) - second) <= 1 for other in moment.events) > 1:
            return None
        moment.rest_on(event.visible_s)
        return moment.words("what_at", time=str(second)), remark_of(event).text
    if moment.chance(0.35):
        return None
    second = moment.second(float(moment.rng.uniform(moment.since_s, moment.t_s)))
    moment.rest_on()
    near = [e for e in moment.events if moment.second(e.time_s) - 2 <= second <= moment.second(e.visible_s) + 2]
    return None if near or second < 0 else (moment.words("what_at", time=str(second)), "Nothing.")


def _when(moment: SceneMoment, kind: str, event_kind: EventKind, ask_absent: float) -> Pair | None:
    """When a shape did something once; "nothing of that kind" for a shape that was never there."""
    if not moment.past_certain:
        return None
    events = [event for event in moment.events if event.kind is event_kind and event.shape is not None]
    recent = [event for event in events if event.time_s >= moment.since_s]
    if recent and moment.chance(0.85):
        event = moment.one_of(recent)
        if sum((e.colour, e.shape) == (event.colour, event.shape) for e in events) > 1:
            return None
        moment.rest_on(event.visible_s)
        return moment.words(kind, colour=event.colour or "", shape=event.shape or ""), moment.told_at(event)
    absent = moment.absent(moment.seen_looks())
    if absent is None or not moment.chance(ask_absent):
        return None
    moment.rest_on()
    return moment.words(kind, colour=absent[0], shape=absent[1]), NEVER


def _when_enter(moment: SceneMoment) -> Pair | None:
    return _when(moment, "when_enter", EventKind.ENTERS, 0.12)


def _when_leave(moment: SceneMoment) -> Pair | None:
    return _when(moment, "when_leave", EventKind.LEAVES, 0.04)


def _when_view(moment: SceneMoment) -> Pair | None:
    possible = [question for question, kind in WHEN_QUESTIONS.items() if _family_of(kind) in moment.families]
    if not possible:
        return None
    question = moment.one_of(possible)
    events = [event for event in moment.events if event.kind is WHEN_QUESTIONS[question]]
    if not moment.past_certain or len(events) > 1 or (not events and moment.chance(0.92)):
        return None
    if events and events[0].time_s < moment.since_s:
        return None
    moment.rest_on(*(event.visible_s for event in events))
    return question, moment.told_at(events[0]) if events else NEVER


def _span(moment: SceneMoment) -> Pair | None:
    over = [s for s in moment.seen if s.shape is not None and s.entered and s.end_s is not None]
    alone = [s for s in over if sum(o.look == s.look for o in moment.seen) == 1 and s.start_s >= moment.since_s]
    if not moment.past_certain or not alone:
        return None
    sighting = moment.one_of(alone)
    begins, ends = (moment.event_at(t_s, sighting.look) for t_s in (sighting.start_s, sighting.end_s))
    if begins is None or ends is None:
        return None
    moment.rest_on(begins.visible_s, ends.visible_s)
    question = moment.words("span", colour=sighting.colour or "", shape=sighting.shape or "")
    return question, moment.told_at(begins, ends)


def _count_entered(moment: SceneMoment) -> Pair | None:
    count = len(_entered(moment))
    if not moment.past_certain or moment.since_s > 0 or count >= len(NUMBERS) or (not count and moment.chance(0.8)):
        return None
    return moment.words("count_entered"), f"{NUMBERS[count]}."


BEFORE: dict[str, Callable[[SceneMoment], Pair | None]] = {
    "was_there": _was_there,
    "has_been": _has_been,
    "first": _first,
    "last": _last,
    "left_last": _left_last,
    "what_last": _what_last,
    "what_at": _what_at,
    "when_enter": _when_enter,
    "when_leave": _when_leave,
    "when_view": _when_view,
    "span": _span,
    "count_entered": _count_entered,
}
