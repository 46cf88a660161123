"""The sections of an evaluation besides remarks: answers, yes/no checks, obedience, and scenes without events.

Each examiner watches scenes one by one and sums them up as plain values. Runs on the caller's thread, the engine's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.evaluation.question_sampling import QuestionSampler, SampledQuestion, questions_with_pictures
from assistant.evaluation.watching import WatchedStream, owed_remarks, scene_pictures, watch
from assistant.stream.question_queue import Question
from models.groundtruth.instructions import Instruction, instructions
from models.groundtruth.meanings import is_right, meaning
from models.groundtruth.remarks import all_remarks, as_remark, parse, remarks
from models.groundtruth.scoring import ScoredRemark, mean_rate, rate, rate_per_hour, score_scene
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene

if TYPE_CHECKING:
    from models.engine import Engine

QUESTIONS_PER_SCENE = 6
CHECKS_PER_SCENE = 12
QUIET_SCENE_S = 300.0
Pictures = Sequence[tuple[float, np.ndarray]]


def _planned(posed: Sequence[SampledQuestion]) -> list[Question]:
    return [Question(one.at_s, one.question) for one in posed]


@dataclass(slots=True)
class _Marks:
    """(right, asked) of each scene, by key."""

    scenes: list[dict[str, tuple[int, int]]] = field(default_factory=list)

    def add(self, marks: Sequence[tuple[str, bool]]) -> None:
        """One scene's marks."""
        counted: dict[str, tuple[int, int]] = {}
        for key, right in marks:
            hits, asked = counted.get(key, (0, 0))
            counted[key] = (hits + right, asked + 1)
        self.scenes.append(counted)

    def names(self) -> list[str]:
        """All keys."""
        return sorted({key for scene in self.scenes for key in scene})

    def of(self, key: str) -> list[tuple[int, int]]:
        """(right, asked) of each scene for one key."""
        return [scene.get(key, (0, 0)) for scene in self.scenes]

    def of_all(self, keys: Sequence[str]) -> list[tuple[int, int]]:
        """(right, asked) of each scene over several keys."""
        columns = [self.of(key) for key in keys]
        return [(sum(r for r, _ in row), sum(a for _, a in row)) for row in zip(*columns, strict=True)]


class AnswerSection:
    """Answers to questions that reach the running assistant, and to questions about pictures and clips.

    Beside each kind stands the best constant answer: the share of its most frequent true answer.
    """

    def __init__(self, engine: Engine, settings: SceneSettings, *, talkativeness: float = 0.0) -> None:
        self._engine = engine
        self._fps = settings.fps
        self._talkativeness = talkativeness
        self._sampler = QuestionSampler(settings.fps, shown_for_s=engine.checkpoint.stream.max_shown_time_s)
        self._marks = _Marks()
        self._truths: dict[str, Counter[object]] = defaultdict(Counter)
        self.wrong: list[dict[str, str]] = []
        """Question, answer and truth of each wrong answer."""

    def watch(self, scene: Scene, pictures: Pictures) -> None:
        """Ask about one scene while it is watched, and about pictures at its end."""
        posed = self._sampler.questions(scene, QUESTIONS_PER_SCENE)
        pictured = list(questions_with_pictures(scene))
        watched = watch(
            self._engine,
            pictures,
            fps=self._fps,
            talkativeness=self._talkativeness,
            questions=_planned(posed),
            asides=[(one.question, one.attachments) for one in pictured],
        )
        given = [answer.text for answer in watched.answers]
        marks = [self._mark(one.kind, one.question, one.answer, said) for one, said in self._pairs(posed, given)]
        marks += [
            self._mark(one.kind, one.question, one.answer, said)
            for one, said in zip(pictured, watched.asides, strict=True)
        ]
        self._marks.add(marks)

    @staticmethod
    def _pairs(posed: Sequence[SampledQuestion], given: Sequence[str]) -> Iterator[tuple[SampledQuestion, str]]:
        """Answers come in the order of their questions; those that never came are empty."""
        answers = [*given, *[""] * (len(posed) - len(given))]
        yield from zip(sorted(posed, key=lambda one: one.at_s), answers, strict=True)

    def _mark(self, kind: str, question: str, truth: str, said: str) -> tuple[str, bool]:
        right = is_right(said, truth)
        self._truths[kind][meaning(truth) or truth] += 1
        if not right:
            self.wrong.append({"kind": kind, "question": question, "said": said, "truth": truth})
        return kind, right

    def as_dict(self) -> dict[str, Any]:
        """Accuracy overall and by kind."""
        by_kind = {}
        for kind in self._marks.names():
            truths = self._truths[kind]
            constant = max(truths.values()) / sum(truths.values())
            by_kind[kind] = {**rate(self._marks.of(kind)), "constant": constant}
        return {**rate(self._marks.of_all(self._marks.names())), "by_kind": by_kind, "wrong": self.wrong}


