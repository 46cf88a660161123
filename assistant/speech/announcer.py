"""The announcer: says announcements aloud one at a time, by a voice and an output, on a thread of its own.

`say`, `await_answer`, `hush`, `repeat` and the properties are for any thread. Listeners are called on its thread,
without its lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from assistant.speech.announcements import Announcement, Dropped, Freshness, SpeechQueue, SpokenKind, Unspoken
from assistant.speech.errors import DeviceLost, NoAudio, SpeechError
from assistant.speech.sound import Sound
from streaming.clock import Clock, SystemClock

STALLED_S = 20.0
"""How long the next words of an answer are waited for before others are said."""
RECENT_S = 12.0
"""How long what was said can come back through a microphone."""
MOST_RECENT = 16


class Voice(Protocol):
    """Makes sound of text. One thread uses it at a time."""

    name: str

    def prepare(self) -> None:
        """Load it, so that the first clause need not wait. Raises `VoiceUnavailable`."""

    def speak(self, text: str, rate: float) -> Sound:
        """The sound of a clause; `rate` 1 is the voice's own pace. Raises `VoiceUnavailable`."""


class AudioOutput(Protocol):
    """Plays sound. One thread uses it."""

    @property
    def name(self) -> str:
        """The device's name; empty where there is none."""

    def play(self, sound: Sound, is_cut: Callable[[], bool]) -> bool:
        """Play until the sound's end or `is_cut()`; whether all was heard. Raises `DeviceLost` or `NoAudio`."""

    def rest(self, *, cut: bool) -> None:
        """Nothing follows for now: play out what is left, or discard it if `cut`."""

    def close(self) -> None:
        """Free the device; may be called twice."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What is being said now."""

    kind: SpokenKind
    text: str
    """The clause."""
    source: str
    whole: str
    """The text so far of the announcement that it belongs to."""


class SpeechListener(Protocol):
    """Learns what is said and what is not. Every method returns at once."""

    def on_caption(self, caption: Caption | None) -> None:
        """A clause begins; None when nothing is said any more."""

    def on_dropped(self, dropped: Dropped) -> None:
        """An announcement was not said, or not to its end."""

    def on_trouble(self, error: SpeechError) -> None:
        """A voice or a device failed."""


class SpokenAnswer:
    """An answer that is said while it is generated. Any thread."""

    def __init__(self, announcer: Announcer, announcement: Announcement) -> None:
        self._announcer = announcer
        self._utterance = announcement

    def add(self, piece: str) -> None:
        """Say this next."""
        self._announcer.change(lambda: self._utterance.feed(piece))

    def end(self) -> None:
        """No more text comes."""
        self._announcer.change(self._utterance.end)

    def cancel(self) -> None:
        """Say nothing more of it."""
        self._announcer.change(self._utterance.stop)


