"""The announcer on a virtual clock: order, interruption, captions, answers that grow, and devices that are lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from assistant.speech.announcements import Freshness, SpokenKind, Unspoken
from assistant.speech.announcer import Announcer
from assistant.speech.errors import NoAudio
from streaming.clock import FakeClock
from tests.speech.fakes import FakeListener, FakeOutput, FakeVoice

REMARK, ALERT, ANSWER = SpokenKind.REMARK, SpokenKind.ALERT, SpokenKind.ANSWER
WAIT_S = 20.0


class Stand:
    """A announcer with fakes. The virtual clock goes on only while something sounds."""

    def __init__(self, **options: object) -> None:
        self.clock = FakeClock()
        self.voice = FakeVoice(bad=("Unsayable.",))
        self.output = FakeOutput(self.clock)
        self.told = FakeListener()
        self.announcer = Announcer(self.voice, self.output, self.told, clock=_Waiting(self.clock), **options)  # type: ignore[arg-type]

    def begin(self, *prepare: Callable[[], object]) -> None:
        """Put things, then start, so that their order does not depend on threads."""
        for each in prepare:
            each()
        self.announcer.start()
        assert self.announcer.drain(WAIT_S)

    @property
    def why(self) -> list[tuple[str, Unspoken]]:
        return [(dropped.announcement.text, dropped.why) for dropped in self.told.dropped]


class _Waiting(FakeClock):
    """A virtual clock whose waits on a condition are real: other threads notify them."""

    def __init__(self, shown: FakeClock) -> None:
        super().__init__()
        self.now_s = shown.now_s  # type: ignore[method-assign]

    def wait_for(self, condition: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        return condition.wait_for(predicate, WAIT_S)


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    yield made
    assert made.announcer.stop(WAIT_S) and made.output.is_closed and made.announcer.failure is None


def test_everything_is_said_one_after_the_other_with_captions(stand: Stand) -> None:
    say = stand.announcer.say
    stand.begin(lambda: say(REMARK, "One came."), lambda: say(ALERT, "Door!", "yard"), lambda: say(REMARK, "It left."))
    assert stand.told.said == ["Door!", "One came.", "It left."] and stand.voice.is_prepared
    assert [caption.source for caption in stand.told.captions if caption] == ["yard", "", ""]
    assert stand.told.captions[-1] is None and stand.output.rests == [False] * 3
    ends = [end for _, end in stand.output.heard]
    assert all(begin >= end for (begin, _), end in zip(stand.output.heard[1:], ends, strict=False))
    assert stand.announcer.num_said == 3 and not stand.announcer.is_speaking


def test_an_alert_interrupts_a_remark(stand: Stand) -> None:
    stand.output.during[0] = lambda: stand.announcer.say(ALERT, "Door!")
    stand.begin(lambda: stand.announcer.say(REMARK, "A person walks by."))
    assert stand.told.said == ["A person walks by.", "Door!"]
    assert stand.why == [("A person walks by.", Unspoken.INTERRUPTED)] and stand.output.rests == [True, False]


def test_a_question_interrupts_a_remark_and_an_alert_which_is_said_again_after_the_answer(stand: Stand) -> None:
    def question() -> None:
        stand.announcer.say(REMARK, "It is quiet.")
        answer = stand.announcer.await_answer()
        answer.add("On the ")
        answer.add("left.")
        answer.end()

    stand.output.during[0] = question
    stand.begin(lambda: stand.announcer.say(ALERT, "Door!"))
    assert stand.told.said == ["Door!", "On the left.", "Door!", "It is quiet."]
    assert stand.why == [("Door!", Unspoken.INTERRUPTED)]


def test_neither_an_alert_nor_a_remark_interrupts_an_answer(stand: Stand) -> None:
    stand.output.during[0] = lambda: stand.announcer.say(ALERT, "Door!")
    stand.begin(lambda: stand.announcer.say(ANSWER, "It is on the left."))
    assert stand.told.said == ["It is on the left.", "Door!"] and stand.why == []


def test_speech_begins_with_the_first_clause_while_the_rest_is_generated(stand: Stand) -> None:
    made: list[int] = []
    answer = stand.announcer.await_answer()

    def rest() -> None:
        made.append(stand.output.num_played)
        answer.add("one left. ")
        answer.end()

    stand.output.during[0] = rest
    stand.begin(lambda: answer.add("Two people came in, "))
    assert stand.told.said == ["Two people came in,", "one left."] and made == [1]
    assert stand.told.captions[1] is not None and stand.told.captions[1].whole == "Two people came in, one left. "


def test_a_remark_whose_turn_comes_late_is_dropped_not_said(stand: Stand) -> None:
    long = "A very long remark " * 8
    stand.begin(*(partial(stand.announcer.say, REMARK, text) for text in (long, "Late.")))
    assert "Late." not in stand.told.said
    assert stand.why == [("Late.", Unspoken.STALE)] and stand.announcer.counts["stale"] == 1


def test_silence_on_request_drops_what_waits_and_what_is_said(stand: Stand) -> None:
    stand.output.during[0] = stand.announcer.hush
    stand.begin(
        lambda: stand.announcer.say(ANSWER, "It is on the left."), lambda: stand.announcer.say(REMARK, "One came.")
    )
    assert stand.told.said == ["It is on the left."]
    assert stand.why == [("One came.", Unspoken.HUSHED), ("It is on the left.", Unspoken.HUSHED)]


def test_the_last_one_is_said_again_on_request(stand: Stand) -> None:
    assert not stand.announcer.repeat()
    stand.begin(lambda: stand.announcer.say(REMARK, "One came."))
    assert stand.announcer.repeat() and stand.announcer.drain(WAIT_S)
    assert stand.told.said == ["One came."] * 2


def test_what_was_said_lately_is_known_for_a_while(stand: Stand) -> None:
    stand.begin(lambda: stand.announcer.say(REMARK, "One came."))
    assert stand.announcer.said_lately() == "One came."
    stand.clock.advance(60.0)
    assert stand.announcer.said_lately() == ""


def test_what_a_voice_cannot_say_is_told_and_the_next_is_said(stand: Stand) -> None:
    stand.begin(*(partial(stand.announcer.say, REMARK, text) for text in ("Unsayable.", "One came.")))
    assert stand.output.num_played == 1 and "cannot say it" in str(stand.told.troubles[0])
    assert stand.why == [("Unsayable.", Unspoken.VOICE_FAILED)]


def test_a_lost_device_is_told_and_speech_goes_on_when_it_is_back(stand: Stand) -> None:
    stand.output.lost.add(0)
    stand.begin(*(partial(stand.announcer.say, REMARK, text) for text in ("One came.", "It left.")))
    assert "pulled out" in str(stand.told.troubles[0]) and stand.why == [("One came.", Unspoken.NO_DEVICE)]
    assert len(stand.output.heard) == 1


def test_rate_and_volume_reach_the_voice_and_the_samples() -> None:
    stand = Stand(rate=2.0, volume=0.5)
    stand.begin(lambda: stand.announcer.say(REMARK, "1234567890"))
    ((begin, end),) = stand.output.heard
    assert end - begin == pytest.approx(0.25) and stand.output.peaks == [0.25]
    assert stand.announcer.stop(WAIT_S)


def test_more_than_may_wait_is_told() -> None:
    stand = Stand(freshness=Freshness(most_waiting=1))
    stand.begin(*(partial(stand.announcer.say, REMARK, text) for text in ("One came.", "It left.")))
    assert stand.told.said == ["It left."] and stand.why == [("One came.", Unspoken.CROWDED)]
    assert stand.announcer.stop(WAIT_S)


def test_stopping_in_the_middle_ends_the_thread(stand: Stand) -> None:
    began, may_go_on = threading.Event(), threading.Event()

    def middle() -> None:
        began.set()
        may_go_on.wait(WAIT_S)

    stand.output.during[0] = middle
    stand.announcer.start()
    stand.announcer.say(REMARK, "A person walks by.")
    assert began.wait(WAIT_S) and not stand.announcer.stop(0.0)
    may_go_on.set()
    assert stand.announcer.stop(WAIT_S)
    stand.announcer.say(REMARK, "Never said.")
    assert stand.told.said == ["A person walks by."]


def test_a_fault_of_a_listener_is_kept_for_the_owner() -> None:
    stand = Stand()
    stand.told.on_caption = lambda caption: [][1]  # type: ignore[method-assign]
    stand.announcer.start()
    stand.announcer.say(REMARK, "One came.")
    assert stand.announcer.drain(WAIT_S) and isinstance(stand.announcer.failure, IndexError)
    assert stand.announcer.stop(WAIT_S) and stand.output.is_closed


def test_no_device_at_all_is_told_for_each_utterance() -> None:
    stand = Stand()

    def none(*_: object) -> bool:
        raise NoAudio("audio: none is there; connect one")

    stand.output.play = none  # type: ignore[method-assign, assignment]
    stand.begin(lambda: stand.announcer.say(ALERT, "Door!"))
    assert stand.why == [("Door!", Unspoken.NO_DEVICE)] and stand.announcer.stop(WAIT_S)
