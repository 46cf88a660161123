"""Scores remarks on real footage by their words: which were true, which were owed, which were missed. Any thread.

A label file says of each clip which facts hold when; `docs/footage.md` describes it. Every remark is held against them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.groundtruth.remarks import SIDE_PHRASES, parse
from models.groundtruth.scoring import rate, rate_per_hour
from streaming.scenes.object_names import GROUPS, PLURALS, group_of

EARLY_S = 0.5
"""A remark may come this long before a fact's interval begins, and this long after it has ended."""
LATE_S = 2.0
"""What is owed has to be told within this time of its beginning; a remark on a short fact is true as long."""
ECHO_S = 5.0
"""The same again of the same fact within this time is a repetition, which is not counted as true."""
SIDES = tuple(SIDE_PHRASES)
MOST_COUNTED = 5
"""Beyond this many things a remark says "several"."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happens in a clip: what may be said of it, and when."""

    start_s: float
    end_s: float
    kinds: tuple[str, ...]
    """Values of `EventKind`: any of them is true of it."""
    names: tuple[str, ...] = ()
    """What the thing may be called, the word for it first; empty where it has none. "Something" always is right."""
    sides: tuple[str, ...] = ()
    """Sides and edges that are right; empty where any is."""
    directions: tuple[str, ...] = ()
    """Ways of going that are right; empty where any is."""
    count: int = 1
    """How many things do so together."""
    owed: bool = False
    """Whether it must be told."""

    def holds(self, time_s: float) -> bool:
        """Whether a remark made at a time can be about it."""
        return self.start_s - EARLY_S <= time_s <= max(self.end_s + EARLY_S, self.start_s + LATE_S)

    def due(self, time_s: float) -> bool:
        """Whether a remark made at a time tells it early enough."""
        return self.start_s - EARLY_S <= time_s <= self.start_s + LATE_S

    def admits(self, slots: Mapping[str, str]) -> bool:
        """Whether all that a remark says is true of it, how many aside."""
        if slots.get("action") not in self.kinds:
            return False
        name = name_in(slots)
        if name is not None and name != "something" and name not in self.names:
            return False
        side, direction = slots.get("side"), slots.get("direction")
        return (not self.sides or side is None or side in self.sides) and (
            not self.directions or direction is None or direction in self.directions
        )


@dataclass(frozen=True, slots=True)
class ClipWords:
    """Counts of the remarks on one clip."""

    name: str
    hours: float
    num_said: int
    num_true: int
    num_repeated: int
    """Remarks that were true and said the same again."""
    num_owed: int
    num_told: int
    naming: Mapping[str, tuple[int, int, int]]
    """By group of words, of the owed things that were told: named rightly, named wrongly, all."""
    is_quiet: bool
    """Whether nothing happens in it, so that every remark is a false alarm."""
    judged: tuple[tuple[float, str, str], ...] = ()
    """Time, words and judgement (true, repeated, false) of each remark."""
    missed: tuple[Fact, ...] = ()
    """Facts that were owed and not told."""
    answers: tuple[tuple[str, str, bool], ...] = ()
    """Question, answer and whether it is right."""


@dataclass(frozen=True, slots=True)
class PictureWords:
    """The score of what was said to be in a photograph."""

    name: str
    answer: str
    named: bool
    """Whether the main thing was named."""
    wrong: bool
    """Whether something was named that is not there."""


@dataclass(slots=True)
class _Ledger:
    """Which facts have been told so far, in which words."""

    facts: Sequence[Fact]
    told: set[int] = field(default_factory=set)
    naming: dict[str, list[int]] = field(default_factory=lambda: {group: [0, 0, 0] for group in GROUPS})
    said: dict[tuple[int, str], float] = field(default_factory=dict)
    """When each fact was last told by each kind of remark."""

    def judge(self, time_s: float, slots: Mapping[str, str]) -> str:
        """true, repeated or false."""
        about = [place for place, fact in enumerate(self.facts) if fact.holds(time_s) and fact.admits(slots)]
        about = about if _count_is_right([self.facts[place] for place in about], slots.get("count")) else []
        self._tell(time_s, slots, about)
        if not about:
            return "false"
        action = slots["action"]
        fresh = [at for at in about if time_s - self.said.get((at, action), -math.inf) > ECHO_S]
        if not fresh:
            return "repeated"
        fresh.sort(key=lambda at: self.facts[at].end_s)
        for at in fresh if "count" in slots else fresh[:1]:
            self.said[(at, action)] = time_s
        return "true"

    def _tell(self, time_s: float, slots: Mapping[str, str], about: Sequence[int]) -> None:
        """Take off what was owed and is told now: what the remark is true of first, then what it is nearly true of."""
        due = [
            at
            for at, fact in enumerate(self.facts)
            if fact.owed and at not in self.told and fact.due(time_s) and slots.get("action") in fact.kinds
        ]
        due.sort(key=lambda at: (at not in about, self.facts[at].start_s))
        many = [at for at in due if at in about] if "count" in slots else []
        for at in many or due[:1]:
            self.told.add(at)
            names, name = self.facts[at].names, name_in(slots)
            group = group_of(names[0]) if names else None
            if group is not None:
                right = name in names
                for place, counts in enumerate((right, not right and name not in (None, "something"), True)):
                    self.naming[group][place] += counts


