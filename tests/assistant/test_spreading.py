"""A question about a clip sees what is really there, whatever the clip says of its length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assistant.inputs import attachments
from assistant.inputs.attachments import read_clip
from tests.clips import number_of, write_clip


@pytest.mark.parametrize("name", ["leap.mkv", "leap.mp4"])
def test_frames_are_spread_over_pictures_not_over_a_length_that_is_not_true(tmp_path: Path, name: str) -> None:
    stamps_s = [index / 10 for index in range(30)] + [10_800.0 + index / 10 for index in range(30)]
    told: list[str] = []
    frames, times_s = read_clip(str(write_clip(tmp_path / name, stamps_s=stamps_s)), 2.0, told.append)
    assert {number_of(frame) for frame in frames} >= {0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55}
    assert len(frames) <= attachments.MOST_FRAMES and times_s == sorted(times_s)
    assert any("leap ahead once" in line for line in told) == name.endswith("mkv")


def test_pictures_that_stand_take_no_place_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MOST_FRAMES", 40)
    stamps_s = [600.0 * index for index in range(10)]
    frames, times_s = read_clip(str(write_clip(tmp_path / "slides.mp4", stamps_s=stamps_s)), 1.0)
    assert {number_of(frame) for frame in frames} == set(range(10))
    assert 20 <= len(frames) <= 40 and times_s == sorted(times_s)
    assert np.diff(times_s).max() <= 600.0


def test_a_short_clip_of_standing_pictures_is_seen_second_by_second(tmp_path: Path) -> None:
    frames, times_s = read_clip(str(write_clip(tmp_path / "slides.mkv", stamps_s=[0.0, 2.5, 9.0])), 1.0)
    assert times_s[:10] == pytest.approx(list(range(10)))
    assert [number_of(frame) for frame in frames[:10]] == [0, 0, 0, 1, 1, 1, 1, 1, 1, 2]
