"""The configuration: what is right gets through, what is wrong is named with its rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from assistant.config.app import AppConfig, load_config, parse_mask, parse_question
from assistant.errors import ConfigError
from assistant.stream.question_queue import Question, QuestionQueue
from models.checkpoint.settings import StreamSettings


def from_yaml(tmp_path: Path, text: str, overrides: dict[str, Any] | None = None) -> AppConfig:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def test_defaults_need_no_file() -> None:
    config = load_config(None)
    assert config == AppConfig() and config.model.name == "embedded" and config.source.speed == "max"


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    config = from_yaml(
        tmp_path,
        """
        source: {fps: 4, speed: 1, start_s: 2.5, end_s: 9, loop: 3, masks: [{rectangle: [0.7, 0, 0.3, 0.1]}]}
        model:
          {name: some/where, device: "cuda:1", dtype: bfloat16, stream: {window: {vision_low: 6000, vision_high: 7000}}}
        speaking: {talkative: 1.5, instruct: Only cats.}
        output: {events: out.jsonl, vtt: out.vtt}
        questions: [{at_s: 7, text: "Later?"}, {at_s: 3, text: "Sooner?"}]
        """,
    )
    assert (config.source.fps, config.source.speed, config.source.loop) == (4.0, 1.0, 3)
    assert config.source.masks[0].points[1] == (1.0, 0.0)
    assert config.output.events == Path("out.jsonl") and config.output.srt is None
    assert config.planned_questions() == [Question(3.0, "Sooner?"), Question(7.0, "Later?")]


def test_the_command_line_comes_before_the_file_and_adds_questions(tmp_path: Path) -> None:
    config = from_yaml(
        tmp_path,
        "source: {fps: 4, loop: 2}\nquestions: [{at_s: 1, text: a}]",
        {"source": {"fps": 1.0}, "model": {}, "questions": [parse_question("2:b")], "output": None},
    )
    assert (config.source.fps, config.source.loop) == (1.0, 2)
    assert [question.text for question in config.questions] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sorce: {}", ["sorce", "unknown key", "source, model"]),
        ("source: {fsp: 1}", ["source.fsp", "unknown key", "fps, speed"]),
        ("source: {fps: 50}", ["source.fps 50", "30"]),
        ("source: {fps: 0}", ["source.fps 0", "above 0"]),
        ("source: {fps: .nan}", ["source.fps", "finite"]),
        ("source: {fps: two}", ["source.fps 'two'", "number"]),
        ("source: {speed: fast}", ["source.speed", "'fast'", "max"]),
        ("source: {speed: -1}", ["source.speed -1", "above 0"]),
        ("source: {speed: .inf}", ["source.speed", "above 0"]),
        ("source: {start_s: 4, end_s: 2}", ["end_s 2", "greater than start_s 4"]),
        ("source: {loop: 0}", ["source.loop 0"]),
        ("source: {masks: [{rectangle: [0, 0, 1]}]}", ["source.masks", "4 numbers"]),
        ("source: {masks: 3}", ["source.masks", "a list"]),
        ("source: 4", ["source 4", "keys with values"]),
        ("source: {fps: yes}", ["source.fps True", "not yes or no"]),
        ("source: {loop: on}", ["source.loop", "not yes or no"]),
        ("source: {start_s: 9, end_s: 9}", ["leave out one of them"]),
        ("output: {events: 5}", ["output.events 5", "it must be a file name"]),
        ("questions: [hello]", ["questions.0 'hello'", "keys with values"]),
        ("model: {device: tpu}", ["model.device 'tpu'", "cuda"]),
        ("model: {dtype: int8}", ["model.dtype 'int8'", "bfloat16"]),
        ("model: {stream: {windows: {}}}", ["model.stream", "windows", "known are"]),
        ("model: {stream: {window: {vision_low: 9, vision_high: 3}}}", ["model.stream", "vision_low 9"]),
        ("model: {stream: {window: 4}}", ["model.stream", "window 4", "vision_low"]),
        ("model: {stream: {fps: fast}}", ["model.stream"]),
        ("speaking: {talkative: 100}", ["speaking.talkative 100", "20"]),
        ("speaking: {instruct: ''}", ["speaking.instruct"]),
        ("questions: [{at_s: -1, text: a}]", ["questions.0.at_s -1"]),
        ("questions: [{at: 1, text: a}]", ["questions.0.at", "at_s"]),
        ("- source", ["list", "it must hold sections"]),
        ("source: [", ["YAML", "line 1, column 10: expected"]),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, names: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_yaml(tmp_path, text)
    message = str(caught.value)
    assert "run.yaml" in message and "\n" not in message
    assert all(name in message for name in names), message


def test_a_section_that_is_no_section_is_named_beside_options_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="source 5"):
        from_yaml(tmp_path, "source: 5", {"source": {"fps": 1.0}})
    assert from_yaml(tmp_path, "source:", {"source": {"fps": 1.0}}).source.fps == 1.0
    assert from_yaml(tmp_path, "source:", {"source": {}}).source == AppConfig().source


def test_questions_of_one_time_keep_their_order() -> None:
    config = load_config(None, {"questions": [parse_question(text) for text in ("3:Why?", "3:How?", "1:Who?")]})
    box = QuestionQueue(config.planned_questions())
    asked = [box.pop(3.0) for _ in range(3)]
    assert [question.text for question in asked if question] == ["Who?", "Why?", "How?"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing.yaml"):
        load_config(tmp_path / "missing.yaml")


def test_nothing_changes_later() -> None:
    with pytest.raises(ValidationError):
        AppConfig().source.fps = 3


def test_stream_overrides_lie_over_the_checkpoints_own_settings(tmp_path: Path) -> None:
    config = from_yaml(tmp_path, "model: {stream: {window: {text_low: 512}, max_cells: 64}}")
    own = StreamSettings(border_px=2, fps=1.0)
    merged = config.model.stream_settings(own, fps=4.0)
    assert (merged.border_px, merged.max_cells, merged.fps) == (2, 64, 4.0)
    assert (merged.window.text_low, merged.window.text_high) == (512, own.window.text_high)
    assert AppConfig().model.stream_settings(own) == own


def test_overrides_that_do_not_go_with_this_checkpoint_are_refused(tmp_path: Path) -> None:
    config = from_yaml(tmp_path, "model: {stream: {rebase_keep_s: 100}}")
    with pytest.raises(ConfigError, match="rebase_keep_s"):
        config.model.stream_settings(StreamSettings(max_shown_time_s=90.0))


@pytest.mark.parametrize(
    ("text", "at_s", "question"),
    [
        ("3:What?", 3.0, "What?"),
        (" 12.5 : Is it 3:15? ", 12.5, "Is it 3:15?"),
        (".5:a\nb", 0.5, "a\nb"),
        ("7.:x", 7.0, "x"),
    ],
)
def test_questions_of_the_command_line(text: str, at_s: float, question: str) -> None:
    assert parse_question(text) == {"at_s": at_s, "text": question}


@pytest.mark.parametrize("text", ["", "What?", "3", "3:", "3: ", "-1:What?", "a:b", "1e5:x", "nan:x", ":x", "3;x"])
def test_questions_without_time_or_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="SECONDS:QUESTION"):
        parse_question(text)


def test_masks_of_the_command_line() -> None:
    assert parse_mask("0.7,0,0.3,0.1") == {"rectangle": [0.7, 0.0, 0.3, 0.1]}
    assert parse_mask("px:10,20,30,40") == {"units": "pixels", "rectangle": [10.0, 20.0, 30.0, 40.0]}
    assert parse_mask("0,0 0.5,0 0,0.5") == {"polygon": [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]}
    for bad in ("", "1,2,3", "a,b,c,d", "0,0 1,1", "0,0,0 1,1,1 2,2,2"):
        with pytest.raises(ConfigError, match="--mask"):
            parse_mask(bad)
