"""Baselines that the assistant must beat: silence, a clock, a pixel counter, and its own model without a memory.

Each baseline is given the most frequent true sentence and its best threshold, so it scores as high as it can.
Runs on the engine's thread.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.evaluation.watching import owed_remarks, watch
from models.checkpoint.settings import StreamSettings
from models.groundtruth.remarks import parse
from models.groundtruth.scoring import Owed, SceneScore, ScoredRemark, Slots, score_scene, summarise
from models.session.steps import StepGenerator, as_steps
from streaming.types import Frame

if TYPE_CHECKING:
    from models.engine import Engine
    from models.session.results import Sight
    from streaming.scenes.source import Scene

Pictures = Sequence[tuple[float, np.ndarray]]

EVERY_S = 5.0
"""How often the clock speaks."""
REFRACTORY_S = 1.0
"""Silence of the pixel counter after a remark."""
PIXEL_LEVELS = 16
"""Grey levels by which a pixel must differ from the last frame's to count as changed."""
FORGETFUL_SCENES = 5
"""Scenes on which the model without a memory is tried; it costs several times what the whole assistant does."""
LAST_FRAMES = 4
"""Frames that the model without a memory sees."""
_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Thresholds tried for the pixel counter: shares of changed pixels."""


@dataclass(frozen=True, slots=True)
class BaselineScene:
    """The facts of one scene that the baselines need."""

    owed: tuple[Owed, ...]
    duration_s: float
    changed: tuple[tuple[float, float], ...]
    """(time, share of pixels that differ from the frame before) of each sampled frame."""
    without_memory: tuple[ScoredRemark, ...] | None = None
    """Remarks of the model that sees its last frames alone; None where it was not tried."""


def changed_shares(pictures: Pictures) -> tuple[tuple[float, float], ...]:
    """Share of pixels that differ from the frame before, by time; the first frame has none."""
    shares = []
    before: np.ndarray | None = None
    for time_s, picture in pictures:
        now = picture.astype(np.int16)
        if before is not None:
            shares.append((time_s, float((np.abs(now - before).max(axis=2) > PIXEL_LEVELS).mean())))
        before = now
    return tuple(shares)


def floor_scene(
    engine: Engine, scene: Scene, pictures: Pictures, fps: float, *, talkativeness: float, tries_model: bool
) -> BaselineScene:
    """The facts of a scene for the baselines. tries_model: watch it with the model without a memory, too."""
    said: tuple[ScoredRemark, ...] | None = None
    if tries_model:
        watched = watch(
            engine,
            pictures,
            fps=fps,
            talkativeness=talkativeness,
            open_session=lambda settings: WithoutMemory(engine, settings),
        )
        said = tuple(ScoredRemark(comment.time_s, parse(comment.text) or None) for comment in watched.comments)
    return BaselineScene(tuple(owed_remarks(scene, fps)), scene.duration_s, changed_shares(pictures), said)


@dataclass(slots=True)
class Baselines:
    """Gathers scenes and scores the baselines over all of them."""

    scenes: list[BaselineScene] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Scores by baseline; the pixel counter with the threshold that is best for these scenes."""
        frequent = _most_frequent(self.scenes)
        clock = [_spoken(scene, np.arange(EVERY_S, scene.duration_s, EVERY_S), frequent) for scene in self.scenes]
        by_share = {share: [_pixel_counter(scene, share, frequent) for scene in self.scenes] for share in _SHARES}
        best = max(by_share, key=lambda share: _f1(by_share[share]))
        floors = {
            "silent": _summary([_spoken(scene, (), frequent) for scene in self.scenes]),
            "every_5_s": _summary(clock),
            "pixel_change": {**_summary(by_share[best]), "threshold": best},
        }
        tried = [scene for scene in self.scenes if scene.without_memory is not None]
        if tried:
            scores = [score_scene(scene.owed, scene.without_memory or (), scene.duration_s) for scene in tried]
            floors["last_four_frames"] = _summary(scores)
        return {"sentence": dict(frequent), **floors}


def _most_frequent(scenes: Sequence[BaselineScene]) -> Slots:
    """The most frequent content of the owed remarks."""
    counts = Counter(tuple(sorted(event.slots.items())) for scene in scenes for event in scene.owed)
    return dict(counts.most_common(1)[0][0]) if counts else {}


def _spoken(scene: BaselineScene, times_s: Sequence[float] | np.ndarray, slots: Slots) -> SceneScore:
    return score_scene(scene.owed, [ScoredRemark(float(time_s), slots) for time_s in times_s], scene.duration_s)


def _pixel_counter(scene: BaselineScene, threshold: float, slots: Slots) -> SceneScore:
    times: list[float] = []
    for time_s, share in scene.changed:
        if share > threshold and (not times or time_s - times[-1] >= REFRACTORY_S):
            times.append(time_s)
    return _spoken(scene, times, slots)


def _f1(scores: Sequence[SceneScore]) -> float:
    return float(summarise(scores, resamples=1)["f1"])


def _summary(scores: Sequence[SceneScore]) -> dict[str, Any]:
    whole = summarise(scores, resamples=200)
    return {key: whole[key] for key in ("scenes", "f1", "f1_interval", "precision", "recall", "content", "said")}


class WithoutMemory:
    """The model's side of a stream that knows its last frames alone: each is seen anew, whole, in an empty session."""

    def __init__(self, engine: Engine, settings: StreamSettings, num_frames: int = LAST_FRAMES) -> None:
        self._engine = engine
        self._settings = settings
        self._frames: deque[Frame] = deque(maxlen=num_frames)
        self._open()

    def _open(self) -> None:
        self._session = self._engine.open_session(self._settings, pruning="none")

    @as_steps
    def see(self, frame: Frame, *, speak_above: float | None = None) -> StepGenerator[Sight]:
        """Forget everything and look at the last frames."""
        self._frames.append(frame)
        self._open()
        for seen in list(self._frames)[:-1]:
            yield from self._session.see(seen, speak_above=float("inf"))
        return (yield from self._session.see(frame, speak_above=speak_above))

    def __getattr__(self, name: str) -> Any:
        """Pass all else on to the session that just saw those frames."""
        return getattr(self._session, name)
