"""Settings of a live session: which values are refused, and the largest cost of a frame's wrapper."""

from __future__ import annotations

from typing import Any

import pytest

from models.checkpoint.loader import load_checkpoint
from models.checkpoint.settings import LONGEST_SHOWN_TIME_S, SpeakingSettings, StreamSettings
from models.errors import SettingsError
from models.eviction import WindowSettings
from models.session.tokenizer import StreamTokenizer
from streaming.difffp.refresh import FRAME_OVERHEAD_TOKENS

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    "values",
    [
        {"platt_scale": NAN},
        {"platt_scale": INFINITY},
        {"platt_shift": NAN},
        {"refractory_s": -1.0},
        {"refractory_s": NAN},
        {"hysteresis": INFINITY},
        {"remarks_per_s": NAN},
        {"max_comment_tokens": 0},
        {"max_answer_tokens": -5},
    ],
)
def test_speaking_that_cannot_be_followed_is_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(SettingsError, match=f"^{name} .*: .*; "):
        SpeakingSettings(**values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"max_shown_time_s": INFINITY}, "max_shown_time_s inf"),
        ({"max_shown_time_s": 20_000.0}, "max_shown_time_s 20000"),
        ({"max_shown_time_s": NAN}, "max_shown_time_s nan"),
        ({"rebase_keep_s": 136.0}, "rebase_keep_s 136"),
        ({"fps": NAN}, "fps nan"),
        ({"speaking": SpeakingSettings(max_answer_tokens=2000)}, "a turn of up to 2000 tokens"),
        ({"speaking": SpeakingSettings(), "window": WindowSettings(text_low=200)}, "at most text_low 200"),
    ],
)
def test_streams_that_cannot_be_kept_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        StreamSettings(**values)


def test_a_frames_wrapper_costs_no_more_than_the_windows_allow_for() -> None:
    codec = StreamTokenizer(load_checkpoint(device="cpu", progress=False))
    for time_s in (0.0, 99.5, 179.967, LONGEST_SHOWN_TIME_S):
        assert len(codec.frame_head(time_s)) + len(codec.frame_tail) <= FRAME_OVERHEAD_TOKENS


def test_three_quarters_of_the_shown_time_may_be_kept() -> None:
    assert StreamSettings(max_shown_time_s=180.0, rebase_keep_s=135.0).rebase_keep_s == 135.0
