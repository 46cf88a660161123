"""Scores the whole assistant on its own output: rendered scenes against their truth, real clips against labels.

Runs on the caller's thread, which is the engine's. Media time comes from the frames; nothing waits.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.errors import AssistantError
from assistant.events import Alert, Answer, Comment, StatusEvent, StatusKind, StreamEvent
from assistant.rules.rule_watch import ArmedRule, RuleWatch
from assistant.stream.open_stream import StreamOptions, open_model_session, open_stream
from assistant.stream.question_queue import Question
from assistant.stream.speaking import Decision
from models.checkpoint.settings import StreamSettings
from models.groundtruth.remarks import parse, remarks
from models.groundtruth.scoring import Owed, SceneScore, ScoredRemark, score_scene
from streaming.clock import SystemClock
from streaming.scenes.photographs import SUFFIXES
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene
from streaming.types import Frame

if TYPE_CHECKING:
    from models.engine import Engine
    from models.session.media_turns import Attachment
    from models.session.results import Check

CLIP_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v")
EARLY_S = 0.5
LATE_S = 2.0
"""A remark catches an activity from this long before its start to this long after it."""
MARGIN_S = 1.0
"""Widening of labelled intervals inside which a remark is no false alarm."""


@dataclass(frozen=True, slots=True)
class WatchedStream:
    """What the assistant said and decided about one stream."""

    comments: tuple[Comment, ...]
    decisions: tuple[Decision, ...]
    raw_scores: tuple[tuple[float, float], ...]
    """(media time, s before calibration) of each frame that was appended."""
    answers: tuple[Answer, ...] = ()
    checks: tuple[Check, ...] = ()
    """The outcomes of the yes/no checks, in their order."""
    asides: tuple[str, ...] = ()
    """Answers to what was asked aside at the end."""
    num_kept: Mapping[float, int] = field(default_factory=dict)
    """Cells that became tokens, by the media time of each appended frame."""
    alerts: tuple[Alert, ...] = ()
    alert_ends: Mapping[str, float] = field(default_factory=dict)
    """Media time of the last hit of each occurrence that is over, by its id."""


@dataclass(frozen=True, slots=True)
class ClipScore:
    """One labelled clip's counts."""

    name: str
    num_activities: int
    num_caught: int
    num_said: int
    num_false_alarms: int
    remarks: tuple[tuple[float, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "clip": self.name,
            "activities": self.num_activities,
            "caught": self.num_caught,
            "remarks": self.num_said,
            "false_alarms": self.num_false_alarms,
            "said": [{"time_s": time_s, "text": text} for time_s, text in self.remarks],
        }


class _Listener:
    """A model session that also notes raw scores and kept cells on their way to the policy."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.scores: list[tuple[float, float]] = []
        self.num_kept: dict[float, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def see(self, frame: Frame, **options: Any) -> Any:
        sight = yield from self._session.see(frame, **options)
        if sight.score is not None:
            self.scores.append((frame.pts_s, sight.score))
            self.num_kept[frame.pts_s] = int(sight.pruning.keep.sum())
        return sight


def watch(
    engine: Engine,
    pictures: Iterable[tuple[float, np.ndarray]],
    *,
    fps: float,
    talkativeness: float = 0.0,
    instruction: str | None = None,
    questions: Iterable[Question] = (),
    checks: Iterable[Question] = (),
    asides: Iterable[tuple[str, Sequence[Attachment]]] = (),
    rules: Sequence[ArmedRule] = (),
    name: str = "evaluation",
    open_session: Callable[[StreamSettings], Any] | None = None,
) -> WatchedStream:
    """Show (media time, uint8 picture) pairs to a fresh session and gather what it says.

    questions reach it at their times and stay in its memory; checks are yes/no questions that leave no trace, and
    asides questions about pictures, asked at the end, that leave none either; rules raise alerts.
    open_session: makes the model's side of the stream; the engine's own where None.
    """
    settings = replace(engine.checkpoint.stream, fps=fps)
    options = StreamOptions(talkative=talkativeness, instruction=instruction, questions=tuple(questions))
    model = _Listener(
        open_session(settings) if open_session is not None else open_model_session(engine, settings, options)
    )
    events: list[StreamEvent] = []
    judges = RuleWatch(SystemClock(), events.append)
    judges.set_rules(rules)
    stream = open_stream(model, settings, options, SystemClock(), events.append, rules=judges)
    pending = deque(sorted(checks, key=lambda check: check.at_s))
    checked: list[Check] = []
    for index, (time_s, picture) in enumerate(pictures):
        engine.run(stream.on_frame(Frame(picture, index, time_s, time_s, name)))
        while pending and pending[0].at_s <= time_s:
            checked.append(engine.run(model.check(pending.popleft().text)))
    told = [engine.run(model.answer(text, attachments, aside=True)).text.strip() for text, attachments in asides]
    return WatchedStream(
        comments=tuple(event for event in events if isinstance(event, Comment)),
        decisions=tuple(stream.curve),
        raw_scores=tuple(model.scores),
        answers=tuple(event for event in events if isinstance(event, Answer)),
        checks=tuple(checked),
        asides=tuple(told),
        num_kept=model.num_kept,
        alerts=tuple(event for event in events if isinstance(event, Alert)),
        alert_ends={
            str(event.details["occurrence"]): float(event.details["ended_s"])
            for event in events
            if isinstance(event, StatusEvent) and event.kind is StatusKind.ALERT_ENDED
        },
    )


def scene_pictures(scene: Scene, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """A scene's sampled frames."""
    return ((float(time_s), scene.frame(float(time_s))) for time_s in scene.times(fps))


def owed_remarks(scene: Scene, fps: float) -> list[Owed]:
    """The scene's events at the first sampled frame in which a quarter of the change shows."""
    return [
        Owed(math.ceil(remark.time_s * fps - 1e-6) / fps, dict(remark.slots), remark.kind.value)
        for remark in remarks(scene)
    ]


def score_watched(scene: Scene, watched: WatchedStream, fps: float) -> SceneScore:
    """One scene's score."""
    said = [
        ScoredRemark(comment.time_s, parse(comment.text) or None, watched.num_kept.get(comment.time_s))
        for comment in watched.comments
    ]
    return score_scene(owed_remarks(scene, fps), said, scene.duration_s)


def evaluate_scenes(
    engine: Engine,
    seeds: Sequence[int],
    settings: SceneSettings,
    *,
    talkativeness: float = 0.0,
    on_scene: Callable[[int, SceneScore, WatchedStream], None] | None = None,
) -> list[SceneScore]:
    """Watch the scene of each seed and score it."""
    scores = []
    for seed in seeds:
        scene = Scene(seed, settings)
        watched = watch(engine, scene_pictures(scene, settings.fps), fps=settings.fps, talkativeness=talkativeness)
        scores.append(score_watched(scene, watched, settings.fps))
        if on_scene is not None:
            on_scene(seed, scores[-1], watched)
    return scores


def score_clip(name: str, labels: dict[str, Any], said: Sequence[tuple[float, str]]) -> ClipScore:
    """A clip's remarks against its labelled intervals (seconds). An activity is caught by one remark near it."""
    activities = [(entry["start_s"], entry["end_s"]) for entry in labels.get("activity", [])]
    excused = activities + [(entry["start_s"], entry["end_s"]) for entry in labels.get("minor", [])]
    caught = sum(any(start - EARLY_S <= t <= end + LATE_S for t, _ in said) for start, end in activities)
    false = sum(not any(start - MARGIN_S <= t <= end + MARGIN_S for start, end in excused) for t, _ in said)
    return ClipScore(name, len(activities), caught, len(said), false, tuple(said))


def evaluate_clips(engine: Engine, folder: Path, *, fps: float = 2.0, talkativeness: float = 0.0) -> list[ClipScore]:
    """Watch each clip that `events.json` in `folder` labels."""
    labels_path = folder / "events.json"
    if not labels_path.is_file():
        raise AssistantError(
            f"{folder}: no events.json; it holds a clip's labels by file name; write one, or give another folder"
        )
    labels = clip_labels(labels_path)
    scores = []
    for name, label in labels.items():
        if Path(name).suffix.casefold() in SUFFIXES:
            continue  # a photograph, which `evaluate --footage` asks about
        watched = watch(engine, clip_pictures(folder / name, fps), fps=fps, talkativeness=talkativeness, name=name)
        scores.append(score_clip(name, label, [(comment.time_s, comment.text) for comment in watched.comments]))
    return scores


def clip_labels(path: Path) -> dict[str, Any]:
    """Labels by clip name. Raises `AssistantError` where the file does not hold them."""
    try:
        labels: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for label in labels.values():
            for entry in [*label.get("activity", []), *label.get("minor", [])]:
                _ = float(entry["start_s"]) <= float(entry["end_s"])
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise AssistantError(
            f"{path}: {type(error).__name__}: {error}; clip names are wanted, each with lists `activity` and `minor` "
            "of start_s and end_s; mend the entry"
        ) from error
    return labels


def clip_pictures(path: Path, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """A recording's sampled frames, through the sources that `replay` uses."""
    from streaming.open_source import open_source
    from streaming.sources.base import SourceOptions

    with open_source(str(path), options=SourceOptions(sample_fps=fps)) as source:
        source.open()
        for item in source.frames():
            if isinstance(item, Frame):
                yield item.pts_s, item.image


def decision_labels(scene: Scene, watched: WatchedStream, fps: float) -> tuple[list[float], list[bool]]:
    """Raw scores, and for each whether a remark was owed at its frame; frames at which that is unclear are left out."""
    due = [remark.speak_s for remark in remarks(scene)]
    begun = [remark.time_s for remark in remarks(scene)]
    scores, owed = [], []
    for time_s, score in watched.raw_scores:
        is_due = any(0 <= time_s - at < 1 / fps - 1e-6 for at in due)
        is_vague = any(start <= time_s < at + 1.5 / fps for start, at in zip(begun, due, strict=True))
        if is_due or not is_vague:
            scores.append(score)
            owed.append(is_due)
    return scores, owed
