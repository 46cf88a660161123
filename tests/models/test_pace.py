"""The benchmark of a session's speed runs on any machine and prints its figures."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.pace.__main__ import main

FIGURES = {"frame_ms", "difffp_ms", "encode_ms", "append_decide_ms", "near_ms", "eviction_ms", "answer_first_ms"}
FIGURES |= {"comment_first_ms", "token_ms", "check_ms", "rebase_ms"}
PLAIN = {"frames", "used", "tokens_a_frame", "rebase_tokens", "fps", "fps_talking", "cache_tokens"}


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in _numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def test_every_figure_is_there_and_means_something(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny", "--device", "cpu", "--frames", "10", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["size"] == "tiny" and values["device"] == "cpu" and values["num_parameters"] > 0
    assert values["whole"]["cells_kept"] == values["cells"] > 2 * values["few"]["cells_kept"]
    for name in ("whole", "few"):
        found = values[name]
        assert set(found) >= FIGURES | PLAIN
        assert all(set(found[figure]) == {"p50", "p95", "n"} for figure in FIGURES)
        assert found["peak_bytes"] is None and found["cache_tokens"] > values["vision_low"] / 2
        numbers = [number for key in FIGURES | PLAIN for number in _numbers(found[key])]
        assert all(math.isfinite(number) and number > 0 for number in numbers)


@pytest.mark.parametrize("wrong", [["--frames", "3"], ["--device", "cuda:99"], ["huge"]])
def test_bad_input_ends_with_two(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2 and wrong[-1] in capsys.readouterr().err
