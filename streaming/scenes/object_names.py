"""The words for real objects, by group. Constants, for any thread."""

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
"""For each group its words, singular and plural."""

PLURALS: dict[str, str] = {name: plural for group in GROUPS.values() for name, plural in group.items()}
"""The plural of each word."""

NAMES: tuple[str, ...] = tuple(PLURALS)
"""All words, singular; any other object is called "something"."""


def group_of(name: str) -> str | None:
    """The group of a word of `NAMES`; None for any other text.

    >>> group_of("bus"), group_of("red circle")
    ('vehicles', None)
    """
    return next((group for group, names in GROUPS.items() if name in names), None)
