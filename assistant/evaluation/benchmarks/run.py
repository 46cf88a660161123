"""`evaluate --task`: puts a benchmark's questions to a checkpoint in the published formats, and scores its answers.

Runs on the caller's thread, the engine's. Each question stands alone, outside any stream.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.errors import AssistantError, ConfigError, NothingToSee
from assistant.evaluation.benchmarks import datasets as samples
from assistant.evaluation.benchmarks.datasets import BenchmarkSample
from assistant.evaluation.benchmarks.metrics import RECALL_AT, anls, chosen_letter, intervals_of, overlap
from assistant.inputs.attachments import MOST_FRAMES, read_picture
from assistant.inputs.frame_spread import FrameSpread
from streaming.size_fitting import fit_to_largest
from streaming.types import Frame, Notice

if TYPE_CHECKING:
    from models.engine import Engine

CLIP_FPS = 1.0
"""Frames a second of a benchmark's video, as published, up to `MOST_FRAMES` spread over it."""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
Marks = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark: how it is read, how one answer is marked, and how long an answer may be."""

    read: Callable[[Path], Iterator[BenchmarkSample]]
    mark: Callable[[BenchmarkSample, str], Marks]
    max_tokens: int
    about_pictures: bool = False


def _choice(sample: BenchmarkSample, said: str) -> Marks:
    return {"accuracy": float(chosen_letter(said, sample.options) == sample.truth)}


def _grounding(sample: BenchmarkSample, said: str) -> Marks:
    shared = overlap(intervals_of(said), sample.truth)
    return {**{f"R1@{at}": float(shared >= at) for at in RECALL_AT}, "mIoU": shared}


def _page(sample: BenchmarkSample, said: str) -> Marks:
    return {"ANLS": anls(said, sample.truth)}


TASKS = {
    "videomme": Task(samples.video_mme, _choice, 16),
    "videomme-subtitles": Task(partial(samples.video_mme, with_subtitles=True), _choice, 16),
    "mvbench": Task(samples.mvbench, _choice, 16),
    "charades-sta": Task(samples.charades_sta, _grounding, 48),
    "docvqa": Task(samples.docvqa, _page, 48, about_pictures=True),
}


def task_named(name: str) -> Task:
    """A benchmark by its name; case, spaces, dashes and underscores do not count. Raises `ConfigError`."""
    plain = {re.sub(r"[^a-z]", "", known): task for known, task in TASKS.items()}
    found = plain.get(re.sub(r"[^a-z]", "", name.casefold()))
    if found is None:
        raise ConfigError(f"--task {name!r}: known are {', '.join(TASKS)}; choose one of them")
    return found


def run_task(
    engine: Engine, name: str, folder: Path, *, limit: int | None = None, progress: bool = False
) -> tuple[dict[str, Any], str]:
    """Plain values, each answer among them, and a table. Videos that cannot be read count as wrong and are counted."""
    from tqdm import tqdm

    task = task_named(name)
    if not folder.is_dir():
        raise AssistantError(f"{folder}: no such folder; --data names the folder of the published data set; check it")
    wanted = list(itertools.islice(task.read(folder), limit))
    if not wanted:
        raise NothingToSee(f"{folder}: its annotation file holds no question; download it again")
    answers: list[dict[str, Any]] = []
    for sample in tqdm(wanted, unit="question", disable=not progress):
        answers.append(_answer(engine, task, sample))
    values = {"task": name, "model": engine.checkpoint.name, **summary(answers), "answers": answers}
    return values, as_table(values)


def _answer(engine: Engine, task: Task, sample: BenchmarkSample) -> dict[str, Any]:
    from streaming.errors import StreamingError

    said, problem = "", None
    try:
        said = _ask(engine, task, sample)
    except (StreamingError, AssistantError) as error:
        problem = str(error)
    return {
        "name": sample.name,
        "group": sample.group,
        "said": said,
        "truth": sample.truth,
        "problem": problem,
        "marks": dict(task.mark(sample, said)),
    }


def _ask(engine: Engine, task: Task, sample: BenchmarkSample) -> str:
    limit = min(task.max_tokens, engine.checkpoint.stream.speaking.max_answer_tokens)
    if task.about_pictures:
        steps = engine.ask(sample.prompt, [read_picture(sample.media)], max_tokens=limit)
    else:
        frames, times_s = read_video(sample)
        prompt = _subtitled(sample, times_s) + sample.prompt
        steps = engine.ask(prompt, clips=[(frames, times_s)], max_tokens=limit)
    return engine.run(steps).text.strip()


def read_video(sample: BenchmarkSample) -> tuple[list[np.ndarray], list[float]]:
    """Frames of a sample's video, or of the part asked about, with their times in the whole video, seconds.

    They are spread over the pictures that are there, where a header's length is missing or not true.
    """
    if sample.frames_fps is not None:
        return _read_frames(sample, sample.frames_fps)
    part = _part(sample)
    taken = _read_part(sample.media, *part) if part is not None else []
    taken = taken or _read_part(sample.media, 0.0, None)
    if not taken:
        raise NothingToSee(f"{sample.media}: no frame could be read; the video may be damaged; download it again")
    return fit_to_largest([frame.image for frame in taken]), [frame.pts_s for frame in taken]


def _read_part(path: Path, start_s: float, end_s: float | None) -> list[Frame]:
    """At most `MOST_FRAMES` frames, spread evenly up to `end_s`, by the header's length where it is None.

    Empty where the video has no picture from `start_s` on.
    """
    from streaming.errors import OptionError
    from streaming.open_source import open_source
    from streaming.sources.base import SourceOptions

    def read(fps: float) -> FrameSpread:
        spread = FrameSpread(MOST_FRAMES, 1)
        options = SourceOptions(sample_fps=fps, start_s=start_s, end_s=end_s)
        with open_source(str(path), options=options) as source:
            source.open()
            for item in source.frames():
                if not isinstance(item, Notice):
                    spread.add(item)
        return spread

    with open_source(str(path)) as source:
        length_s = source.open().duration_s_declared or 0.0
    span_s = (length_s if end_s is None else end_s) - start_s
    fps = min(CLIP_FPS, MOST_FRAMES / span_s) if span_s > 0 else CLIP_FPS
    try:
        spread = read(fps)
        if fps < CLIP_FPS and spread.num_pictures < MOST_FRAMES / 2:
            spread = read(CLIP_FPS)
    except OptionError:  # it ends before the part begins
        return []
    return spread.frames()


def _part(sample: BenchmarkSample) -> tuple[float, float] | None:
    """The part asked about, seconds. Ends that are swapped, equal or before the beginning are mended as published."""
    if sample.start_s is None or sample.end_s is None:
        return None
    start_s, end_s = sorted((max(sample.start_s, 0.0), max(sample.end_s, 0.0)))
    return start_s, end_s if start_s < end_s else start_s + 1.0


def _read_frames(sample: BenchmarkSample, fps: float) -> tuple[list[np.ndarray], list[float]]:
    """A folder of frames at a rate: of each second of the part its middle frame, as published."""
    files = sorted(path for path in sample.media.iterdir() if path.suffix.casefold() in PICTURE_SUFFIXES)
    if not files:
        raise NothingToSee(f"{sample.media}: holds no picture; the folder of frames is wanted; unpack it again")
    part = _part(sample)
    if part is None:
        inside = range(len(files))
    else:
        first, last = (max(int(time_s * fps) - 1, 0) for time_s in part)
        inside = range(len(files))[first : last + 1] or range(len(files))
    if len(inside) / fps < MOST_FRAMES / CLIP_FPS:
        stride = min(max(1, int(fps / CLIP_FPS)), len(inside))
        picked = list(inside[stride // 2 :: stride])
    else:
        picked = [inside[int(place)] for place in np.linspace(0, len(inside) - 1, MOST_FRAMES)]
    return [read_picture(files[index]) for index in picked], [index / fps for index in picked]


_CUE_TIMES = re.compile(r"^[ \t]*(\d+):(\d+):(\d+)[,.](\d+)[ \t]*-->[ \t]*(\d+):(\d+):(\d+)[,.](\d+).*$", re.M)
_CUE_NUMBER = re.compile(r"\n\s*\d+\s*\Z")


def _subtitled(sample: BenchmarkSample, times_s: Sequence[float]) -> str:
    """The subtitles that stand at the sampled frames, before the question; none where the video has no file."""
    if sample.subtitles is None:
        return ""
    is_there = sample.subtitles.is_file()
    cues = _cues(sample.subtitles.read_text(encoding="utf-8", errors="replace")) if is_there else []
    lines = [next((words for start, end, words in cues if start < time_s < end), "") for time_s in times_s]
    shown = "\n".join(line for line in lines if line)
    return f"This video's subtitles are listed below:\n{shown}\n"


def _cues(text: str) -> list[tuple[float, float, str]]:
    """The cues of an SRT file: start and end, seconds, and words, which blank lines do not end."""
    text = text.replace("\r\n", "\n")
    found = list(_CUE_TIMES.finditer(text))
    ends = [cue.start() for cue in found[1:]]
    cues = []
    for cue, end in zip(found, [*ends, len(text)], strict=True):
        words = text[cue.end() : end]
        if end < len(text):
            words = _CUE_NUMBER.sub("", words)
        cues.append((_seconds(cue.groups()[:4]), _seconds(cue.groups()[4:]), " ".join(words.split())))
    return cues


def _seconds(parts: Sequence[str]) -> float:
    hours, minutes, seconds, ms = (int(part) for part in parts)
    return 3600 * hours + 60 * minutes + seconds + ms / 1000


def summary(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of each metric in percent, with 95 % intervals (bootstrap over questions), and by group."""
    names = list(answers[0]["marks"])
    groups = sorted({answer["group"] for answer in answers})
    by_group = {
        group: {
            name: _percent(answer["marks"][name] for answer in answers if answer["group"] == group) for name in names
        }
        for group in groups
    }
    rng = np.random.default_rng(0)
    intervals = {}
    for name in names:
        marks = np.array([answer["marks"][name] for answer in answers])
        means = marks[rng.integers(0, len(marks), (1000, len(marks)))].mean(axis=1)
        intervals[name] = [round(100 * float(np.percentile(means, q)), 2) for q in (2.5, 97.5)]
    return {
        "questions": len(answers),
        "unreadable": sum(answer["problem"] is not None for answer in answers),
        "metrics": {name: _percent(answer["marks"][name] for answer in answers) for name in names},
        "intervals": intervals,
        "by_group": by_group if len(groups) > 1 else {},
    }


def _percent(marks: Iterable[float]) -> float:
    return round(100 * float(np.mean(list(marks))), 2)


def as_table(values: Mapping[str, Any]) -> str:
    """The metrics in percent."""
    lines = [f"{values['task']}, {values['questions']} questions, {values['unreadable']} unreadable"]
    for name, value in values["metrics"].items():
        low, high = values["intervals"][name]
        lines.append(f"{name:<32}{value:>8.2f}  [{low:.2f}, {high:.2f}]")
    for group, found in values["by_group"].items():
        lines.append(f"  {group:<30}" + "  ".join(f"{value:>8.2f}" for value in found.values()))
    return "\n".join(lines)
