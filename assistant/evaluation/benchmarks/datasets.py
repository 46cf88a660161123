"""One question of a benchmark, and how a benchmark's annotation files become questions. Any thread.

Layouts: Video-MME as its parquet (or the same rows as JSON) beside `videos/`; MVBench as `json/` beside `video/`;
Charades-STA as `charades_sta_test.txt` or a JSON of conversations beside `Charades_v1/`; DocVQA as `val_v1.0*.json`,
alone or in `spdocvqa_qas/`, or `val.jsonl`, beside its pictures or `spdocvqa_images/`.

Layouts and prompts are checked against the evaluation published with VideoLLaMA 3. The wording of its Charades-STA
questions stands in its JSON of conversations, which was not found; those from `charades_sta_test.txt` are worded here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.errors import AssistantError
from assistant.evaluation.benchmarks.metrics import LETTERS
from assistant.evaluation.watching import CLIP_SUFFIXES


@dataclass(frozen=True, slots=True)
class BenchmarkSample:
    """A question about one video, folder of frames or picture, with what is right."""

    name: str
    prompt: str
    media: Path
    truth: Any
    """An option's letter, an interval in seconds, or a tuple of accepted answers."""
    group: str = "all"
    options: tuple[str, ...] = ()
    """Texts of the options, in the order of their letters."""
    start_s: float | None = None
    end_s: float | None = None
    """The part of the video that is asked about; None for all of it."""
    frames_fps: float | None = None
    """Frames a second of a folder of frames; None for videos and pictures."""
    subtitles: Path | None = None
    """Where the subtitles are if the video has any; None where none are asked for."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON, JSON-lines or parquet file; `data` where JSON holds that. Raises `AssistantError`."""
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
            rows = found["data"] if isinstance(found, dict) and "data" in found else found
    except (OSError, ValueError) as error:
        raise AssistantError(f"{path}: {error}; records in JSON are wanted; download it again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise AssistantError(f"{path}: no list of records; the published annotation file is wanted; download it again")
    return rows


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise AssistantError(
            f"{path}: reading parquet needs pyarrow; pip install pyarrow, or give the same rows as {path.stem}.jsonl"
        ) from None
    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return rows
    except (OSError, pyarrow.lib.ArrowException) as error:
        raise AssistantError(f"{path}: {error}; a parquet file is wanted; download it again") from error


def only(folder: Path, patterns: Sequence[str]) -> Path:
    """The first file that a pattern finds. Raises `AssistantError` naming what was looked for."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    raise AssistantError(f"{folder}: holds none of {', '.join(patterns)}; give the folder of the published data set")


def video_of(folders: Iterable[Path], name: str) -> Path:
    """A video by its name, with or without its suffix. Raises `AssistantError` where no folder has it."""
    tried = []
    for folder in folders:
        for candidate in [folder / name, *(folder / f"{name}{suffix}" for suffix in CLIP_SUFFIXES)]:
            if candidate.exists():
                return candidate
        tried.append(str(folder))
    raise AssistantError(f"{name}: not in {', '.join(tried)}; the data set's videos are wanted; unpack them there")


def field_of(row: dict[str, Any], names: Sequence[str], path: Path) -> Any:
    """The first of several fields that a record has. Raises `AssistantError`."""
    for name in names:
        if name in row and row[name] is not None:
            return row[name]
    raise AssistantError(
        f"{path}: a record without {' or '.join(names)}; the published file is wanted; download it again"
    )


_ANSWER_WITH_LETTER = "Answer with the option's letter from the given choices directly and only give the best option."


def video_mme(folder: Path, *, with_subtitles: bool = False) -> Iterator[BenchmarkSample]:
    """Video-MME: 2,700 questions with four options; groups are the lengths short, medium and long."""
    path = only(folder, ("test-*.parquet", "**/test-*.parquet", "*.jsonl", "*.json"))
    spoken = next((one for name in ("subtitles", "subtitle") if (one := folder / name).is_dir()), None)
    if with_subtitles and spoken is None:
        raise AssistantError(f"{folder}: no folder subtitles; its .srt files are wanted; unpack them there")
    videos = (folder / "videos", folder / "video", folder / "data", folder)
    for row in read_rows(path):
        options = tuple(str(option) for option in field_of(row, ("options",), path))
        video = video_of(videos, str(field_of(row, ("videoID", "video_id"), path)))
        question = str(field_of(row, ("question",), path))
        yield BenchmarkSample(
            name=str(field_of(row, ("question_id",), path)),
            prompt="Select the best answer to the following multiple-choice question based on the video. Respond with "
            f"only the letter ({_letters(options)}) of the correct option.\n{question}\n"
            + "".join(f"{option}\n" for option in options)
            + f"{_ANSWER_WITH_LETTER} The best answer is:",
            media=video,
            truth=str(field_of(row, ("answer",), path)).strip()[:1].upper(),
            group=str(row.get("duration", "all")),
            options=tuple(_without_letter(option) for option in options),
            subtitles=spoken / f"{video.stem}.srt" if with_subtitles and spoken is not None else None,
        )


def _letters(options: Sequence[str]) -> str:
    letters = LETTERS[: len(options)]
    return f"{', '.join(letters[:-1])}, or {letters[-1]}"


def _without_letter(option: str) -> str:
    """An option without the letter that it is printed with."""
    return option[2:].strip() if option[1:2] in (".", ")", ":") else option.strip()


_STAR, _CLEVRER, _PERCEPTION = "star/Charades_v1_480", "clevrer/video_validation", "perception/videos"
MVBENCH_VIDEOS = {
    "action_sequence": _STAR,
    "action_prediction": _STAR,
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": _CLEVRER,
    "object_interaction": _STAR,
    "object_shuffle": _PERCEPTION,
    "moving_direction": _CLEVRER,
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": _PERCEPTION,
    "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER,
    "state_change": _PERCEPTION,
    "fine_grained_pose": "nturgbd",
    "character_order": _PERCEPTION,
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": _CLEVRER,
}
"""Where MVBench keeps the videos of each of its twenty tasks, under `video/` or `video/data0613/`."""
_CUT_TASKS = ("action_sequence", "action_prediction", "object_interaction", "action_localization", "episodic_reasoning")
"""Tasks that ask about a part of the video, from `start` to `end`."""
TVQA_FPS = 3.0
"""Rate of the frames that stand for the videos of episodic reasoning."""


def mvbench(folder: Path) -> Iterator[BenchmarkSample]:
    """MVBench: twenty tasks of 200 questions; groups are the tasks."""
    files = sorted((folder / "json").glob("*.json"))
    known = [path for path in files if path.stem in MVBENCH_VIDEOS]
    if not known:
        raise AssistantError(f"{folder}: holds no json/TASK.json of MVBench; give the folder that holds json and video")
    for path in known:
        place = MVBENCH_VIDEOS[path.stem]
        videos = (folder / "video" / place, folder / "video" / "data0613" / place)
        for number, row in enumerate(read_rows(path)):
            options = tuple(str(option) for option in field_of(row, ("candidates",), path))
            answer = str(field_of(row, ("answer",), path))
            if answer not in options:
                raise AssistantError(f"{path}: answer {answer!r} is none of its candidates; download the file again")
            media = video_of(videos, str(field_of(row, ("video",), path)))
            is_cut = path.stem in _CUT_TASKS and "start" in row and "end" in row
            listed = "".join(f"({LETTERS[i]}) {option}\n" for i, option in enumerate(options))
            yield BenchmarkSample(
                name=f"{path.stem}/{number}",
                prompt=f"Question: {field_of(row, ('question',), path)}\nOptions:\n{listed}{_ANSWER_WITH_LETTER}",
                media=media,
                truth=LETTERS[options.index(answer)],
                group=path.stem,
                options=options,
                start_s=float(row["start"]) if is_cut else None,
                end_s=float(row["end"]) if is_cut else None,
                frames_fps=TVQA_FPS if media.is_dir() else None,
            )


def charades_sta(folder: Path) -> Iterator[BenchmarkSample]:
    """Charades-STA: when in a video does what a sentence says happen?"""
    videos = (folder / "Charades_v1", folder / "Charades_v1_480", folder / "videos", folder)
    path = only(folder, ("charades_sta_test.txt", "**/charades_sta_test.txt", "charades*test*.json"))
    if path.suffix == ".json":
        yield from _charades_conversations(path, videos)
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        if not line.strip():
            continue
        head, mark, sentence = line.partition("##")
        parts = head.split()
        try:
            start_s, end_s = float(parts[1]), float(parts[2])
        except (IndexError, ValueError):
            parts = []
        if not mark or not parts:
            raise AssistantError(f"{path}, line {number + 1}: VIDEO START END##SENTENCE is wanted; mend the line")
        asked = f'During which time can "{sentence.strip().rstrip(".")}" be seen in the video? '
        yield _grounding(str(number), asked, video_of(videos, parts[0]), (start_s, end_s))


def _charades_conversations(path: Path, videos: Sequence[Path]) -> Iterator[BenchmarkSample]:
    for number, row in enumerate(read_rows(path)):
        try:
            asked = str(row["conversation"][0]["content"])
            start_s, end_s = (float(time_s) for time_s in row["timestamps"][0])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise AssistantError(f"{path}: record {number}: {error!r}; download the file again") from error
        name = str(row.get("question_id", number))
        yield _grounding(name, asked, video_of(videos, str(row["video"])), (start_s, end_s))


def _grounding(name: str, asked: str, media: Path, truth: tuple[float, float]) -> BenchmarkSample:
    return BenchmarkSample(name, f"{asked}Please output the start and end timestamps in seconds.", media, truth)


def docvqa(folder: Path) -> Iterator[BenchmarkSample]:
    """DocVQA's validation questions about pictures of pages; several answers are accepted."""
    path = only(folder, ("val_v1.0*.json", "spdocvqa_qas/val_v1.0*.json", "val.jsonl", "val*.json", "*.jsonl"))
    for row in read_rows(path):
        named = str(field_of(row, ("image",), path))
        places = (folder / named, path.parent / named, folder / "spdocvqa_images" / Path(named).name)
        picture = next((place for place in places if place.is_file()), None)
        if picture is None:
            raise AssistantError(
                f"{places[0]}: no such picture; the data set's documents are wanted; unpack them there"
            )
        answers = field_of(row, ("answers", "answer"), path)
        yield BenchmarkSample(
            name=str(field_of(row, ("questionId", "question_id"), path)),
            prompt=f"{field_of(row, ('question',), path)}\nAnswer the question with a single word or phrase.",
            media=picture,
            truth=tuple(str(answer) for answer in ([answers] if isinstance(answers, str) else answers)),
        )
