"""Speaks a command's events aloud on this machine, where it has sound. For the main thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assistant.commands.terminal import warn
from assistant.speech.aloud import AnswersAloud, SpeakingSink, SpeechLog, SpeechNews, spoken_kinds
from assistant.speech.announcer import Announcer
from assistant.speech.devices import SteadyOutput, device_output
from assistant.speech.errors import SpeechError
from assistant.speech.voices import voice_named

if TYPE_CHECKING:
    from assistant.config.voice import VoiceConfig
    from assistant.events import StatusEvent
    from assistant.speech.announcements import SpokenKind
    from streaming.clock import Clock

FINISH_S = 20.0
"""How long the end of a recording waits until what was said last is heard."""


@dataclass(frozen=True, slots=True)
class SpeakingAloud:
    """The announcer of a command, with what it says."""

    announcer: Announcer
    log: SpeechLog
    kinds: frozenset[SpokenKind]
    answers: AnswersAloud
    sinks: list[SpeakingSink] = field(default_factory=list)

    def sink(self, publish: Callable[[StatusEvent], None] = lambda event: None) -> SpeakingSink:
        """A sink that says a stream's events. publish: takes status events about speech."""
        self.sinks.append(SpeakingSink(self.announcer, self.log, self.kinds, publish, self.answers))
        return self.sinks[-1]

    def finish(self, timeout_s: float = FINISH_S) -> None:
        """Wait until what is being said was heard, and publish what is still to be told."""
        self.announcer.drain(timeout_s)
        for sink in self.sinks:
            sink.close()


@contextmanager
def speaking_aloud(
    config: VoiceConfig, clock: Clock, on_news: Callable[[SpeechNews], None] | None = None
) -> Iterator[SpeakingAloud | None]:
    """An announcer while the context lasts; None where nothing is to be said, or a warning says why nothing can be.

    on_news: called on the announcer's thread; without it, the news wait for a sink.
    """
    if not config.speak:
        yield None
        return
    log = SpeechLog(on_news=on_news)
    output = SteadyOutput(device_output, config.device, log.on_change, clock)
    try:
        output.open()
    except SpeechError as error:
        warn(f"nothing is said aloud: {error}")
        yield None
        return
    voice = voice_named(config.name)
    announcer = Announcer(voice, output, log, clock=clock, rate=config.rate, volume=config.volume)
    announcer.start()
    try:
        yield SpeakingAloud(announcer, log, spoken_kinds(config.speak), AnswersAloud(announcer))
    finally:
        announcer.stop()
