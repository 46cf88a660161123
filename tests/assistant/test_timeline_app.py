"""The timeline as a person meets it on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import app
from assistant.timeline.search import Query
from assistant.timeline.sink import ChannelSink
from assistant.timeline.store import Timeline
from streaming.clock import FakeClock, SystemClock
from tests.assistant.timelines import answer, gap, keeper_with, remark

Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    with Timeline(folder, clock=SystemClock()) as timeline:
        sink = ChannelSink(timeline, "door", keeper=keeper_with(4, FakeClock(wall_s=SystemClock().wall_s())))
        sink.append(remark(3, "A red circle\x1b[2J enters."))
        timeline.record(answer("Who?", "Nobody."), camera="hall")
        timeline.record(gap(2.0, 9.0), camera="hall")
        assert len(timeline.search(Query())) == 3
    return folder


def run(capsys: Capsys, *arguments: object) -> tuple[int, str, str]:
    code = app.run(["timeline", *map(str, arguments)])
    caught = capsys.readouterr()
    return code, caught.out, caught.err


def test_search_finds_by_words_and_camera(capsys: Capsys, data: Path) -> None:
    code, out, _ = run(capsys, "search", "red circle", "--since", "30d", "--camera", "door", "--data", data)
    assert code == 0 and "\x1b" not in out and "#1" in out and "[2 frames]" in out and out.count("\n") == 1
    code, out, _ = run(capsys, "search", "--data", data, "--type", "answer", "--json")
    assert code == 0 and json.loads(out)["question"] == "Who?"
    assert run(capsys, "search", "purple", "--data", data) == (0, "", "nothing found\n")
    code, out, _ = run(capsys, "search", "--data", data, "--limit", 2)
    assert [line.split("#")[1][0] for line in out.splitlines()] == ["2", "3"]


def test_export_writes_a_page_with_its_pictures(capsys: Capsys, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    assert run(capsys, "export", "--format", "md", "--out", out, "--data", data) == (0, "", f"3 events to {out}\n")
    assert len(list((tmp_path / "page_files").glob("*.jpg"))) == 2 and "Nobody" in out.read_text(encoding="utf-8")
    code, text, _ = run(capsys, "export", "--format", "vtt", "--data", data, "--camera", "hall")
    assert code == 0 and text.startswith("WEBVTT") and "A: " not in text and "Nobody." in text


def test_recap_counts(capsys: Capsys, data: Path) -> None:
    code, out, _ = run(capsys, "recap", "--since", "30d", "--data", data)
    assert code == 0 and out.startswith("3 events from ") and "  answer 1: at " in out
    code, out, _ = run(capsys, "recap", "--since", "1d", "--camera", "hall", "--json", "--data", data)
    assert code == 0 and json.loads(out)["num_events"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "--since", "soon"], "time 'soon'"),
        (["search", "--type", "remark"], "type 'remark'"),
        (["search", "--limit", "0"], "limit 0"),
        (["export", "--format", "xml"], "--format 'xml'"),
        (["export", "--clip", "1", "--out", "c.mp4"], "recording is off"),
        (["recap", "--prose"], "does not declare"),
        (["search", "--colour"], "--colour"),
    ],
)
def test_mistakes_are_one_line(capsys: Capsys, data: Path, arguments: list[str], said: str) -> None:
    code, _, err = run(capsys, *arguments, "--data", data)
    assert code == 2 and err.count("\n") == 1 and err.startswith("error: ") and said in err


def test_without_a_timeline_it_says_how_one_comes(capsys: Capsys, tmp_path: Path) -> None:
    code, out, err = run(capsys, "search", "--data", tmp_path)
    assert (code, out) == (2, "") and "watching a camera creates one" in err
