"""The wording of questions and answers: templates by kind, and every sentence they produce. Pure; any thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from models.groundtruth.remarks import SIDE_PHRASES, a, all_remarks, capitalised
from streaming.scenes.object_names import NAMES, PLURALS
from streaming.scenes.scenario import EventKind
from streaming.scenes.scenery import COLOURS, SHAPES

NUMBERS = ("None", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
YES_NO_SUFFIX = " Answer yes or no."
NEVER = "Nothing of that kind."

TEMPLATES: dict[str, tuple[str, ...]] = {
    "in_view": ("What is in view?", "What do you see?", "What is there now?"),
    "count": ("How many shapes are in view?", "How many shapes do you see?"),
    "count_colour": ("How many {colour} shapes are in view?", "How many {colour} shapes do you see?"),
    "count_shape": ("How many {shape}s are in view?", "How many {shape}s do you see?"),
    "colour": ("What colour is the {shape}?", "Which colour has the {shape}?"),
    "shape": ("What shape is the {colour} one?", "Which shape is {colour}?"),
    "where": ("Where is the {colour} {shape}?", "Where do you see the {colour} {shape}?"),
    "where_shape": ("Where is the {shape}?", "On which side is the {shape}?"),
    "moves": ("What moves now?", "What is moving?", "What moves?"),
    "direction": ("Which way does it move?", "Where does it go?"),
    "is_there": ("Is there {a_what} in view?", "Is {a_what} in view?", "Do you see {a_what}?"),
    "is_anything": ("Is anything in view?", "Do you see anything?"),
    "is_moving": ("Is anything moving?", "Does anything move?"),
    "is_covered": ("Is the view covered?", "Is the camera covered?"),
    "is_dark": ("Is it dark?", "Is it dark now?"),
    "is_blurred": ("Is the view blurred?", "Is the view blurred now?"),
    "was_there": ("Was there {a_what}?", "Has there been {a_what}?", "Did you see {a_what}?"),
    "has_been": ("Was the view covered?", "Did it get dark?", "Was the view blurred?", "Did the camera move?"),
    "first": ("What came first?", "What entered first?"),
    "last": ("What came last?", "What entered last?"),
    "left_last": ("What left last?", "What went out last?"),
    "what_last": ("What happened last?", "What just happened?"),
    "what_at": ("What happened at {time} seconds?", "What was there to tell at {time} seconds?"),
    "when_enter": ("When did the {colour} {shape} enter?", "When did the {colour} {shape} come?"),
    "when_leave": ("When did the {colour} {shape} leave?", "When did the {colour} {shape} go?"),
    "when_view": (
        "When was the view covered?",
        "When did it get dark?",
        "When was the view blurred?",
        "When did the camera move?",
        "When did the scene change?",
    ),
    "span": ("From when to when was the {colour} {shape} in view?",),
    "count_entered": ("How many things have entered?", "How many things came in?"),
}
"""Wordings of each kind of question."""

NAMED_TEMPLATES: dict[str, tuple[str, ...]] = {
    "is_anyone": ("Is anyone there?", "Is anyone in view?", "Do you see anyone?"),
    "is_named": ("Is {a_what} in view?", "Is there {a_what}?", "Do you see {a_what}?"),
    "count_named": ("How many {plural} are in view?", "How many {plural} do you see?", "How many {plural} are there?"),
    "where_named": ("Where is the {what}?", "On which side is the {what}?"),
}
"""Wordings of questions about real things, by kind; asked in scenes that contain some."""

YES_NO_KINDS = ("is_there", "is_anything", "is_moving", "is_covered", "is_dark", "is_blurred", "was_there", "has_been")
WHICH_WAY = "Which way does the {colour} {shape} move?"
WHICH_IMAGE = ("Which image shows {a_what}?", "In which image is there {a_what}?")
WHICH_IMAGE_ANSWERS = ("The first.", "The second.", "Both.", "Neither.")
IN_VIDEO = ("Is it in the video?", "Is the shape of the image in the video?", "Does the video show it?")
WHEN_QUESTIONS = {
    "When was the view covered?": EventKind.COVERED,
    "When did it get dark?": EventKind.GETS_DARK,
    "When was the view blurred?": EventKind.BLURRED,
    "When did the camera move?": EventKind.CAMERA_MOVES,
    "When did the scene change?": EventKind.CUT,
}
BEEN_QUESTIONS = {
    "Was the view covered?": EventKind.COVERED,
    "Did it get dark?": EventKind.GETS_DARK,
    "Was the view blurred?": EventKind.BLURRED,
    "Did the camera move?": EventKind.CAMERA_MOVES,
}


def named(colour: str | None, shape: str | None, word: str | None = None) -> str:
    """A thing's name with its indefinite article: "a red circle", "a person", "something"."""
    return a(f"{colour} {shape}") if shape else a(word) if word else "something"


