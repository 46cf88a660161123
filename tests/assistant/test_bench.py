"""The speed table: its rows and their targets, what it prints, and rows measured from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from app import run
from assistant.speed import gpu_rows
from assistant.speed.measuring import all_rows, measure
from assistant.speed.plots import draw_plots
from assistant.speed.rows import Measured, Row, RowSpec, Target, row_of, table
from assistant.speed.workbench import BenchSettings, Workbench, endless

KEYS = {"name", "value", "baseline", "ratio", "target", "passed"}
CPU_ROWS = {
    "frame", "frame-noise", "plain-path", "token", "cameras-8", "tokens-8", "rules-10", "checks-10", "late", "memory",
    "skipped", "eviction", "rebase", "rebase-ahead", "start", "4k", "capture",
}  # fmt: skip


def spec(name: str = "row", target: Target = Target("ratio", 0.5), values: Measured = Measured([1.0])) -> RowSpec:
    return RowSpec(name, "a figure", "for a baseline", "ms", target, lambda bench: values)


def test_every_figure_is_a_row_with_its_own_name() -> None:
    names = [row.name for row in all_rows()]
    assert len(set(names)) == len(names)
    assert set(names) >= CPU_ROWS | {"2b-token", "7b-token", "2b-frame", "2b-cameras-100", "2b-talkers-16"}
    assert [row.name for row in all_rows("7b")] == [name for name in names if name.startswith("7b-")]
    assert all(row.on_gpu == (row.name not in CPU_ROWS) for row in all_rows())


@pytest.mark.parametrize(
    ("target", "values", "baselines", "passed"),
    [
        (Target("ratio", 0.5), [1.0, 2.0, 3.0], [4.0], True),
        (Target("ratio", 0.5), [3.0], [4.0], False),
        (Target("ratio", 2.0, at_least=True), [8.0], [4.0], True),
        (Target("ratio", 2.0, at_least=True), [7.0], [4.0], False),
        (Target("value", 3.0), [2.5], [], True),
        (Target("value", 3.0), [3.5], [100.0], False),
        (Target("ratio", 0.5), [1.0], [math.nan], False),
    ],
)
def test_a_row_compares_medians_with_its_target(
    target: Target, values: list[float], baselines: list[float], passed: bool
) -> None:
    assert row_of(spec(target=target), Measured(values, baselines)).passed is passed


def test_the_table_has_a_line_a_row_and_waiting_rows_say_so() -> None:
    rows = [
        row_of(spec("one"), Measured([1.0, 2.0, 3.0], [8.0, 8.0], "a remark")),
        Row(spec("two", Target("value", 3.0))),
    ]
    lines = table(rows).splitlines()
    assert lines[0].split() == ["row", "measured", "baseline", "ratio", "target"]
    assert "2 ms ±25 %" in lines[1] and "8 ms ±0 % for a baseline" in lines[1] and "1/4" in lines[1]
    assert lines[1].endswith("reached") and "waiting" in lines[2] and "at most 3 ms" in lines[2]
    assert lines[-1] == "one: a remark"
    assert rows[1].as_dict() == dict.fromkeys(KEYS) | {"name": "two", "target": "at most 3 ms"}


def test_rows_for_a_gpu_wait_where_no_weights_were_asked_for() -> None:
    bench = Workbench(BenchSettings())
    (waiting,) = measure(bench, [row for row in all_rows() if row.name == "2b-token"])
    assert waiting.value is None and waiting.passed is None
    assert "engine" not in vars(bench), "nothing is loaded for it"


def test_rounds_end_when_the_time_is_over() -> None:
    assert len(list(Workbench(BenchSettings(rounds=3, seconds=1000)).rounds())) == 3
    assert len(list(Workbench(BenchSettings(rounds=1000, seconds=1e-9)).rounds())) == 1


def test_pictures_go_forwards_and_backwards() -> None:
    pictures: list[Any] = [0, 1, 2]
    shown = endless(pictures, start=1)
    assert [next(shown) for _ in range(6)] == [1, 2, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--rows", "frame,nonsense"], ["'nonsense'", "frame-noise"]),
        (["--rounds", "0"], ["--rounds 0"]),
        (["--seconds", "0"], ["--seconds 0"]),
        (["--random-weights", "3b"], ["'3b'", "2b, 7b"]),
        (["--rows", "skipped", "--clips", "/nowhere"], ["/nowhere", "no clip"]),
    ],
)
def test_bad_options_are_refused_in_one_line(
    given: list[str], named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(text in line for text in named)


@pytest.mark.slow
def test_a_row_is_measured_from_end_to_end_and_drawn(tmp_path: Path) -> None:
    bench = Workbench(BenchSettings(rounds=1, seconds=1.0))
    rows = measure(bench, [row for row in all_rows() if row.name == "skipped"])
    (found,) = [row.as_dict() for row in rows]
    assert set(found) == KEYS and found["value"] > 0 and found["baseline"] > found["value"]
    bench.kept |= {"curve": [(number, 1.0) for number in range(50)]}
    rows = [row_of(spec(), Measured([3.0], [4.0], parts={"prune": 1.0, "encode": 2.0}))]
    drawn = draw_plots(bench, rows, tmp_path / "new")
    assert [path.name for path in drawn] == ["speed_frames.png", "speed_parts.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


@pytest.mark.slow
def test_rows_of_a_gpu_are_measured_on_tiny_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_rows, "NUM_CAMERAS", 3)
    monkeypatch.setattr(gpu_rows, "NUM_TALKERS", 1)
    monkeypatch.setattr(gpu_rows, "FRAMES_A_ROUND", 2)
    options = ["--random-weights", "tiny", "--device", "cpu", "--rounds", "1", "--seconds", "0.2"]
    assert run(["bench", *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [row.name for row in all_rows("tiny")]
    assert all(set(row) == KEYS and row["value"] > 0 for row in rows)
    assert rows[0]["baseline"] > 0
