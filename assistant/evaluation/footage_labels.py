"""Labelled footage on disk: reads a folder's `events.json`, watches its clips, looks at its photographs.

Runs on the caller's thread, which is the engine's. `docs/footage.md` describes the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from assistant.errors import AssistantError
from assistant.evaluation.footage_scoring import (
    SIDES,
    ClipWords,
    Fact,
    PictureWords,
    score_picture,
    score_words,
)
from assistant.evaluation.watching import clip_pictures, watch
from assistant.inputs.attachments import read_picture
from assistant.stream.question_queue import Question
from models.groundtruth.meanings import is_right
from models.groundtruth.remarks import DIRECTIONS
from streaming.scenes.object_names import NAMES
from streaming.scenes.photographs import SUFFIXES
from streaming.scenes.scenario import EventKind
from streaming.scenes.scenery import COLOURS, SHAPES

if TYPE_CHECKING:
    from models.engine import Engine

LABELS_NAME = "events.json"
PICTURE_QUESTION = "What is in view?"
_THINGS = (*NAMES, *(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES))


def _among(known: tuple[str, ...], what: str, wanted: str = "") -> AfterValidator:
    def check(values: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"{what} {', '.join(unknown)}: known are {wanted or ', '.join(known)}; write one of them")
        return values

    return AfterValidator(check)


Words = Annotated[
    tuple[str, ...], _among(_THINGS, "names", f"{', '.join(NAMES)}, and a colour with a shape as red circle")
]


class _Label(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FactLabel(_Label):
    """One fact of a clip, as the file has it; `footage.Fact` says what each key means."""

    start_s: float = Field(ge=0)
    end_s: float = Field(ge=0)
    kinds: Annotated[tuple[str, ...], _among(tuple(EventKind), "kinds")] = Field(min_length=1)
    names: Words = ()
    sides: Annotated[tuple[str, ...], _among(SIDES, "sides")] = ()
    directions: Annotated[tuple[str, ...], _among(DIRECTIONS, "directions")] = ()
    count: int = Field(default=1, ge=1)
    owed: bool = False
    what: str = ""
    """For people who read the file."""

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> FactLabel:
        if self.end_s < self.start_s:
            raise ValueError(f"end_s {self.end_s:g} lies before start_s {self.start_s:g}; exchange them")
        return self

    def as_fact(self) -> Fact:
        """The fact itself."""
        return Fact(**self.model_dump(exclude={"what"}))


class QuestionLabel(_Label):
    """A question that reaches the assistant at a media time, and the answers that are right."""

    at_s: float = Field(ge=0)
    question: str = Field(min_length=1)
    answers: tuple[str, ...] = Field(min_length=1)


class ClipLabels(_Label):
    """The labels of one clip."""

    facts: tuple[FactLabel, ...]
    questions: tuple[QuestionLabel, ...] = ()
    activity: tuple[dict[str, Any], ...] = ()
    """Not used here: what `evaluate --clips` goes by, as `minor`."""
    minor: tuple[dict[str, Any], ...] = ()


class PictureLabels(_Label):
    """The labels of a photograph."""

    main: Words = Field(min_length=1)
    """Words for its main thing, any of them right."""
    others: Words = ()
    """What else may be named."""


Labels = dict[str, ClipLabels | PictureLabels]
_ENTRIES = TypeAdapter(dict[str, dict[str, Any]])


def read_labels(folder: Path) -> Labels:
    """The labels of a folder, by file name. Raises `AssistantError` where the file does not hold them."""
    path = folder / LABELS_NAME
    if not path.is_file():
        raise AssistantError(
            f"{folder}: no {LABELS_NAME}; it says what is true of each clip; write one as docs/footage.md describes"
        )
    labels: Labels = {}
    name = ""
    try:
        for name, values in _ENTRIES.validate_json(path.read_bytes()).items():
            kind = PictureLabels if Path(name).suffix.casefold() in SUFFIXES else ClipLabels
            labels[name] = kind.model_validate(values)
    except (OSError, ValidationError) as error:
        raise AssistantError(f"{path}: {_first_problem(error, name)}; mend the entry, see docs/footage.md") from error
    absent = [name for name in labels if not (folder / name).is_file()]
    if absent:
        raise AssistantError(f"{path}: {absent[0]}: no such file in {folder}; add it, or take out its entry")
    return labels


def _first_problem(error: OSError | ValidationError, name: str) -> str:
    if isinstance(error, OSError):
        return str(error)
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in (name, *first["loc"]) if part != "")
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def evaluate_footage(
    engine: Engine,
    folder: Path,
    *,
    fps: float = 2.0,
    talkativeness: float = 0.0,
    on_file: Callable[[], object] = lambda: None,
) -> tuple[list[ClipWords], list[PictureWords]]:
    """Watch each labelled clip, with its questions, and look at each labelled photograph of a folder."""
    clips: list[ClipWords] = []
    pictures: list[PictureWords] = []
    for name, label in read_labels(folder).items():
        if isinstance(label, PictureLabels):
            said = engine.run(engine.ask(PICTURE_QUESTION, [read_picture(folder / name)])).text.strip()
            pictures.append(score_picture(name, said, label.main, label.others))
        else:
            clips.append(_watched(engine, folder / name, label, fps, talkativeness))
        on_file()
    return clips, pictures


def _watched(engine: Engine, path: Path, label: ClipLabels, fps: float, talkativeness: float) -> ClipWords:
    asked = sorted(label.questions, key=lambda one: one.at_s)
    seen = _Seen()
    watched = watch(
        engine,
        seen.through(clip_pictures(path, fps)),
        fps=fps,
        talkativeness=talkativeness,
        questions=[Question(one.at_s, one.question) for one in asked],
        name=path.name,
    )
    given = [answer.text for answer in watched.answers]
    given += [""] * (len(asked) - len(given))
    return score_words(
        path.name,
        [one.as_fact() for one in label.facts],
        [(comment.time_s, comment.text) for comment in watched.comments],
        seen.until_s + 1 / fps,
        [
            (one.question, said, any(is_right(said, truth) for truth in one.answers))
            for one, said in zip(asked, given, strict=True)
        ],
    )


class _Seen:
    """How far a clip has been watched."""

    def __init__(self) -> None:
        self.until_s = 0.0

    def through(self, pictures: Iterator[tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
        """The pictures as they are."""
        for time_s, picture in pictures:
            self.until_s = time_s
            yield time_s, picture
