"""Files of a run are opened and closed together, and signals end it properly."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from assistant.commands.output_files import Fanout, open_outputs
from assistant.commands.signals import stopping
from assistant.config.app import OutputConfig
from assistant.errors import StoreError
from assistant.events import Comment
from assistant.sinks import read_events
from tests.assistant.fakes import FakeSink


class BrokenSink(FakeSink):
    """One whose disk is full."""

    def close(self) -> None:
        raise OSError("disk full")


class FakeRunner:
    """Counts how often it was stopped."""

    num_stops = 0

    def stop(self) -> None:
        self.num_stops += 1


def test_each_file_that_is_wanted_is_written(tmp_path: Path) -> None:
    config = OutputConfig(events=tmp_path / "e.jsonl", vtt=tmp_path / "s.vtt", srt=tmp_path / "s.srt")
    remark = Comment(source="clip.mp4", time_s=1.0, text="A ball.")
    sink = Fanout(open_outputs(config))
    sink.append(remark)
    sink.close()
    assert list(read_events(tmp_path / "e.jsonl")) == [remark]
    assert "A ball." in (tmp_path / "s.vtt").read_text() and "A ball." in (tmp_path / "s.srt").read_text()
    assert open_outputs(OutputConfig()) == []


def test_one_file_that_cannot_be_written_leaves_none_open(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        open_outputs(OutputConfig(events=tmp_path / "e.jsonl", vtt=tmp_path / "nowhere" / "s.vtt"))
    open_outputs(OutputConfig(events=tmp_path / "e.jsonl"))[0].close()


def test_all_sinks_are_closed_even_if_one_fails() -> None:
    first, last = FakeSink(), FakeSink()
    with pytest.raises(OSError, match="disk full"):
        Fanout([first, BrokenSink(), last]).close()
    assert (first.closed, last.closed) == (1, 1)


def test_sigterm_stops_and_a_second_ctrl_c_ends_at_once() -> None:
    runner, before = FakeRunner(), signal.getsignal(signal.SIGTERM)
    with stopping(runner):
        signal.raise_signal(signal.SIGTERM)
        assert runner.num_stops == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_first_ctrl_c_only_stops() -> None:
    runner = FakeRunner()
    with stopping(runner):
        signal.raise_signal(signal.SIGINT)
    assert runner.num_stops == 1
