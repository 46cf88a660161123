"""A stream's events said aloud, and the announcer's news as status events."""

from __future__ import annotations

import pytest

from assistant.errors import ConfigError
from assistant.events import Alert, Answer, Comment, StatusEvent, StatusKind
from assistant.speech.aloud import MOST_NEWS, SpeakingSink, SpeechLog, spoken_kinds
from assistant.speech.announcements import Announcement, Dropped, SpokenKind, Unspoken
from assistant.speech.announcer import Announcer
from assistant.speech.errors import NoAudio
from streaming.clock import FakeClock
from tests.speech.fakes import FakeOutput, FakeVoice

WAIT_S = 20.0
EVENTS = (
    Comment(source="door", time_s=1.0, text="One came."),
    Answer(source="door", time_s=2.0, text="On the left.", question="Where?", asked_at_s=2.0),
    Alert(source="door", time_s=3.0, text="Smoke!"),
    StatusEvent(source="door", time_s=4.0, text="gap", kind=StatusKind.GAP),
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("remarks", "answers", "alerts"), ["On the left.", "Smoke!", "One came."]),
        (("alerts",), ["Smoke!"]),
        ((), []),
    ],
)
def test_the_wanted_kinds_are_said_and_no_status(words: tuple[str, ...], said: list[str]) -> None:
    clock, voice = FakeClock(), FakeVoice()
    log, told = SpeechLog(), list[StatusEvent]()
    announcer = Announcer(voice, FakeOutput(clock), log)
    sink = SpeakingSink(announcer, log, spoken_kinds(words), told.append)
    for event in EVENTS:
        sink.append(event)
    announcer.start()
    assert announcer.drain(WAIT_S) and announcer.stop(WAIT_S)
    sink.close()
    assert voice.texts == said and told == []


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'songs': it must be among alerts, answers, remarks"):
        spoken_kinds(["remarks", "songs"])


def test_what_was_not_said_and_a_lost_device_become_status_events_at_the_stream_s_time() -> None:
    log, told = SpeechLog(), list[StatusEvent]()
    sink = SpeakingSink(Announcer(FakeVoice(), FakeOutput(FakeClock()), log), log, frozenset(), told.append)
    remark = Announcement.of_text(SpokenKind.REMARK, "One came.", 0.0, "door")
    log.on_dropped(Dropped(remark, Unspoken.STALE, 5.0))
    for _ in range(2):
        log.on_trouble(NoAudio("audio: no device is there"))
    sink.append(EVENTS[0])
    unsaid, audio = told
    assert (unsaid.kind, unsaid.source, unsaid.time_s) == (StatusKind.UNSPOKEN, "door", 1.0)
    assert unsaid.details == {"why": "stale", "what": "remark", "after_s": 5.0, "said": 0, "words": "One came."}
    assert (audio.kind, audio.text) == (StatusKind.AUDIO, "audio: no device is there")


def test_news_that_nobody_takes_are_bounded_and_counted() -> None:
    log = SpeechLog()
    for number in range(MOST_NEWS + 3):
        log.on_change(f"device {number}")
    assert log.num_lost == 3 and len(log.take()) == MOST_NEWS and log.take() == []
