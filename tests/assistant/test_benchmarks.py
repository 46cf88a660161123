"""Published benchmarks in their published layouts, made small: read, asked in the published formats, and scored."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import app
from assistant.commands.terminal import BAD_INPUT
from assistant.errors import AssistantError, ConfigError
from assistant.evaluation.benchmarks.datasets import BenchmarkSample, charades_sta, docvqa, mvbench, video_mme
from assistant.evaluation.benchmarks.metrics import anls, chosen_letter, intervals_of, overlap
from assistant.evaluation.benchmarks.run import TASKS, read_video, run_task, task_named
from models.checkpoint.loader import load_checkpoint
from models.engine import Engine
from models.session.turns import Utterance
from tests.clips import number_of, numbered, write_clip, write_resized


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(load_checkpoint(progress=False))


class Scripted:
    """An engine that answers by a rule and notes what it was shown."""

    def __init__(self, engine: Engine, says: Callable[[str], str]) -> None:
        self.checkpoint = engine.checkpoint
        self._says = says
        self.asked: list[tuple[str, int, list[float]]] = []

    def ask(
        self,
        question: str,
        images: Sequence[np.ndarray] = (),
        clips: Sequence[tuple[Sequence[np.ndarray], Sequence[float]]] = (),
        *,
        max_tokens: int | None = None,
    ) -> str:
        self.asked.append((question, len(images), [time_s for _, times in clips for time_s in times]))
        return self._says(question)

    def run(self, said: str) -> Utterance:
        return Utterance(said, (), 0.0, False, False, None)


def _write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")


def _video(path: Path, seconds: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, stamps_s=[index / 2 for index in range(2 * seconds)], num_frames=2 * seconds)


def _make_video_mme(folder: Path) -> None:
    rows = [
        {
            "video_id": "001",
            "duration": duration,
            "domain": "Knowledge",
            "sub_category": "Astronomy",
            "url": "",
            "videoID": "abc",
            "task_type": "Object Recognition",
            "question_id": f"001-{number}",
            "question": "What is shown?",
            "options": ["A. Bars.", "B. A dog.", "C. A cat.", "D. Nothing."],
            "answer": answer,
        }
        for number, (duration, answer) in enumerate([("short", "A"), ("short", "B"), ("long", "A")])
    ]
    _write(folder / "test.jsonl", "\n".join(json.dumps(row) for row in rows))
    _video(folder / "videos" / "abc.mp4", 6)
    _write(folder / "subtitles" / "abc.srt", "1\n00:00:01,500 --> 00:00:02,500\nHello there.\n\n")


def _make_mvbench(folder: Path) -> None:
    row = {"video": "x.mp4", "question": "Which way?", "candidates": ["Left", "Right"], "answer": "Right"}
    _write(folder / "json" / "moving_direction.json", [row, row])
    _video(folder / "video" / "clevrer/video_validation" / "x.mp4", 4)
    _write(folder / "json" / "action_sequence.json", [{**row, "start": 2.0, "end": 5.0}])
    _video(folder / "video" / "star/Charades_v1_480" / "x.mp4", 8)
    frames = folder / "video" / "tvqa/frames_fps3_hq" / "show"
    frames.mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (64, 48), (20 * number, 0, 0)).save(frames / f"{number:05}.jpg")
    _write(folder / "json" / "episodic_reasoning.json", [{**row, "video": "show", "start": 1.0, "end": 3.0}])


def _make_charades(folder: Path) -> None:
    _write(folder / "charades_sta_test.txt", "AB12 2.0 6.0##a person opens a door.\nAB12 0.0 4.0##a person sits.\n")
    _video(folder / "Charades_v1" / "AB12.mp4", 8)


def _make_docvqa(folder: Path) -> None:
    record = {"questionId": 7, "question": "Which year?", "image": "documents/p.png", "answers": ["1998", "in 1998"]}
    _write(folder / "val_v1.0_withQT.json", {"dataset_name": "docvqa", "data": [record]})
    (folder / "documents").mkdir()
    Image.new("RGB", (80, 100), "white").save(folder / "documents" / "p.png")


MAKERS = {
    "videomme": (_make_video_mme, "A", "accuracy", 66.67),
    "videomme-subtitles": (_make_video_mme, "A", "accuracy", 66.67),
    "mvbench": (_make_mvbench, "(B) Right", "accuracy", 100.0),
    "charades-sta": (_make_charades, "From 2.0 to 6.0 seconds.", "R1@0.5", 50.0),
    "docvqa": (_make_docvqa, "1998", "ANLS", 100.0),
}


@pytest.mark.parametrize("name", list(TASKS))
def test_a_made_sample_in_the_published_layout_is_scored(name: str, tmp_path: Path, engine: Engine) -> None:
    make, says, metric, wanted = MAKERS[name]
    make(tmp_path)
    scripted = Scripted(engine, lambda question: says)
    values, table = run_task(scripted, name, tmp_path)  # type: ignore[arg-type]
    assert values["metrics"][metric] == wanted and values["unreadable"] == 0
    assert metric in table and json.loads(json.dumps(values)) is not None
    silent, _ = run_task(Scripted(engine, lambda question: ""), name, tmp_path)  # type: ignore[arg-type]
    assert all(value == 0 for value in silent["metrics"].values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mvbench", "docvqa"])
def test_a_real_checkpoint_answers_each_question(name: str, tmp_path: Path, engine: Engine) -> None:
    MAKERS[name][0](tmp_path)
    values, _ = run_task(engine, name, tmp_path, limit=2)
    assert values["questions"] == min(2, len(values["answers"])) and all(one["said"] for one in values["answers"])


def test_groups_are_scored_apart_and_subtitles_stand_at_the_frames(tmp_path: Path, engine: Engine) -> None:
    _make_video_mme(tmp_path)
    scripted = Scripted(engine, lambda question: "A")
    values, _ = run_task(scripted, "VideoMME subtitles", tmp_path)  # type: ignore[arg-type]
    assert values["by_group"] == {"long": {"accuracy": 100.0}, "short": {"accuracy": 50.0}}
    question, _, times_s = scripted.asked[0]
    assert "subtitles are listed below:\nHello there.\n" in question and times_s == [0, 1, 2, 3, 4, 5]
    assert question.endswith("D. Nothing.\n" + BY_LETTER + " The best answer is:")
    assert all(sample.subtitles is None for sample in video_mme(tmp_path))


BY_LETTER = "Answer with the option's letter from the given choices directly and only give the best option."


def test_a_video_without_subtitles_is_asked_with_an_empty_list_of_them(tmp_path: Path, engine: Engine) -> None:
    _make_video_mme(tmp_path)
    (tmp_path / "subtitles" / "abc.srt").rename(tmp_path / "subtitles" / "other.srt")
    (tmp_path / "subtitles").rename(tmp_path / "subtitle")
    (tmp_path / "videos").rename(tmp_path / "data")
    scripted = Scripted(engine, lambda question: "A")
    run_task(scripted, "videomme-subtitles", tmp_path, limit=1)  # type: ignore[arg-type]
    assert scripted.asked[0][0].startswith("This video's subtitles are listed below:\n\nSelect the best answer")


def test_blank_lines_and_empty_cues_do_not_shift_subtitles(tmp_path: Path, engine: Engine) -> None:
    _make_video_mme(tmp_path)
    srt = (
        "1\r\n00:00:00,500 --> 00:00:01,400\r\n\r\n2\r\n00:00:01,500 --> 00:00:02,500\r\n \r\nIn\r\n1998\r\n\r\n"
        "3\r\n00:00:03,500 --> 00:00:04,500\r\n42\r\n"
    )
    (tmp_path / "subtitles" / "abc.srt").write_bytes(srt.encode())
    scripted = Scripted(engine, lambda question: "A")
    run_task(scripted, "videomme-subtitles", tmp_path, limit=1)  # type: ignore[arg-type]
    assert "listed below:\nIn 1998\n42\nSelect" in scripted.asked[0][0]


def test_questions_are_put_in_the_published_words(tmp_path: Path) -> None:
    _make_mvbench(tmp_path)
    prompts = {sample.prompt for sample in mvbench(tmp_path)}
    assert prompts == {f"Question: Which way?\nOptions:\n(A) Left\n(B) Right\n{BY_LETTER}"}
    _make_charades(tmp_path)
    assert all(
        sample.prompt.endswith("? Please output the start and end timestamps in seconds.")
        for sample in charades_sta(tmp_path)
    )
    _make_docvqa(tmp_path)
    (sample,) = docvqa(tmp_path)
    assert sample.prompt == "Which year?\nAnswer the question with a single word or phrase."


def test_a_part_of_a_video_keeps_its_times_in_the_whole_and_frames_of_a_folder_their_rate(tmp_path: Path) -> None:
    _make_mvbench(tmp_path)
    by_group = {sample.group: sample for sample in mvbench(tmp_path)}
    frames, times_s = read_video(by_group["action_sequence"])
    assert times_s == [2.0, 3.0, 4.0] and len(frames) == 3
    frames, times_s = read_video(by_group["episodic_reasoning"])
    assert times_s == [1.0, 2.0] and abs(int(frames[0][0, 0, 0]) - 60) < 5 and abs(int(frames[1][0, 0, 0]) - 120) < 5


@pytest.mark.parametrize(
    ("start_s", "end_s", "wanted"),
    [(5.0, 2.0, [2.0, 3.0, 4.0]), (3.0, 3.0, [3.0]), (-2.0, 2.0, [0.0, 1.0]), (90.0, 95.0, [0.0, 1.0, 2.0])],
)
def test_parts_that_cannot_be_are_mended_as_published(
    start_s: float, end_s: float, wanted: list[float], tmp_path: Path
) -> None:
    _video(tmp_path / "x.mp4", 8)
    _, times_s = read_video(BenchmarkSample("x", "", tmp_path / "x.mp4", "A", start_s=start_s, end_s=end_s))
    assert times_s[:3] == wanted


def test_videos_and_pages_are_found_where_their_archives_put_them(tmp_path: Path) -> None:
    _make_mvbench(tmp_path)
    later = tmp_path / "video" / "data0613" / "star"
    later.parent.mkdir()
    (tmp_path / "video" / "star").rename(later)
    assert any(later in sample.media.parents for sample in mvbench(tmp_path))
    _make_docvqa(tmp_path)
    (tmp_path / "spdocvqa_qas").mkdir()
    (tmp_path / "val_v1.0_withQT.json").rename(tmp_path / "spdocvqa_qas" / "val_v1.0_withQT.json")
    (tmp_path / "documents").rename(tmp_path / "spdocvqa_images")
    (sample,) = docvqa(tmp_path)
    assert sample.media == tmp_path / "spdocvqa_images" / "p.png" and sample.truth == ("1998", "in 1998")


def test_a_long_video_is_spread_over_the_published_number_of_frames(tmp_path: Path) -> None:
    write_clip(tmp_path / "long.mp4", stamps_s=[float(second) for second in range(400)], num_frames=400)
    frames, times_s = read_video(BenchmarkSample("x", "", tmp_path / "long.mp4", "A"))
    assert 150 <= len(frames) <= 180 and times_s[-1] > 380


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leap.mkv", "leap.mp4"])
def test_frames_are_spread_over_what_is_there_where_a_length_is_not_true(name: str, tmp_path: Path) -> None:
    stamps_s = [float(second) for second in range(30)] + [20_000.0 + second for second in range(30)]
    path = write_clip(tmp_path / name, stamps_s=stamps_s)
    frames, _ = read_video(BenchmarkSample("x", "", path, "A"))
    assert {number_of(frame) for frame in frames} == set(range(60)) and len(frames) <= 180
    frames, times_s = read_video(BenchmarkSample("x", "", path, "A", start_s=30_000.0, end_s=30_010.0))
    assert {number_of(frame) for frame in frames} == set(range(60))


def test_frames_of_another_size_in_a_video_are_seen_too(tmp_path: Path) -> None:
    path = write_resized(tmp_path / "call.webm", [(64, 48), (128, 96), (64, 48)], numbered)
    frames, times_s = read_video(BenchmarkSample("x", "", path, "A"))
    assert {frame.shape for frame in frames} == {(96, 128, 3)} and times_s == pytest.approx([0.0, 1.0, 2.0])


def test_a_damaged_video_counts_as_wrong_and_is_counted(tmp_path: Path, engine: Engine) -> None:
    _make_charades(tmp_path)
    (tmp_path / "Charades_v1" / "AB12.mp4").write_bytes(b"no video at all")
    values, _ = run_task(engine, "charades-sta", tmp_path)
    assert values["unreadable"] == 2 and values["metrics"]["mIoU"] == 0


def test_the_json_of_conversations_is_read_too(tmp_path: Path) -> None:
    _make_charades(tmp_path)
    (tmp_path / "charades_sta_test.txt").unlink()
    row = {"question_id": 3, "video": "AB12.mp4", "conversation": [{"content": "When?"}], "timestamps": [[1.0, 2.5]]}
    _write(tmp_path / "charades_annotations_test-random_prompt.json", [row])
    (sample,) = charades_sta(tmp_path)
    assert sample.truth == (1.0, 2.5) and sample.prompt.startswith("When?")


def test_parquet_rows_are_those_of_json(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    _make_video_mme(tmp_path)
    wanted = list(video_mme(tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    (tmp_path / "test.jsonl").unlink()
    assert list(video_mme(tmp_path)) == wanted


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("(C)", "C"),
        ("C. a red ball", "C"),
        ("The answer is D.", "D"),
        ("a red ball", "C"),
        ("A red ball is seen.", "C"),
        ("It shows a dog and then nothing else.", "B"),
        ("", None),
        ("Perhaps.", None),
        ("A", "A"),
    ],
)
def test_the_option_that_an_answer_means(said: str, letter: str | None) -> None:
    assert chosen_letter(said, ["a cat", "a dog", "a red ball", "no idea"]) == letter


def test_intervals_overlap_and_edit_distance() -> None:
    assert intervals_of("10 - 4.5") == [(4.5, 10.0)] and intervals_of("at 7") == []
    assert intervals_of("1.0-2.0 s and 4 to 6") == [(1.0, 2.0), (4.0, 6.0)]
    assert intervals_of("Shape 3: starts at 2 s, ends at 5.5 s") == [(2.0, 5.5)]
    assert overlap([(2, 6)], (2, 6)) == 1 and overlap([(0, 4)], (2, 6)) == pytest.approx(1 / 3)
    assert overlap([], (2, 6)) == overlap([(7, 9)], (2, 6)) == 0
    assert overlap([(2, 4), (8, 10)], (2, 6)) == pytest.approx(1 / 3) and overlap([(2, 2)], (2, 2)) == 1
    assert anls(" Nineteen  ", ["nineteen"]) == 1 and anls("abcd", ["abcx"]) == 0.75
    assert anls("ab", ["xyzq"]) == 0 and anls("", ["x"]) == 0
    assert anls("abx", ["ab  c"]) == pytest.approx(0.6) and anls("abcd", ["abxy"]) == 0.5


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (lambda folder: None, "videomme", "holds none of"),
        (lambda folder: _write(folder / "json" / "other.json", []), "mvbench", "no json/TASK.json"),
        (lambda folder: _write(folder / "charades_sta_test.txt", "AB12 2.0\n"), "charades-sta", "line 1"),
        (lambda folder: _write(folder / "val.jsonl", '{"image": "p.png"}'), "docvqa", "no such picture"),
        (lambda folder: _write(folder / "val.jsonl", "["), "docvqa", "records in JSON"),
        (lambda folder: _write(folder / "test.jsonl", "{}"), "videomme-subtitles", "no folder subtitles"),
    ],
)
def test_what_is_not_as_published_is_one_clear_error(
    make: Callable[[Path], None], name: str, message: str, tmp_path: Path, engine: Engine
) -> None:
    make(tmp_path)
    with pytest.raises(AssistantError, match=message):
        run_task(engine, name, tmp_path)


def test_an_unknown_task_is_named() -> None:
    assert task_named("Charades_STA") is TASKS["charades-sta"]
    with pytest.raises(ConfigError, match="known are videomme"):
        task_named("imagenet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "mvbench"], "give both options"),
        (["--task", "imagenet", "--data", "."], "known are videomme"),
        (["--what", "cats"], "known are triggers"),
        (["--clips", ".", "--planted", "x"], "--planted 'x'"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["evaluate", *arguments]) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.slow
def test_the_command_line_scores_a_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _make_docvqa(tmp_path)
    assert app.run(["evaluate", "--task", "docvqa", "--data", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["questions"] == 1