def name_in(slots: Mapping[str, str]) -> str | None:
    """What a remark calls its thing: a word, a colour and a shape, "something"; None where it is about the view."""
    named = slots.get("object")
    if named == "shape":
        return f"{slots.get('colour')} {slots.get('shape')}"
    return None if named == "view" else named


def _count_is_right(facts: Sequence[Fact], count: str | None) -> bool:
    if count is None or not facts:
        return bool(facts)
    right = {fact.count for fact in facts} | {sum(fact.count for fact in facts)}
    return max(right) > MOST_COUNTED if count == "several" else int(count) in right


def score_words(
    name: str,
    facts: Sequence[Fact],
    said: Sequence[tuple[float, str]],
    duration_s: float,
    answers: Sequence[tuple[str, str, bool]] = (),
) -> ClipWords:
    """One clip's remarks, (media time, text) each, held against its facts.

    A remark is true if every word of it is, of a fact that holds then, and if it does not say the same again. What is
    owed is told by the first remark of its kind that comes in time; how that names the thing is judged apart.
    """
    ledger = _Ledger(facts)
    judged = tuple((time_s, text, ledger.judge(time_s, parse(text))) for time_s, text in sorted(said))
    verdicts = [verdict for _, _, verdict in judged]
    owed = [at for at, fact in enumerate(facts) if fact.owed]
    return ClipWords(
        name=name,
        hours=duration_s / 3600,
        num_said=len(said),
        num_true=verdicts.count("true"),
        num_repeated=verdicts.count("repeated"),
        num_owed=len(owed),
        num_told=len(ledger.told),
        naming={group: (right, wrong, total) for group, (right, wrong, total) in ledger.naming.items()},
        is_quiet=not facts,
        judged=judged,
        missed=tuple(facts[at] for at in owed if at not in ledger.told),
        answers=tuple(answers),
    )


_WORD = re.compile(rf"\b({'|'.join([*PLURALS, *PLURALS.values()])})\b")
_SINGULAR = {plural: name for name, plural in PLURALS.items()} | {name: name for name in PLURALS}


def score_picture(name: str, answer: str, main: Sequence[str], others: Sequence[str] = ()) -> PictureWords:
    """An answer to "What is in view?" about a photograph.

    main: words for its main thing, any of them right. others: what else is there.

    >>> score_picture("a.jpg", "A dog and a ball.", ["dog"]).wrong
    True
    """
    found = {_SINGULAR[word] for word in _WORD.findall(answer.casefold())}
    return PictureWords(name, answer, bool(found & set(main)), bool(found - set(main) - set(others)))


def summarise_words(clips: Sequence[ClipWords], pictures: Sequence[PictureWords] = ()) -> dict[str, Any]:
    """Every figure with its 95 % interval (bootstrap over clips), as plain values; null where nothing was asked."""
    naming = {
        group: {
            "right": rate([clip.naming[group][::2] for clip in clips]),
            "wrong": rate([clip.naming[group][1:] for clip in clips]),
        }
        for group in GROUPS
    }
    every = [[sum(clip.naming[group][place] for group in GROUPS) for place in range(3)] for clip in clips]
    quiet = [clip for clip in clips if clip.is_quiet]
    return {
        "true": rate([(clip.num_true, clip.num_said) for clip in clips]),
        "repeated": sum(clip.num_repeated for clip in clips),
        "told": rate([(clip.num_told, clip.num_owed) for clip in clips]),
        "named": rate([(right, total) for right, _, total in every]),
        "named_wrongly": rate([(wrong, total) for _, wrong, total in every]),
        "by_group": naming,
        "answers": rate([(sum(right for *_, right in clip.answers), len(clip.answers)) for clip in clips]),
        "pictures_named": rate([(int(picture.named), 1) for picture in pictures]),
        "pictures_wrong": rate([(int(picture.wrong), 1) for picture in pictures]),
        "quiet": rate_per_hour(sum(clip.num_said for clip in quiet), sum(clip.hours for clip in quiet)),
        "clips": [_clip_values(clip) for clip in clips],
        "pictures": [
            {"picture": one.name, "answer": one.answer, "named": one.named, "wrong": one.wrong} for one in pictures
        ],
    }


def _clip_values(clip: ClipWords) -> dict[str, Any]:
    return {
        "clip": clip.name,
        "said": clip.num_said,
        "true": clip.num_true,
        "repeated": clip.num_repeated,
        "owed": clip.num_owed,
        "told": clip.num_told,
        "remarks": [{"time_s": time_s, "text": text, "is": verdict} for time_s, text, verdict in clip.judged],
        "missed": [{"start_s": fact.start_s, "kinds": list(fact.kinds), "names": fact.names} for fact in clip.missed],
        "answers": [{"question": asked, "answer": said, "right": right} for asked, said, right in clip.answers],
    }
