"""Draws questions about rendered scenes by kind, and yes/no checks by kind and truth.

Kinds that were asked least come first, so that rare ones get their share; a seed fixes every choice. One owner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from models.groundtruth.moment import SceneMoment
from models.groundtruth.questions import PICTURE_KINDS, clip_and_image, clip_of, picture_of, questions, which_image
from models.groundtruth.questions_before import BEFORE
from models.groundtruth.questions_now import NOW
from models.groundtruth.wording import YES_NO_KINDS, YES_NO_SUFFIX
from streaming.scenes.source import Scene

if TYPE_CHECKING:
    from models.session.media_turns import Attachment

EARLIEST_S = 3.0
"""Time before which nothing is asked, as there is too little to see."""
CLIP_S = 8.0
"""Length of a clip that comes with a question, at a frame a second."""
TRIES = 4
"""Moments tried for one question."""
TIMED_KINDS = frozenset({"what_at", "when_enter", "when_leave", "when_view", "span"})
"""Kinds whose questions or answers name a time as the model is shown it."""


@dataclass(frozen=True, slots=True)
class SampledQuestion:
    """A question at a media time, with its true answer."""

    at_s: float
    question: str
    answer: str
    kind: str

    @property
    def is_yes(self) -> bool:
        """The truth of a yes/no question."""
        return self.answer.casefold().startswith("yes")


@dataclass(frozen=True, slots=True)
class SampledMediaQuestion:
    """A question about pictures and clips that come with it."""

    question: str
    answer: str
    kind: str
    attachments: tuple[Attachment, ...]


class _Moments:
    """Drawn moments of one scene at its sampled frames."""

    def __init__(self, scene: Scene, fps: float, rng: np.random.Generator) -> None:
        self._scene = scene
        self._rng = rng
        self._times = scene.times(fps)

    def between(self, start_s: float, end_s: float, count: int) -> list[SceneMoment]:
        """Up to `count` moments in a stretch of time."""
        inside = self._times[(self._times >= start_s) & (self._times < end_s)]
        drawn = self._rng.choice(inside, size=min(count, len(inside)), replace=False) if len(inside) else inside
        return [SceneMoment(self._scene, float(time_s), self._rng, self._shown) for time_s in drawn]

    def _shown(self, time_s: float) -> float:
        """The time of the first sampled frame at or after a time, as a session that began with the scene shows it."""
        return float(self._times[min(int(np.searchsorted(self._times, time_s)), len(self._times) - 1)])


@dataclass(slots=True)
class QuestionSampler:
    """Poses questions scene by scene, evenly over the kinds."""

    fps: float
    kinds: Sequence[str] = (*NOW, *BEFORE)
    shown_for_s: float = 180.0
    """Time for which the shown time is the media time; scenes that last longer are not asked about times."""
    counts: Counter[str] = field(default_factory=Counter)
    """How often each kind was posed so far."""

    def questions(self, scene: Scene, count: int) -> list[SampledQuestion]:
        """At most one question in each of `count` equal stretches of the scene."""
        rng = np.random.default_rng([scene.seed, 11])
        moments = _Moments(scene, self.fps, rng)
        usable = [kind for kind in self.kinds if scene.duration_s <= self.shown_for_s or kind not in TIMED_KINDS]
        edges = np.linspace(min(EARLIEST_S, scene.duration_s / 2), scene.duration_s, count + 1)
        posed = []
        for start_s, end_s in zip(edges[:-1], edges[1:], strict=True):
            found = self._one(moments.between(float(start_s), float(end_s), TRIES), usable, rng)
            if found is not None:
                posed.append(found)
        return posed

    def _one(
        self, moments: Sequence[SceneMoment], kinds: Sequence[str], rng: np.random.Generator
    ) -> SampledQuestion | None:
        for kind in _least_first(list(kinds), self.counts, rng):
            for moment in moments:
                pair = (NOW.get(kind) or BEFORE[kind])(moment)
                if pair is not None:
                    self.counts[kind] += 1
                    return SampledQuestion(moment.t_s, *pair, kind)
        return None

    def checks(self, scene: Scene, count: int) -> list[SampledQuestion]:
        """Yes/no questions, as often with a true yes as with a true no."""
        rng = np.random.default_rng([scene.seed, 12])
        moments = _Moments(scene, self.fps, rng)
        wanted = [f"{kind}:{truth}" for kind in YES_NO_KINDS for truth in ("Yes.", "No.")]
        edges = np.linspace(min(EARLIEST_S, scene.duration_s / 2), scene.duration_s, count + 1)
        posed = []
        for start_s, end_s in zip(edges[:-1], edges[1:], strict=True):
            found = self._check(moments.between(float(start_s), float(end_s), TRIES), wanted, rng)
            if found is not None:
                posed.append(found)
        return posed

    def _check(
        self, moments: Sequence[SceneMoment], wanted: list[str], rng: np.random.Generator
    ) -> SampledQuestion | None:
        for key in _least_first(wanted, self.counts, rng):
            kind, _, truth = key.partition(":")
            for moment in moments:
                # Several draws: which thing is asked about, and with which truth, is the question's own chance.
                pairs = [(NOW.get(kind) or BEFORE[kind])(moment) for _ in range(TRIES)]
                pair = next((pair for pair in pairs if pair is not None and pair[1] == truth), None)
                if pair is not None:
                    self.counts[key] += 1
                    return SampledQuestion(moment.t_s, pair[0].removesuffix(YES_NO_SUFFIX) + YES_NO_SUFFIX, truth, kind)
        return None


def _least_first(kinds: list[str], counts: Counter[str], rng: np.random.Generator) -> list[str]:
    order = rng.permutation(len(kinds))
    return sorted((kinds[int(index)] for index in order), key=lambda kind: counts[kind])


def questions_with_pictures(scene: Scene) -> Iterator[SampledMediaQuestion]:
    """Questions about an image, about two, about a clip, and about a clip and an image together, where it can be.

    The pictures are of other scenes: what they show has nothing to do with what the assistant watches.
    """
    from models.session.media_turns import Clip

    rng = np.random.default_rng([scene.seed, 13])
    settings = replace(scene.settings, fps=1.0)
    first, second = (picture_of(scene.seed * 7 + number, None, settings) for number in (1, 2))
    yield from _about_image(first, rng)
    asked = which_image(first, second, rng)
    yield SampledMediaQuestion(asked.question, asked.answer, "two images", (first.frame(0.0), second.frame(0.0)))
    clip = clip_of(scene.seed * 7 + 4, CLIP_S, settings)
    times = clip.times()
    shown = Clip([clip.frame(float(time_s)) for time_s in times], times.tolist())
    pair = questions(clip, float(times[-1]), rng)
    if pair is not None:
        yield SampledMediaQuestion(pair.question, pair.answer, "clip", (shown,))
    both = clip_and_image(clip, scene.seed * 7 + 5, rng)
    if both is not None:
        image, asked = both
        yield SampledMediaQuestion(asked.question, asked.answer, "clip and image", (shown, image.frame(0.0)))


def _about_image(picture: Scene, rng: np.random.Generator) -> Iterator[SampledMediaQuestion]:
    asked = questions(picture, 0.5, rng, kinds=PICTURE_KINDS)
    if asked is not None:
        yield SampledMediaQuestion(asked.question, asked.answer, "image", (picture.frame(0.0),))