class CheckSection:
    """Yes/no checks on forks of the running session, as often truly yes as truly no."""

    def __init__(self, settings: SceneSettings, *, shown_for_s: float) -> None:
        self._sampler = QuestionSampler(settings.fps, shown_for_s=shown_for_s)
        self._marks = _Marks()

    def pose(self, scene: Scene) -> list[SampledQuestion]:
        """The checks of a scene, in order of time."""
        return sorted(self._sampler.checks(scene, CHECKS_PER_SCENE), key=lambda one: one.at_s)

    def mark(self, posed: Sequence[SampledQuestion], watched: WatchedStream) -> None:
        """Take one scene's outcomes."""
        pairs = zip(posed, watched.checks, strict=True)
        self._marks.add(
            [(f"{one.kind}:{'yes' if one.is_yes else 'no'}", one.is_yes == said.yes) for one, said in pairs]
        )

    def as_dict(self) -> dict[str, Any]:
        """Accuracy, yes and no weighing the same, overall and by kind."""
        kinds = sorted({key.partition(":")[0] for key in self._marks.names()})
        return {**self._balanced(kinds), "by_kind": {kind: self._balanced([kind]) for kind in kinds}}

    def _balanced(self, kinds: Sequence[str]) -> dict[str, Any]:
        return mean_rate([self._marks.of_all([f"{kind}:{truth}" for kind in kinds]) for truth in ("yes", "no")])


def scope_of(instruction: Instruction) -> str:
    """Which remarks an instruction allows: all, none, or some."""
    allowed = {instruction.allows(as_remark(text)) for text in all_remarks()}
    return "some" if len(allowed) > 1 else "everything" if allowed == {True} else "nothing"


class ObedienceSection:
    """Scores standing instructions: allowed remarks must be made, others must not.

    Both count the same, so that silence and chatter each reach one half where an instruction lets some remarks through.
    """

    def __init__(self, engine: Engine, settings: SceneSettings, *, talkativeness: float = 0.0) -> None:
        self._engine = engine
        self._fps = settings.fps
        self._talkativeness = talkativeness
        self._marks = _Marks()
        self._num_beside = 0
        self._hours = 0.0

    def watch(self, scene: Scene, pictures: Pictures) -> None:
        """Watch one scene under an instruction drawn for it."""
        rng = np.random.default_rng([scene.seed, 14])
        instruction = Instruction(*instructions(rng, scene))
        watched = watch(
            self._engine,
            pictures,
            fps=self._fps,
            talkativeness=self._talkativeness,
            instruction=instruction.text,
        )
        said = [(comment.time_s, comment.text) for comment in watched.comments]
        self.mark(scene, instruction, said)

    def mark(self, scene: Scene, instruction: Instruction, said: Sequence[tuple[float, str]]) -> None:
        """Take one scene's remarks."""
        owed = remarks(scene)
        events = [replace(one, kind=str(number)) for number, one in enumerate(owed_remarks(scene, self._fps))]
        score = score_scene(
            events, [ScoredRemark(time_s, parse(text) or None) for time_s, text in said], scene.duration_s
        )
        told = {int(kind) for kind in score.kinds_found}
        scope = scope_of(instruction)
        marks = []
        for number, one in enumerate(owed):
            wanted = bool(instruction.allows(one))
            marks.append((f"{scope}:{'told' if wanted else 'unsaid'}", (number in told) == wanted))
        self._marks.add(marks)
        self._num_beside += score.num_said - score.num_matched
        self._hours += scene.duration_s / 3600

    def as_dict(self) -> dict[str, Any]:
        """Obedience overall and by which remarks the instructions allow."""
        keys = self._marks.names()
        by_scope = {
            scope: mean_rate([self._marks.of(key) for key in keys if key.startswith(f"{scope}:")])
            for scope in sorted({key.partition(":")[0] for key in keys})
        }
        columns = [[key for key in keys if key.endswith(f":{ending}")] for ending in ("told", "unsaid")]
        return {
            **mean_rate([self._marks.of_all(names) for names in columns if names] or [[]]),
            "told": rate(self._marks.of_all(columns[0])),
            "unsaid": rate(self._marks.of_all(columns[1])),
            "by_scope": by_scope,
            "remarks_beside_events_per_hour": rate_per_hour(self._num_beside, self._hours),
        }


