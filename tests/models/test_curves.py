"""The curves of a training run are drawn from its log, including one that a killed run left unfinished."""

from __future__ import annotations

import json
from pathlib import Path

from models.training.curves import draw_curves, read_log


def _line(stage: str, step: int, **values: float | None) -> str:
    return json.dumps({"stage": stage, "step": step, **values})


def test_an_unfinished_last_line_is_left_out_and_the_rest_is_drawn(tmp_path: Path) -> None:
    log, picture = tmp_path / "log.jsonl", tmp_path / "loss.png"
    whole = [_line("sight", 10, loss=2.0, cells=1.0, text_right=None), _line("all", 10, loss=1.0, text_right=0.5)]
    log.write_text("\n".join([*whole, '{"stage": "all", "st']))
    assert [line["stage"] for line in read_log(log)] == ["sight", "all"]
    draw_curves(log, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_steps_done_again_count_once(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join([_line("all", 10, loss=3.0), _line("all", 20, loss=2.5), _line("all", 10, loss=2.0)]))
    assert [(line["step"], line["loss"]) for line in read_log(log)] == [(10, 2.0), (20, 2.5)]


def test_an_empty_log_draws_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("")
    draw_curves(log, tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()
