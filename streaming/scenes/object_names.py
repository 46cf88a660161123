"""The words for real things, in groups. Pure values, for any thread."""

from __future__ import annotations

GROUPS: dict[str, dict[str, str]] = {
    "people": {"person": "people", "hand": "hands"},
    "vehicles": {"car": "cars", "truck": "trucks", "bus": "buses", "bicycle": "bicycles", "motorcycle": "motorcycles"},
    "animals": {"dog": "dogs", "cat": "cats", "bird": "birds", "horse": "horses"},
    "things": {
        "bottle": "bottles",
        "cup": "cups",
        "phone": "phones",
        "laptop": "laptops",
        "book": "books",
        "chair": "chairs",
        "bag": "bags",
        "ball": "balls",
    },
}
"""For each group the words of it, one and several of each."""

PLURALS: dict[str, str] = {name: plural for group in GROUPS.values() for name, plural in group.items()}
"""The word for several of each thing that has a word."""

NAMES: tuple[str, ...] = tuple(PLURALS)
"""Every thing that has a word; everything else is "something"."""


def group_of(name: str) -> str | None:
    """The group of a name; None for what has no word.

    >>> group_of("bus"), group_of("red circle")
    ('vehicles', None)
    """
    return next((group for group, names in GROUPS.items() if name in names), None)