def quiet_settings(settings: SceneSettings) -> SceneSettings:
    """Settings of scenes in which nothing happens but noise, flicker, pulses, a ticking clock and drift."""
    return replace(
        settings,
        duration_s=QUIET_SCENE_S,
        still_probability=1.0,
        distractor_probability=0.4,
        artefact_probability=0.4,
    )


class QuietSection:
    """Counts false alarms in scenes with nothing but noise, flicker, pulses, a ticking clock and drift."""

    def __init__(self, engine: Engine, settings: SceneSettings, *, talkativeness: float = 0.0) -> None:
        self._engine = engine
        self._talkativeness = talkativeness
        self._settings = quiet_settings(settings)
        self._hours: defaultdict[str, float] = defaultdict(float)
        self._said: Counter[str] = Counter()
        self.remarks: list[dict[str, Any]] = []
        """Seed, time, text and score of each false alarm."""

    def watch(self, seed: int) -> None:
        """Watch the quiet scene of a seed; one in three goes through H.264 with frequent key frames."""
        scene = Scene(seed, self._settings)
        fps = self._settings.fps
        encoded = seed % 3 == 0
        pictures = _through_h264(scene, fps) if encoded else scene_pictures(scene, fps)
        watched = watch(self._engine, pictures, fps=fps, talkativeness=self._talkativeness)
        names = ["all", *_distractors(scene), *(["h264"] if encoded else [])]
        for name in names:
            self._hours[name] += scene.duration_s / 3600
            self._said[name] += len(watched.comments)
        self.remarks += [
            {"seed": seed, "time_s": comment.time_s, "text": comment.text, "score": comment.score}
            for comment in watched.comments
        ]

    def as_dict(self) -> dict[str, Any]:
        """False alarms an hour, overall and where each distractor was at work."""
        by_distractor = {
            name: rate_per_hour(self._said[name], hours) for name, hours in sorted(self._hours.items()) if name != "all"
        }
        found = rate_per_hour(self._said["all"], self._hours["all"])
        return {**found, "by_distractor": by_distractor, "remarks": self.remarks}


def _through_h264(scene: Scene, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """A scene's frames after a video encoder, in stretches, each with its own key frame."""
    from streaming.sources.encoded import through_h264

    times = [float(time_s) for time_s in scene.times(fps)]
    rng = np.random.default_rng([scene.seed, 15])
    crf, gop = int(rng.integers(24, 36)), int(rng.integers(8, 60))
    for start in range(0, len(times), 60):
        part = times[start : start + 60]
        yield from zip(part, through_h264([scene.frame(t) for t in part], fps, crf=crf, gop=gop), strict=True)


def _distractors(scene: Scene) -> list[str]:
    sensor = scene.scenario.sensor
    found = {
        "noise below 1": sensor.noise_sigma < 1,
        "noise 1 to 2.5": 1 <= sensor.noise_sigma < 2.5,
        "noise 2.5 and more": sensor.noise_sigma >= 2.5,
        "flicker": bool(sensor.flicker_levels),
        "drift of light": len(sensor.drift.times_s) > 1,
        "shadow": bool(sensor.shadow_levels),
        "clock": sensor.clock_corner is not None,
        "shimmer": bool(sensor.shimmer_levels),
        "jpeg": sensor.jpeg_quality is not None,
        "pulse": sensor.pulse_s is not None,
    }
    return [name for name, is_there in found.items() if is_there]
