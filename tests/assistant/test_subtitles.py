"""Subtitles read back whole, by a strict reader here and by FFmpeg's."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Literal

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.errors import StoreError
from assistant.events import Answer, Comment, StatusEvent, StatusKind, StreamEvent
from assistant.subtitles import Cue, SubtitleWriter

Form = Literal["vtt", "srt"]
forms = pytest.mark.parametrize("form", ["vtt", "srt"])
STAMP = r"(\d{2,}):([0-5]\d):([0-5]\d)%s(\d{3})"


def read_cues(path: Path, form: Form) -> list[Cue]:
    """The cues of a file; refuses what the formats do not allow."""
    text = path.read_text(encoding="utf-8")
    stamp = STAMP % (re.escape("." if form == "vtt" else ","))
    if form == "vtt":
        assert text.startswith("WEBVTT\n\n")
        text = text.removeprefix("WEBVTT\n\n")
    assert text == "" or text.endswith("\n\n")
    cues: list[Cue] = []
    for number, block in enumerate(text.split("\n\n")[:-1], start=1):
        lines = block.split("\n")
        if form == "srt":
            assert lines.pop(0) == str(number)
        timing = re.fullmatch(f"{stamp} --> {stamp}", lines.pop(0))
        assert timing is not None and lines and all(lines) and not any("-->" in line for line in lines)
        start_ms, end_ms = (_ms(timing.groups()[i : i + 4]) for i in (0, 4))
        assert start_ms < end_ms and (not cues or start_ms >= cues[-1].end_ms)
        body = "\n".join(lines)
        assert form == "srt" or not re.search(r"[<>]|&(?!amp;|lt;|gt;)", body)
        cues.append(Cue(start_ms, end_ms, html.unescape(body) if form == "vtt" else body))
    return cues


def _ms(groups: tuple[str, ...]) -> int:
    hours, minutes, seconds, ms = map(int, groups)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms


def write(path: Path, form: Form, events: list[StreamEvent]) -> list[Cue]:
    writer = SubtitleWriter(path, form)
    for event in events:
        writer.append(event)
    writer.close()
    return read_cues(path, form)


def said(time_s: float, text: str) -> Comment:
    return Comment(source="clip.mp4", time_s=time_s, text=text)


@forms
def test_a_cue_ends_at_the_next_one_or_after_four_seconds(tmp_path: Path, form: Form) -> None:
    cues = write(tmp_path / "s", form, [said(1.0, "One."), said(2.5, "Two."), said(60.0, "Three.")])
    assert cues == [Cue(1000, 2500, "One."), Cue(2500, 6500, "Two."), Cue(60_000, 64_000, "Three.")]


@forms
def test_times_past_an_hour_and_past_a_hundred_hours(tmp_path: Path, form: Form) -> None:
    cues = write(tmp_path / "s", form, [said(3723.4, "Late."), said(400_000.0, "Later.")])
    assert [cue.start_ms for cue in cues] == [3_723_400, 400_000_000]


@forms
def test_an_answer_is_shown_with_its_question_and_status_is_not(tmp_path: Path, form: Form) -> None:
    events: list[StreamEvent] = [
        StatusEvent(source="a", time_s=0.0, text="opened", kind=StatusKind.OPENED),
        Answer(source="a", time_s=3.0, text="A cat.", question="What\nis it?", asked_at_s=3.2),
        said(3.0, "It sleeps."),
    ]
    assert write(tmp_path / "s", form, events) == [Cue(3000, 7000, "Q: What is it?\nA cat.\nIt sleeps.")]


@forms
def test_time_that_jumps_back_keeps_the_file_in_order(tmp_path: Path, form: Form) -> None:
    cues = write(tmp_path / "s", form, [said(10.0, "First."), said(2.0, "Second."), said(11.0, "Third.")])
    assert cues == [Cue(10_000, 11_000, "First.\nSecond."), Cue(11_000, 15_000, "Third.")]


def test_marks_that_the_formats_own_are_defused(tmp_path: Path) -> None:
    text = "a --> b <i>&amp;\n\n2\n00:00:01,000 --> 00:00:02,000\u2028x\x00"
    (cue,) = write(tmp_path / "v", "vtt", [said(0.0, text)])
    assert cue.text == "a --> b <i>&amp; 2 00:00:01,000 --> 00:00:02,000 x"
    (cue,) = write(tmp_path / "s", "srt", [said(0.0, text)])
    assert cue.text == "a -> b <i>&amp; 2 00:00:01,000 -> 00:00:02,000 x"


@forms
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.text(max_size=30)), max_size=8))
def test_anything_said_reads_back_in_both_readers(tmp_path: Path, form: Form, spoken: list[tuple[float, str]]) -> None:
    path = tmp_path / f"any.{form}"
    cues = write(path, form, [said(time_s, text) for time_s, text in spoken])
    if cues:
        assert cues_of_ffmpeg(path, form) == [cue.start_ms for cue in cues]


def cues_of_ffmpeg(path: Path, form: Form) -> list[int]:
    with av.open(str(path), format="webvtt" if form == "vtt" else "srt") as container:
        base = container.streams[0].time_base
        assert base is not None
        return [round(packet.pts * base * 1000) for packet in container.demux() if packet.pts is not None]


@forms
def test_a_killed_run_leaves_a_file_that_reads(tmp_path: Path, form: Form) -> None:
    writer = SubtitleWriter(tmp_path / "s", form)
    for second in range(5):
        writer.append(said(second, f"Remark {second}."))
    assert [cue.text for cue in read_cues(tmp_path / "s", form)] == [f"Remark {second}." for second in range(4)]
    writer.close()
    writer.close()


@forms
def test_nothing_said_is_an_empty_file_of_its_kind(tmp_path: Path, form: Form) -> None:
    assert write(tmp_path / "s", form, [said(1.0, " \n ")]) == []


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        SubtitleWriter(tmp_path / "nowhere" / "a.vtt", "vtt")