def listed(names: Sequence[str]) -> str:
    """Names joined to a sentence: "A red circle, a blue square and something."; "Nothing." for none."""
    if not names:
        return "Nothing."
    text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return capitalised(text) + "."


def all_questions() -> Iterator[str]:
    """Every question; for times, a few values stand for all."""
    for kind, templates in TEMPLATES.items():
        whats = [f"{c} {s}" for c in COLOURS for s in SHAPES] + [f"{c} shape" for c in COLOURS] + list(SHAPES)
        for template in templates:
            filled = {
                template.format(colour=colour, shape=shape, a_what=a(what), time=time)
                for (colour, shape), what, time in zip(
                    list(product(COLOURS, SHAPES)) * 2, whats * 2, [str(n) for n in range(64)], strict=False
                )
            }
            yield from sorted(filled)
            if kind in YES_NO_KINDS:
                yield from (question + YES_NO_SUFFIX for question in sorted(filled))
    for template in [template for templates in NAMED_TEMPLATES.values() for template in templates]:
        yield from sorted({template.format(what=one, a_what=a(one), plural=many) for one, many in PLURALS.items()})
    yield from (question + YES_NO_SUFFIX for question in NAMED_TEMPLATES["is_anyone"])
    yield from (WHICH_WAY.format(colour=colour, shape=shape) for colour, shape in product(COLOURS, SHAPES))
    yield from (template.format(a_what=a(f"{c} {s}")) for template in WHICH_IMAGE for c, s in product(COLOURS, SHAPES))
    yield from (question + suffix for question in IN_VIDEO for suffix in ("", YES_NO_SUFFIX))


def timed(remark: str, second: int) -> str:
    """A remark followed by its time: "It gets dark at 12 seconds."."""
    return f"{remark.removesuffix('.')} at {second} seconds."


def all_answers() -> Iterator[str]:
    """Sample answers of every kind, with every word that answers use."""
    yield from (f"{number}." for number in NUMBERS)
    yield from ("Yes.", "No.", "Nothing.", "Something.", NEVER, "The view is covered.", *WHICH_IMAGE_ANSWERS)
    yield from (f"{capitalised(colour)}." for colour in COLOURS)
    yield from (f"{capitalised(a(shape))}." for shape in SHAPES)
    yield from (f"{capitalised(phrase)}." for phrase in SIDE_PHRASES.values())
    yield from ("Left.", "Right.", "Up.", "Down.")
    names = [named(colour, shape) for colour, shape in product(COLOURS, SHAPES)] + ["something"]
    for name, second in product(names, names):
        if name != second:
            yield listed([name, second])
    for first, second, third in zip(names, names[7:] + names[:7], names[19:] + names[:19], strict=True):
        yield listed([first, second, third])
        yield listed([first])
        yield listed([first.replace("an ", "the ").replace("a ", "the ")])
    yield from (f"{capitalised(named(c, s))}: {so}." for c, s in product(COLOURS, SHAPES) for so in ("yes", "no"))
    yield from (timed(remark, number % 200) for number, remark in enumerate(all_remarks()))
    yield from all_remarks()
    yield from (listed([a(name), other]) for name in NAMES for other in ("something", "a person"))
    yield from (f"The {name}." for name in NAMES)
