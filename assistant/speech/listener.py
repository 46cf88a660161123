"""The listener: takes a microphone's sound, cuts out what is said, recognises it and passes questions on.

It has a thread of its own. Its callbacks are called on that thread and return at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from assistant.speech.announcer import Announcer
from assistant.speech.errors import DeviceLost, NoAudio, SpeechError
from assistant.speech.heard import Heard, Intent, after_phrase, is_own_voice, understood
from assistant.speech.recognisers import Recogniser
from assistant.speech.sound import Sound
from streaming.clock import Clock, SystemClock

ARMED_S = 6.0
"""How long after the wake phrase alone a question may follow without it."""
TAIL_S = 0.5
"""How long after the last word our own voice may still be in the room."""


class AudioInput(Protocol):
    """Sound from a microphone, at 16 kHz. One thread uses it."""

    @property
    def name(self) -> str:
        """The device's name; empty where there is none."""

    def read(self) -> np.ndarray:
        """The next samples, float32; empty if none came within a moment. Raises `DeviceLost` or `NoAudio`."""

    def close(self) -> None:
        """Free the device; may be called twice."""


class Spoke(Protocol):
    """What a listener must know of whoever speaks."""

    @property
    def is_speaking(self) -> bool:
        """Whether something is being said aloud now."""

    def said_lately(self) -> str:
        """What was said aloud in the last seconds."""


class CutsOutSpeech(Protocol):
    """Cuts what is said out of a stream of sound, by its pauses or by a button."""

    def feed(self, samples: np.ndarray) -> list[Sound]:
        """Add samples at 16 kHz; returns what somebody has finished saying with them."""


class JudgesSpeech(Protocol):
    """Decides whether what was said is for the assistant."""

    @property
    def recogniser(self) -> Recogniser: ...

    @property
    def announcer(self) -> Spoke | None:
        """Whose voice may be in the room."""

    def judge(self, sound: Sound, *, while_speaking: bool) -> tuple[Heard | None, str, str]:
        """What is wanted, the transcript, and why it is ignored. while_speaking: our own voice was in the room."""


class HeardSomething(Protocol):
    """Takes what a listener heard."""

    def on_heard(self, heard: Heard) -> None:
        """A question or a command."""

    def on_ignored(self, transcript: str, why: str) -> None:
        """Something that was not for the assistant: `own_voice`, `no_phrase` or `no_words`."""

    def on_deaf(self, error: SpeechError) -> None:
        """The microphone or the recogniser failed."""


@dataclass(slots=True)
class QuestionFilter:
    """Decides whether what was heard is for the assistant. Belongs to the listener's thread; tests drive it alone."""

    phrase: str
    recogniser: Recogniser
    announcer: Spoke | None
    now_s: Callable[[], float]
    _armed_until_s: float = float("-inf")

    def judge(self, sound: Sound, *, while_speaking: bool) -> tuple[Heard | None, str, str]:
        """What is wanted, the transcript, and why it is ignored. while_speaking: our own voice was in the room."""
        transcript = self.recogniser.transcribe(sound)
        if not transcript:
            return None, transcript, "no_words"
        if self.announcer is not None and is_own_voice(transcript, self.announcer.said_lately()):
            return None, transcript, "own_voice"
        asked = after_phrase(transcript, self.phrase)
        if asked is None:
            heard = understood(transcript)
            if while_speaking and heard.intent is Intent.STOP:
                return heard, transcript, ""
            if while_speaking or self.now_s() > self._armed_until_s:
                return None, transcript, "no_phrase"
            self._armed_until_s = float("-inf")
            return heard, transcript, ""
        heard = understood(asked)
        self._armed_until_s = self.now_s() + ARMED_S if heard.intent is Intent.NOTHING else float("-inf")
        return heard, transcript, ""


class Listener:
    """Listens, hands-free or while a button is down. `start` it once; `stop` ends it."""

    def __init__(
        self,
        source: AudioInput,
        segmenter: CutsOutSpeech,
        judge: JudgesSpeech,
        taker: HeardSomething,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._source = source
        self._segmenter = segmenter
        self._judge = judge
        self._taker = taker
        self._clock: Clock = clock or SystemClock()
        self._is_stopping = threading.Event()
        self._spoke_at_s = float("-inf")
        self.counts: Counter[str] = Counter()
        """What was heard: by intent, or by why it was ignored."""
        self.failure: BaseException | None = None
        """What ended its thread, if something did."""
        self._thread = threading.Thread(target=self._run, name="listening", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the thread; whether it ended in time."""
        self._is_stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._judge.recogniser.prepare()
            while not self._is_stopping.is_set():
                self._hear(self._source.read())
        except (DeviceLost, NoAudio, SpeechError) as error:
            self._taker.on_deaf(error)
        except Exception as error:  # a fault of our own: kept for the owner
            self.failure = error
        finally:
            self._source.close()

    def _hear(self, samples: np.ndarray) -> None:
        announcer = self._judge.announcer
        if announcer is not None and announcer.is_speaking:
            self._spoke_at_s = self._clock.now_s()
        for sound in self._segmenter.feed(samples):
            length_s = sound.duration_s + TAIL_S
            while_speaking = self._clock.now_s() - self._spoke_at_s < length_s
            heard, transcript, why = self._judge.judge(sound, while_speaking=while_speaking)
            self.counts[why or (heard.intent.value if heard is not None else "")] += 1
            if heard is None:
                self._taker.on_ignored(transcript, why)
            else:
                self._taker.on_heard(heard)


def obey(announcer: Announcer, heard: Heard) -> bool:
    """Do what a command asks of the announcer; False for a question, which is for the stream."""
    if heard.intent is Intent.STOP:
        announcer.hush()
    elif heard.intent is Intent.REPEAT:
        announcer.repeat()
    return heard.intent is not Intent.QUESTION
