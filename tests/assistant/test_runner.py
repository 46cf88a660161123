"""A run from its first item to its last, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from assistant.stream.runner import Runner
from assistant.stream.speaking import CalibratedPolicy
from assistant.stream.stream_session import StreamSession
from models.checkpoint.settings import SpeakingSettings
from streaming.clock import FakeClock
from streaming.errors import SourceError
from streaming.types import Frame, Notice, NoticeKind
from tests.assistant.fakes import FakeEngine, FakeFeed, FakeModel, FakeSink, Look, frame, notice


@dataclass
class Show:
    runner: Runner
    stream: StreamSession
    sink: FakeSink
    model: FakeModel
    clock: FakeClock


def show(*items: Frame | Notice | Exception | Callable[[], None] | None, model: FakeModel | None = None) -> Show:
    clock, sink, model = FakeClock(), FakeSink(), model or FakeModel()
    policy = CalibratedPolicy(SpeakingSettings(decision="trained"), fps=2.0)
    stream = StreamSession(model, policy, clock, sink.append)
    runner = Runner(FakeEngine(clock, 0.01), stream, FakeFeed(items), sink, clock)
    return Show(runner, stream, sink, model, clock)


@dataclass
class FakeUsage:
    num_tokens: int = 50
    capacity: int = 200


def test_a_recording_is_watched_from_opened_to_ended() -> None:
    model = FakeModel({0.5: Look(score=20.0)})
    played = show(
        notice(NoticeKind.OPENED),
        frame(0.0),
        frame(0.5),
        None,
        frame(1.0),
        notice(NoticeKind.ENDED, 1.2, count=37, broken=False),
        model=model,
    )
    played.runner.run()
    assert played.sink.kinds() == ["opened", "comment", "ended"]
    summary = played.runner.summary(FakeUsage())
    assert (summary.frames_read, summary.frames_sampled, summary.frames_used, summary.comments) == (37, 3, 3, 1)
    assert (summary.media_s, summary.cache_tokens, summary.cache_capacity) == (1.0, 50, 200)
    assert summary.wall_s == pytest.approx(played.clock.now_s()) and summary.ms_frame_p50 == pytest.approx(10)
    assert summary.decisions == {"nothing_changed": 2, "spoke": 1}
    assert played.runner.broken is None and not played.runner.was_stopped
    assert "sampled 3" in summary.lines()[0]


def test_a_break_in_the_middle_is_told_and_remembered() -> None:
    played = show(frame(0.0), notice(NoticeKind.ENDED, 0.4, broken=True))
    played.runner.run()
    assert played.runner.broken == "it ended" and played.runner.num_seen == 1
    assert played.runner.warnings == ["it ended; what was seen until then stands"]


def test_what_was_harmed_is_summed_up_in_the_end() -> None:
    played = show(
        frame(0.0),
        notice(NoticeKind.DAMAGED, 0.5, count=2),
        notice(NoticeKind.DAMAGED, 0.7, count=1),
        notice(NoticeKind.GAP, 0.9, jump_s=-3.0),
        notice(NoticeKind.GAP, 4.0, late_s=0.2),
        notice(NoticeKind.GAP, 20.0, jump_s=12.0, gap_s=12.0),
        notice(NoticeKind.ENDED, 21.0, count=9, broken=False),
    )
    played.runner.run()
    lost, jumped, leapt, late = played.runner.warnings
    assert lost == "3 frames lost, first at 0.50 s: it damaged; the rest was seen"
    assert jumped.startswith("its timestamps jump back once, first at 0.90 s;")
    assert leapt.startswith("its timestamps leap ahead once, first by 12.0 s after 20.00 s;")
    assert late == "its timestamps are out of order, first at 4.00 s; the rest was seen"
    assert show(frame(0.0), notice(NoticeKind.ENDED, 1.0)).runner.warnings == []


def test_a_source_that_fails_after_frames_is_an_event() -> None:
    played = show(frame(0.0), SourceError("clip.mp4", "it broke", "mend it"), frame(0.5))
    played.runner.run()
    assert played.sink.kinds() == ["broken"]
    assert played.runner.broken is not None and "it broke" in played.runner.broken
    assert played.model.calls == ["see 0"]


def test_a_source_that_fails_before_any_frame_raises() -> None:
    played = show(notice(NoticeKind.OPENED), SourceError("clip.mp4", "it broke"))
    with pytest.raises(SourceError):
        played.runner.run()


def test_stop_ends_the_run_and_says_so() -> None:
    played: Show
    played = show(frame(0.0), lambda: played.runner.stop(), frame(0.5), frame(1.0))
    played.runner.run()
    assert played.runner.was_stopped
    assert [status.reason for status in played.sink.statuses()] == ["stopped by request"]
    assert "see 1" not in played.model.calls


def test_questions_are_answered_while_the_source_is_silent() -> None:
    played: Show
    played = show(frame(0.0), lambda: played.stream.ask("Anything?"), None, frame(0.5))
    played.runner.run()
    assert played.model.calls == ["see 0", "answer Anything?", "see 0.5"]
