"""Scenes with real things: cut-outs on photographs, from a folder of labelled footage. Data workers run this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.errors import SettingsError
from models.groundtruth.questions import NAMED_KINDS
from streaming.scenes.footage import OTHER, read_footage
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.scenery import Ground
from streaming.scenes.source import Scene

NAMED_YES_NO = ("is_anyone", "is_named")
_GROUNDS = (Ground.PHOTO, Ground.PHOTO, Ground.LEAVES, Ground.ROOM)


class Movers:
    """The real things and backgrounds for a share of the scenes."""

    def __init__(self, folder: str, share: float, held_sources: Sequence[str] = ()) -> None:
        """Raises `SettingsError` where no folder is given, and `ConfigError` where the folder cannot be read."""
        if not folder:
            raise SettingsError(
                f"movers_share {share:g}: real things are cut out of labelled footage, and none is given; "
                "train with --footage DIR, or set movers_share to 0"
            )
        footage = read_footage(Path(folder), held_sources=held_sources)
        self.share = share
        self.cutouts = tuple(
            (cutout.path, "" if cutout.named.word == OTHER else cutout.named.word) for cutout in footage.cutouts
        )
        self.photographs = tuple(photo.path for photo in footage.photos if photo.is_empty)
        if not self.cutouts:
            raise SettingsError(f"{folder}: has no cut-out to train on; add some, or set movers_share to 0")

    def settings(self, rng: np.random.Generator, usual: SceneSettings) -> SceneSettings:
        """The settings of one scene: with real things in a share of the scenes, otherwise `usual`."""
        if rng.random() >= self.share:
            return usual
        grounds = _GROUNDS if self.photographs else usual.grounds
        return replace(usual, cutouts=self.cutouts, photographs=self.photographs, grounds=grounds)


def kinds_of(scene: Scene, kinds: Sequence[str], further: Sequence[str] = NAMED_KINDS) -> tuple[str, ...]:
    """Kinds of questions for a scene, including those about real things where the scene may contain some."""
    return (*kinds, *further) if scene.settings.cutouts else tuple(kinds)
