"""Push to talk: what is said between two presses is a question, and a terminal's keys press."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from assistant.commands.listening import listening
from assistant.config.app import load_config
from assistant.config.voice import VoiceConfig
from assistant.errors import ConfigError
from assistant.speech.errors import NoAudio
from assistant.speech.heard import Intent
from assistant.speech.listener import Listener
from assistant.speech.push_to_talk import MOST_TALK_S, KeyPresses, PressedFilter, PressedSpeech, TalkButton, TerminalKey
from assistant.speech.recognisers import RATE_HZ
from assistant.speech.sound import joined, silence
from streaming.clock import FakeClock
from tests.speech.test_listening import WAIT_S, Microphone, Taken, Words, tone

TENTH = RATE_HZ // 10


class Pressing(Microphone):
    """A microphone whose owner presses the button at some of its blocks."""

    def __init__(self, seconds: float, button: TalkButton, *presses: int) -> None:
        super().__init__(joined([tone(seconds), silence(0.1, RATE_HZ)]))
        self._button, self._presses, self._number = button, presses, 0

    def read(self) -> np.ndarray:
        if self._number in self._presses:
            self._button.press()
        self._number += 1
        return super().read()


def test_only_what_was_said_between_two_presses_is_taken_without_a_phrase() -> None:
    button, taken, clock = TalkButton(), Taken(), FakeClock()
    words = Words("What is on the left?", "", "stop")
    microphone = Pressing(8.0, button, 5, 15, 30, 40, 50, 60)
    listener = Listener(microphone, PressedSpeech(button), PressedFilter(words), taken, clock=clock)
    listener.start()
    listener._thread.join(WAIT_S)
    assert listener.stop(WAIT_S) and listener.failure is None
    assert [heard.text or heard.intent for heard in taken.heard] == ["What is on the left?", "stop"]
    assert taken.heard[1].intent is Intent.STOP and taken.ignored == [("", "no_words")]
    assert not words.texts and microphone.is_closed


def test_a_question_is_as_long_as_its_press_and_ends_by_itself() -> None:
    told: list[bool] = []
    button = TalkButton(told.append)
    speech = PressedSpeech(button)
    block = np.ones(TENTH, np.float32)
    assert speech.feed(block) == []
    button.press()
    assert [speech.feed(block) for _ in range(5)] == [[]] * 5
    button.press()
    (sound,) = speech.feed(block)
    assert sound.duration_s == pytest.approx(0.6)
    button.press()
    button.press()
    assert speech.feed(block) == [], "a mistake"
    button.press()
    (long,) = [sound for _ in range(int(10 * MOST_TALK_S)) for sound in speech.feed(block)]
    assert long.duration_s == pytest.approx(MOST_TALK_S) and not button.is_down
    assert told == [True, False] * 3


def test_a_key_that_is_held_repeats_and_is_let_go_when_it_does_not() -> None:
    changes, clock = list[bool](), FakeClock()
    presses = KeyPresses(TalkButton(changes.append), clock.now_s)
    presses.typed()
    for _ in range(20):
        clock.advance(0.5)
        presses.typed()
        presses.look()
    assert changes == [True]
    clock.advance(0.8)
    presses.look()
    assert changes == [True, False]
    presses.typed()
    clock.advance(60.0)
    presses.look()
    assert changes == [True, False, True], "one that was pressed once stays down"
    presses.typed()
    assert changes[-1] is False


def test_a_terminal_s_space_and_enter_press_and_it_is_left_as_it_was() -> None:
    termios = pytest.importorskip("termios")
    changes: list[bool] = []
    changed, clock = threading.Semaphore(0), FakeClock()

    def on_change(is_down: bool) -> None:
        changes.append(is_down)
        changed.release()

    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    with os.fdopen(theirs, "rb", buffering=0) as terminal:
        key = TerminalKey(TalkButton(on_change), terminal, clock)
        for typed in (b"x", b" ", b"\n"):
            os.write(ours, typed)
            assert typed == b"x" or changed.acquire(timeout=WAIT_S)
            clock.advance(2.0)
        key.close()
        assert changes == [True, False] and termios.tcgetattr(terminal.fileno()) == before
    os.close(ours)


def test_without_a_terminal_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with open(os.devnull, "rb") as nothing, pytest.raises(NoAudio, match="standard input is no terminal"):
        TerminalKey(TalkButton(), nothing, FakeClock())
    with listening(VoiceConfig(listen="push-to-talk"), lambda *given: None, None, FakeClock(), print) as listener:  # type: ignore[arg-type]
        assert listener is None
    assert capsys.readouterr().err.count("\n") == 1


def test_both_ways_of_listening_at_once_are_refused() -> None:
    from assistant.commands.voice_options import listen_overrides

    assert load_config(None, {"voice": listen_overrides(False, True, None)}).voice.listen == "push-to-talk"
    with pytest.raises(ConfigError, match="--listen waits for the wake phrase instead"):
        listen_overrides(True, True, None)