class Announcer:
    """Says what it is given, the most urgent first, never two things at once. `start` it once; `stop` ends it."""

    def __init__(
        self,
        voice: Voice,
        output: AudioOutput,
        listener: SpeechListener,
        *,
        clock: Clock | None = None,
        freshness: Freshness | None = None,
        rate: float = 1.0,
        volume: float = 1.0,
        name: str = "speech",
    ) -> None:
        """rate: 1 is the voice's own pace. volume: a factor on the samples. name: of its thread."""
        self._voice = voice
        self._output = output
        self._listener = listener
        self._clock: Clock = clock or SystemClock()
        self._queue = SpeechQueue(freshness)
        self._rate = rate
        self._volume = volume
        self._changed = threading.Condition()
        self._current: Announcement | None = None
        self._last: Announcement | None = None
        self._recent: deque[tuple[float, str]] = deque(maxlen=MOST_RECENT)
        self._stale: list[Dropped] = []
        """Dropped by the last choice, to be told."""
        self._is_stopping = False
        self.failure: BaseException | None = None
        """What ended its thread, if something did."""
        self.num_said = 0
        """Announcements said to their end."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> bool:
        """Fall silent and end the thread; whether it ended in time."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def say(self, kind: SpokenKind, text: str, source: str = "") -> None:
        """Say a text when its turn comes. What is dropped for it is told to the listener."""
        if text.strip():
            self._put(Announcement.of_text(kind, text, self._clock.now_s(), source))

    def await_answer(self, source: str = "") -> SpokenAnswer:
        """A question was asked: interrupt remarks and alerts, and say its answer as its text comes."""
        announcement = Announcement(SpokenKind.ANSWER, self._clock.now_s(), source)
        self._put(announcement)
        return SpokenAnswer(self, announcement)

    def hush(self) -> None:
        """Say nothing of what is being said or waits."""
        with self._changed:
            dropped = self._queue.clear(Unspoken.HUSHED, self._clock.now_s())
            if self._current is not None:
                self._current.stop()
                dropped.append(self._queue.drop(self._current, Unspoken.HUSHED, self._clock.now_s()))
                self._current = None
            self._changed.notify_all()
        self._tell(dropped)

    def repeat(self) -> bool:
        """Say the last announcement once more; whether there was one."""
        with self._changed:
            last = self._last
        if last is None or not last.text.strip():
            return False
        self.say(SpokenKind.ANSWER, last.text, last.source)
        return True

    def change(self, change: Callable[[], None]) -> None:
        """Change an announcement under the announcer's lock."""
        with self._changed:
            change()
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that waits was said; whether it was in time."""
        with self._changed:
            return self._clock.wait_for(
                self._changed, lambda: self.failure is not None or not (self._queue or self._current), timeout_s
            )

    @property
    def is_speaking(self) -> bool:
        """Whether something is being said now."""
        return self._current is not None

    @property
    def counts(self) -> dict[str, int]:
        """Announcements not said, or not to their end, by reason."""
        return {why.value: self._queue.counts[why] for why in Unspoken}

    def said_lately(self) -> str:
        """What was said in the last `RECENT_S` seconds: what a microphone may hear of it."""
        now_s = self._clock.now_s()
        with self._changed:
            return " ".join(text for at_s, text in self._recent if now_s - at_s < RECENT_S)

    def _put(self, announcement: Announcement) -> None:
        with self._changed:
            if self._is_stopping or self.failure is not None:
                return
            dropped = self._queue.put(announcement, self._clock.now_s())
            self._changed.notify_all()
        self._tell(dropped)

    def _run(self) -> None:
        try:
            self._prepare()
            while (announcement := self._next()) is not None:
                self._say(announcement)
        except Exception as error:  # a fault of our own: kept for the owner, nobody waits for ever
            with self._changed:
                self.failure = error
                self._changed.notify_all()
        finally:
            self._output.close()

    def _prepare(self) -> None:
        try:
            self._voice.prepare()
        except SpeechError as error:
            self._listener.on_trouble(error)

    def _next(self) -> Announcement | None:
        """Wait for the next announcement; None when it is to stop."""
        while True:
            with self._changed:
                self._clock.wait_for(self._changed, lambda: self._is_stopping or self._choose(), None)
                chosen = None if self._is_stopping else self._current
                stale, self._stale = self._stale, []
                self._changed.notify_all()
            self._tell(stale)
            if chosen is not None or self._is_stopping:
                return chosen

    def _choose(self) -> bool:
        """Take the next announcement as the current one; whether there is news to tell."""
        self._current, self._stale = self._queue.next(self._clock.now_s())
        return self._current is not None or bool(self._stale)

    def _say(self, announcement: Announcement) -> None:
        """Say an announcement to its end, or until something else is to be said."""
        while (piece := self._piece(announcement)) is not None:
            self._listener.on_caption(Caption(announcement.kind, piece, announcement.source, announcement.text))
            try:
                sound = self._voice.speak(piece, self._rate).louder(self._volume)
                heard = self._output.play(sound, lambda: self._is_cut(announcement))
            except SpeechError as error:
                self._listener.on_trouble(error)
                of_device = isinstance(error, DeviceLost | NoAudio)
                self._finish(announcement, Unspoken.NO_DEVICE if of_device else Unspoken.VOICE_FAILED)
                return
            with self._changed:
                self._recent.append((self._clock.now_s(), piece))
                announcement.num_said += heard
            if not heard:
                break
        self._finish(announcement, None)

    def _piece(self, announcement: Announcement) -> str | None:
        """The next piece, which is waited for while an answer grows; None if it is over or something else comes."""

        def is_settled() -> bool:
            return announcement.is_ready or announcement.is_over or self._must_yield(announcement)

        with self._changed:
            self._clock.wait_for(self._changed, is_settled, STALLED_S)
            return None if self._must_yield(announcement) else announcement.take()

    def _is_cut(self, announcement: Announcement) -> bool:
        with self._changed:
            return self._must_yield(announcement)

    def _must_yield(self, announcement: Announcement) -> bool:
        return self._is_stopping or self._current is not announcement or self._queue.is_more_urgent(announcement)

    def _finish(self, announcement: Announcement, why: Unspoken | None) -> None:
        """Note how an announcement ended. An interrupted alert is said again from its beginning."""
        dropped: list[Dropped] = []
        now_s = self._clock.now_s()
        with self._changed:
            is_ours = self._current is announcement
            is_whole = announcement.is_over and announcement.num_said == len(announcement.spoken)
            if is_ours and not is_whole and not self._is_stopping:
                has_stalled = not announcement.is_ended and announcement.num_said == len(announcement.spoken)
                why = why or (Unspoken.STALLED if has_stalled else Unspoken.INTERRUPTED)
                dropped = [self._queue.drop(announcement, why, now_s)]
                if why is Unspoken.INTERRUPTED and announcement.kind is SpokenKind.ALERT:
                    self._queue.put_back(announcement.again())
            self.num_said += is_whole
            self._last = announcement if announcement.spoken else self._last
            self._current = None
            self._changed.notify_all()
        self._output.rest(cut=not is_whole)
        self._listener.on_caption(None)
        self._tell(dropped)

    def _tell(self, dropped: list[Dropped]) -> None:
        for each in dropped:
            self._listener.on_dropped(each)
