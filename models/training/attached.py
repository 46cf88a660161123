"""Questions with attached pictures or a clip, and their true answers. Data workers run this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.groundtruth.questions import (
    PICTURE_KINDS,
    TrueAnswer,
    clip_and_image,
    clip_of,
    picture_of,
    questions,
    which_image,
)
from models.session.media_turns import Clip
from models.training.cell_targets import cell_labels
from models.training.examples import StreamExample, Turn
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene

_SHARES = {"image": 0.15, "two images": 0.25, "clip": 0.15, "clip and image": 0.45}
"""Shares of the kinds among scenes; a clip with an image allows one question where the others allow several."""
_CLIP_S = (4.0, 12.0)
"""Shortest and longest clip, at one frame per second: a model trained on clips of one length fails on longer ones."""
_DRAWS = 8
"""Number of questions drawn about the same pictures."""
Shown = tuple[Scene, float]
"""A picture: its scene, and the time in the scene."""


@dataclass(frozen=True, slots=True)
class Pictured:
    """Questions about attached pictures."""

    turn: Turn
    """The first question, with all others in `further`."""
    shown: Sequence[Shown]

    def labels(self, example: StreamExample) -> list[np.ndarray]:
        """`cell_targets.cell_labels` of each group of attached pictures in the example built from `turn`."""
        found, at = [], 0
        for group in example.attached:
            these = self.shown[at : at + len(group.frames)]
            labels = [cell_labels(s.scenario, t, f, group.grid) for (s, t), f in zip(these, group.frames, strict=True)]
            found.append(np.stack(labels))
            at += len(group.frames)
        return found


def asked_with_pictures(scene: Scene, rng: np.random.Generator, seed: int) -> Pictured | None:
    """Questions at the end of a scene about attached pictures only: one image, two, a clip, or a clip and an image.

    The pictures come from scenes of their own, with seeds from `seed` on. `None` where their moments allow no question.
    """
    settings = replace(scene.settings, fps=1.0)
    form = rng.choice(list(_SHARES), p=list(_SHARES.values()))
    if form == "image":
        asked, shown, given = _about_an_image(seed, settings, rng)
    elif form == "two images":
        asked, shown, given = _about_two_images(seed, settings, rng)
    else:
        asked, shown, given = _about_a_clip(seed, settings, rng, with_image=form == "clip and image")
    turns = [Turn(scene.duration_s, one.answer, one.question, look=one.look) for one in asked if one is not None]
    if not turns:
        return None
    return Pictured(replace(turns[0], attachments=given, further=tuple(turns)), shown)


_Made = tuple[list[TrueAnswer | None], list[Shown], tuple[np.ndarray | Clip, ...]]


def _about_an_image(seed: int, settings: SceneSettings, rng: np.random.Generator) -> _Made:
    still = picture_of(seed, None, settings)
    asked = [questions(still, 0.5, rng, kinds=PICTURE_KINDS) for _ in range(_DRAWS)]
    return asked, [(still, 0.0)], (still.frame(0.0),)


def _about_two_images(seed: int, settings: SceneSettings, rng: np.random.Generator) -> _Made:
    first, second = picture_of(seed, None, settings), picture_of(seed + 1, None, settings)
    asked: list[TrueAnswer | None] = [which_image(first, second, rng) for _ in range(_DRAWS)]
    return asked, [(first, 0.0), (second, 0.0)], (first.frame(0.0), second.frame(0.0))


def _about_a_clip(seed: int, settings: SceneSettings, rng: np.random.Generator, *, with_image: bool) -> _Made:
    clip = clip_of(seed, float(rng.uniform(*_CLIP_S)), settings)
    shown = [(clip, float(time_s)) for time_s in clip.times()]
    frames = Clip([clip.frame(time_s) for _, time_s in shown], clip.times().tolist())
    found = clip_and_image(clip, seed + 1, rng) if with_image else None
    if found is None:
        return [questions(clip, shown[-1][1], rng) for _ in range(_DRAWS)], shown, (frames,)
    image, asked = found
    return [asked], [*shown, (image, 0.0)], (frames, image.frame(0.0))
