"""Listens for spoken questions on this machine, where it has a microphone. For the main thread."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from assistant.commands.terminal import warn
from assistant.errors import AssistantError
from assistant.speech.detector import SileroDetector, SpeechSegmenter
from assistant.speech.devices import SteadyInput, device_input
from assistant.speech.errors import NoRecogniser, SpeechError
from assistant.speech.heard import Heard
from assistant.speech.listener import CutsOutSpeech, JudgesSpeech, Listener, QuestionFilter, obey
from assistant.speech.push_to_talk import PressedFilter, PressedSpeech, TalkButton, TerminalKey
from assistant.speech.recognisers import recogniser_named, why_deaf
from assistant.stream.question_queue import PendingQuestion

if TYPE_CHECKING:
    from assistant.commands.speaking import SpeakingAloud
    from assistant.config.voice import VoiceConfig
    from streaming.clock import Clock

Ask = Callable[[str, Callable[[str], None]], PendingQuestion]
"""Asks a question as if it were typed; pieces of its answer go to the second argument."""


class SpokenQuestions:
    """Puts what a listener heard as a question, and has the answer said while it is made. On the listener's thread."""

    def __init__(self, ask: Ask, aloud: SpeakingAloud | None, show: Callable[[str], None]) -> None:
        self._ask = ask
        self._aloud = aloud
        self._show = show

    def on_heard(self, heard: Heard) -> None:
        """Obey a command, or ask."""
        if heard.text:
            self._show(f"heard: {heard.text}")
        if self._aloud is None:
            if heard.intent == "question":
                self._put(heard.text, lambda piece: None)
            return
        if obey(self._aloud.announcer, heard):
            return
        answer = self._aloud.answers.begin(heard.text)
        asked = self._put(heard.text, answer.add)
        if asked is None:
            answer.cancel()
        else:
            asked.future.add_done_callback(lambda future: answer.end())

    def on_ignored(self, transcript: str, why: str) -> None:
        """Nothing: it was not for the assistant."""

    def on_deaf(self, error: SpeechError) -> None:
        """Say once that listening has ended."""
        self._show(f"listening ended: {error}")

    def _put(self, text: str, on_piece: Callable[[str], None]) -> PendingQuestion | None:
        try:
            return self._ask(text, on_piece)
        except AssistantError as error:
            self._show(f"not asked: {error}")
            return None


@contextmanager
def listening(
    config: VoiceConfig, ask: Ask, aloud: SpeakingAloud | None, clock: Clock, show: Callable[[str], None]
) -> Iterator[Listener | None]:
    """A listener while the context lasts; None where it is off, or a warning says in one line what it lacks.

    show: shows a line to the person.
    """
    if config.listen == "off":
        yield None
        return

    def on_change(text: str) -> None:
        show(f"microphone: {text}")
        if aloud is not None:
            aloud.log.on_change(text)

    try:
        if lacks := why_deaf(config.recogniser):
            raise NoRecogniser(lacks)
        source = SteadyInput(device_input, config.microphone, on_change, clock)
        cuts, judge, close_key = _ears(config, aloud, clock, show)
        try:
            source.open()
        except BaseException:
            close_key()
            raise
    except SpeechError as error:
        warn(f"nothing is listened for: {error}")
        yield None
        return
    listener = Listener(source, cuts, judge, SpokenQuestions(ask, aloud, show), clock=clock)
    listener.start()
    try:
        yield listener
    finally:
        close_key()
        listener.stop()


def _ears(
    config: VoiceConfig, aloud: SpeakingAloud | None, clock: Clock, show: Callable[[str], None]
) -> tuple[CutsOutSpeech, JudgesSpeech, Callable[[], None]]:
    """What cuts out questions and judges them, and what ends reading the key. Raises `SpeechError`."""
    recogniser = recogniser_named(config.recogniser)
    announcer = aloud.announcer if aloud is not None else None
    if config.listen == "hands-free":
        judge = QuestionFilter(config.wake_phrase, recogniser, announcer, clock.now_s)
        return SpeechSegmenter(SileroDetector()), judge, lambda: None

    def on_change(is_down: bool) -> None:
        if is_down and announcer is not None:
            announcer.hush()  # it would be heard, too
        show("listening" if is_down else "one moment")

    button = TalkButton(on_change)
    key = TerminalKey(button, sys.stdin, clock)
    show("hold space or Enter to ask, or press it before and after the question")
    return PressedSpeech(button), PressedFilter(recogniser), key.close
