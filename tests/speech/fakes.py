"""A voice, a device and a listener for tests: nothing sounds, everything is written down."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from assistant.speech.announcements import Dropped
from assistant.speech.announcer import Caption
from assistant.speech.errors import DeviceLost, SpeechError, VoiceUnavailable
from assistant.speech.sound import Sound
from streaming.clock import FakeClock

RATE_HZ = 1000
LETTER_S = 0.05
"""The fake voice takes so long for a letter."""


class FakeVoice:
    """Its sound is as long as its text; texts in `bad` it cannot say."""

    name = "fake"

    def __init__(self, bad: tuple[str, ...] = ()) -> None:
        self.bad = bad
        self.texts: list[str] = []
        self.is_prepared = False

    def prepare(self) -> None:
        self.is_prepared = True

    def speak(self, text: str, rate: float) -> Sound:
        if text in self.bad:
            raise VoiceUnavailable(f"{text!r}: the fake voice cannot say it")
        self.texts.append(text)
        return Sound(np.full(round(len(text) * LETTER_S * RATE_HZ / rate), 0.5, np.float32), RATE_HZ)


class FakeOutput:
    """A device on a virtual clock. `during[n]` is called in the middle of the n-th sound; each in `lost` is lost."""

    def __init__(self, clock: FakeClock, name: str = "fake device") -> None:
        self.clock = clock
        self.name = name
        self.during: dict[int, Callable[[], None]] = {}
        self.lost: set[int] = set()
        self.num_played = 0
        self.heard: list[tuple[float, float]] = []
        """When each sound began and ended."""
        self.peaks: list[float] = []
        self.rests: list[bool] = []
        self.is_closed = False
        self._busy = threading.Lock()

    def play(self, sound: Sound, is_cut: Callable[[], bool]) -> bool:
        assert self._busy.acquire(blocking=False), "two sounds at once"
        try:
            number, self.num_played = self.num_played, self.num_played + 1
            if number in self.lost:
                raise DeviceLost(f"audio device {self.name!r}: pulled out; plug it in")
            began_s = self.clock.now_s()
            self.clock.advance(sound.duration_s / 2)
            self.during.get(number, lambda: None)()
            if is_cut():
                self.heard.append((began_s, self.clock.now_s()))
                return False
            self.clock.advance(sound.duration_s / 2)
            self.peaks.append(float(np.abs(sound.samples).max(initial=0.0)))
            self.heard.append((began_s, self.clock.now_s()))
            return True
        finally:
            self._busy.release()

    def rest(self, *, cut: bool) -> None:
        self.rests.append(cut)

    def close(self) -> None:
        self.is_closed = True


class FakeListener:
    """Writes down what a announcer tells."""

    def __init__(self) -> None:
        self.captions: list[Caption | None] = []
        self.dropped: list[Dropped] = []
        self.troubles: list[SpeechError] = []

    @property
    def said(self) -> list[str]:
        return [caption.text for caption in self.captions if caption is not None]

    def on_caption(self, caption: Caption | None) -> None:
        self.captions.append(caption)

    def on_dropped(self, dropped: Dropped) -> None:
        self.dropped.append(dropped)

    def on_trouble(self, error: SpeechError) -> None:
        self.troubles.append(error)
