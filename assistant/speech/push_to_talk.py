"""Push to talk: what is said while a button is down is a question, without a wake phrase.

The button may be pressed on any thread; the rest belongs to the listener's.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from assistant.speech.errors import NoAudio
from assistant.speech.heard import Heard, Intent, understood
from assistant.speech.recognisers import RATE_HZ, Recogniser
from assistant.speech.sound import Sound
from streaming.clock import Clock

MOST_TALK_S = 30.0
"""Longest question; the button is up after it."""
REPEAT_S = 0.7
"""Longest time between two of a held key's repeats; the first comes after half a second."""
LEAST_TALK_S = 0.3
"""Shorter presses are mistakes."""


class TalkButton:
    """A button that is down or up."""

    def __init__(self, on_change: Callable[[bool], None] = lambda is_down: None) -> None:
        """on_change: told whether it is down, on the thread that pressed it."""
        self._is_down = threading.Event()
        self._on_change = on_change

    @property
    def is_down(self) -> bool:
        """Whether what is said now is a question."""
        return self._is_down.is_set()

    def press(self) -> None:
        """Press it: down if it was up, up if it was down."""
        if self.is_down:
            self.release()
        else:
            self._is_down.set()
            self._on_change(True)

    def release(self) -> None:
        """Let it go; nothing where it is up."""
        if self.is_down:
            self._is_down.clear()
            self._on_change(False)


class PressedSpeech:
    """Cuts out of a stream of sound what is said while a button is down."""

    def __init__(self, button: TalkButton) -> None:
        self._button = button
        self._said: list[np.ndarray] = []
        self._num_samples = 0

    def feed(self, samples: np.ndarray) -> list[Sound]:
        """Add samples at 16 kHz; returns what was said, once the button is up."""
        is_down = self._button.is_down
        if is_down or self._said:  # the block in which the button went up belongs to it
            self._said.append(samples)
            self._num_samples += len(samples)
        if self._num_samples >= MOST_TALK_S * RATE_HZ:
            self._button.release()
            is_down = False
        if is_down or not self._said:
            return []
        sound = Sound(np.concatenate(self._said), RATE_HZ)
        self.reset()
        return [sound] if sound.duration_s >= LEAST_TALK_S else []

    def reset(self) -> None:
        """Forget the sound so far."""
        self._said, self._num_samples = [], 0


class PressedFilter:
    """Takes everything for the assistant that was said while the button was down."""

    announcer = None
    """Nobody is asked what was said aloud: the person chose the moment."""

    def __init__(self, recogniser: Recogniser) -> None:
        self.recogniser = recogniser

    def judge(self, sound: Sound, *, while_speaking: bool) -> tuple[Heard | None, str, str]:
        """What is wanted, the transcript, and why it is ignored."""
        transcript = self.recogniser.transcribe(sound)
        heard = understood(transcript)
        return (None, transcript, "no_words") if heard.intent is Intent.NOTHING else (heard, transcript, "")


class KeyPresses:
    """Presses a button by a key of which only presses are told: one toggles it, and a key that repeats is held.

    One thread uses it.
    """

    def __init__(self, button: TalkButton, now_s: Callable[[], float]) -> None:
        self._button = button
        self._now_s = now_s
        self._last_s = float("-inf")
        self._is_held = False

    def typed(self) -> None:
        """The key came."""
        now_s = self._now_s()
        if self._button.is_down and now_s - self._last_s < REPEAT_S:
            self._is_held = True
        else:
            self._button.press()
        self._last_s = now_s

    def look(self) -> None:
        """Let the button go where a key that was held does not repeat any more. Call it a few times a second."""
        if self._is_held and self._now_s() - self._last_s >= REPEAT_S:
            self._is_held = False
            self._button.release()


class TerminalKey:
    """Presses a button by space or Enter in a terminal, pressed twice or held. Other keys do nothing."""

    KEYS = frozenset(b" \r\n")
    LOOK_S = 0.2

    def __init__(self, button: TalkButton, terminal: IO[Any] | None, clock: Clock) -> None:
        """terminal: as `sys.stdin`. Raises `NoAudio` where no key can be read from it."""
        try:
            import termios
            import tty
        except ImportError:
            raise NoAudio("push to talk: this system's terminal cannot be read by key; use --listen") from None
        try:
            descriptor = terminal.fileno() if terminal is not None else -1
            self._before = termios.tcgetattr(descriptor)
        except (termios.error, OSError, ValueError):
            raise NoAudio(
                "push to talk: standard input is no terminal, so no key can be pressed; use --listen"
            ) from None
        self._presses = KeyPresses(button, clock.now_s)
        self._descriptor = descriptor
        self._ended = threading.Event()
        tty.setcbreak(descriptor)  # Ctrl-C still interrupts
        self._thread = threading.Thread(target=self._run, name="talk key", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading and leave the terminal as it was."""
        import termios

        self._ended.set()
        self._thread.join(5.0)
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def _run(self) -> None:
        while not self._ended.is_set():
            ready, _, _ = select.select([self._descriptor], [], [], self.LOOK_S)
            self._presses.look()
            if not ready:
                continue
            try:
                read = os.read(self._descriptor, 64)
            except OSError:
                return  # the terminal is gone
            if not read:
                return
            if self.KEYS.intersection(read):
                self._presses.typed()
