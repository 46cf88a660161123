"""Questions about a scene with their true answers: about the present, the past, pictures and clips. Pure; any
thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from models.groundtruth.moment import SceneMoment, sightings
from models.groundtruth.questions_before import BEFORE
from models.groundtruth.questions_now import NAMED_NOW, NOW
from models.groundtruth.remarks import a, capitalised
from models.groundtruth.wording import IN_VIDEO, WHICH_IMAGE, WHICH_IMAGE_ANSWERS, YES_NO_SUFFIX, named
from streaming.scenes.scenario import Family, SceneSettings
from streaming.scenes.scenery import COLOURS, SHAPES
from streaming.scenes.source import Scene

NOW_KINDS = tuple(NOW)
PAST_KINDS = tuple(BEFORE)
NAMED_KINDS = tuple(NAMED_NOW)
"""Kinds of questions for scenes with real things."""
PICTURE_KINDS = tuple(kind for kind in NOW_KINDS if kind not in ("moves", "direction", "is_moving", "is_dark"))
"""Kinds of questions that a single picture can answer."""
_ODDS = {"span": 5.0, "when_leave": 4.0, "when_view": 3.0, "when_enter": 2.0, "left_last": 1.5, "direction": 1.5}
"""Relative probability of kinds that few moments allow; the other kinds have 1."""


class TrueAnswer(NamedTuple):
    """A question, its true answer and its kind."""

    question: str
    answer: str
    kind: str
    rests_on: tuple[float, ...] | None = None
    """As `SceneMoment.rests_on`."""
    look: tuple[str | None, str | None] | None = None
    """As `SceneMoment.look`."""


def odds_of(kinds: Sequence[str], oftener: Mapping[str, float] | None = None) -> np.ndarray:
    """Probability of drawing each kind, float64 `[num_kinds]`; kinds that few moments allow have higher ones.

    oftener: factors on the probabilities of some kinds.
    """
    times = oftener or {}
    odds = np.array([_ODDS.get(kind, 1.0) * times.get(kind, 1.0) for kind in kinds])
    shares: np.ndarray = odds / odds.sum()
    return shares


def questions(
    scene: Scene,
    t_s: float,
    rng: np.random.Generator,
    *,
    shown_time: Callable[[float], float] = float,
    kinds: Sequence[str] | None = None,
    since_s: float = 0.0,
) -> TrueAnswer | None:
    """A question about a moment with its true answer; `None` where the moment allows no certain answer to any drawn
    kind.

    shown_time: converts a time of the scene to the time shown with the first sampled frame at or after it; answers give
    that in whole seconds, rounded down. since_s: answers rest on events from this time on only ("never" still covers
    the whole scene). Questions about a clip are questions about the moment of its end.
    """
    moment = SceneMoment(scene, t_s, rng, shown_time, since_s)
    names = list(kinds or (*NOW, *BEFORE))
    for index in rng.choice(len(names), len(names), replace=False, p=odds_of(names)):
        kind = names[int(index)]
        moment.rests_on, moment.look = None, None
        asked = (NOW.get(kind) or BEFORE.get(kind) or NAMED_NOW[kind])(moment)
        if asked is not None:
            return TrueAnswer(*asked, kind, moment.rests_on, moment.look)
    return None


def picture_of(seed: int, look: tuple[str, str] | None, settings: SceneSettings | None = None) -> Scene:
    """A still scene with one shape of the given look, or of a random one: its first frame serves as an image."""
    base = settings or SceneSettings()
    still = SceneSettings(
        duration_s=2.0,
        view_sizes=base.view_sizes,
        families=frozenset({Family.SHAPES}),
        grounds=base.grounds,
        photographs=base.photographs,
        noise_sigma=base.noise_sigma,
        still_probability=1.0,
        distractor_probability=base.distractor_probability,
        artefact_probability=base.artefact_probability,
        cast=(look,) if look else (),
        opening=1,
    )
    return Scene(seed, still)


def clip_of(seed: int, duration_s: float, settings: SceneSettings) -> Scene:
    """A scene of shapes in which something happens, with a shape in view at the start: its frames serve as a clip."""
    families = frozenset({Family.SHAPES})
    return Scene(seed, replace(settings, duration_s=duration_s, families=families, still_probability=0.0, opening=1))


def shown_looks(scene: Scene, t_s: float) -> set[tuple[str, str]]:
    """Colours and shapes of the shapes in view at a time."""
    return {(thing.colour, thing.shape) for thing in scene.state(t_s).things if thing.colour and thing.shape}


def which_image(first: Scene, second: Scene, rng: np.random.Generator) -> TrueAnswer:
    """A question about two images, the first frames of two scenes: which of them shows a given thing."""
    looks = (shown_looks(first, 0.0), shown_looks(second, 0.0))
    wanted = int(rng.integers(4))
    options = [(c, s) for c in COLOURS for s in SHAPES if _where_shown((c, s), looks) == wanted]
    every = options or [(c, s) for c in COLOURS for s in SHAPES]
    look = every[int(rng.integers(len(every)))]
    question = WHICH_IMAGE[int(rng.integers(len(WHICH_IMAGE)))].format(a_what=a(f"{look[0]} {look[1]}"))
    return TrueAnswer(question, WHICH_IMAGE_ANSWERS[_where_shown(look, looks)], "which_image", look=look)


def _where_shown(look: tuple[str, str], looks: tuple[set[tuple[str, str]], set[tuple[str, str]]]) -> int:
    """Index into `WHICH_IMAGE_ANSWERS`: only the first image, only the second, both, neither."""
    return {(True, False): 0, (False, True): 1, (True, True): 2, (False, False): 3}[look in looks[0], look in looks[1]]


def clip_and_image(clip: Scene, seed: int, rng: np.random.Generator) -> tuple[Scene, TrueAnswer] | None:
    """An image with one shape, and the question whether that shape was in the clip; `None` where the clip shows no
    shapes.

    Yes and no are equally probable; the wrong shapes differ from one of the clip's in colour or in shape.
    """
    present = {(s.colour, s.shape) for s in sightings(clip, clip.duration_s) if s.colour and s.shape}
    if not present:
        return None
    if rng.random() < 0.5:
        pairs = sorted(present)
    else:
        pairs = [
            (c, s)
            for c in COLOURS
            for s in SHAPES
            if (c, s) not in present and any((c == colour) != (s == shape) for colour, shape in present)
        ]
    look = pairs[int(rng.integers(len(pairs)))]
    image = picture_of(seed, (str(look[0]), str(look[1])), clip.settings)
    question = IN_VIDEO[int(rng.integers(len(IN_VIDEO)))]
    answer = "yes" if look in present else "no"
    if rng.random() < 0.5:
        asked = question + YES_NO_SUFFIX, f"{capitalised(answer)}."
    else:
        asked = question, f"{capitalised(named(*look))}: {answer}."
    return image, TrueAnswer(*asked, "in_video", look=look)
