"""An output that plays in a browser. Belongs to the announcer's thread; what it sends goes through a connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from assistant.speech.errors import DeviceLost
from assistant.speech.sound import Sound
from streaming.clock import Clock, SystemClock

STEP_S = 0.04
AHEAD_S = 0.15
"""How much earlier than its end the next clause is made, so that there is no gap in the browser."""


class BrowserOutput:
    """Sends sound to a browser and waits for as long as it takes there. Belongs to the announcer's thread."""

    name = "browser"

    def __init__(self, send: Callable[[dict[str, Any], bytes | None], bool], clock: Clock | None = None) -> None:
        """send: hands a message and the sound that follows it to the connection; False once that is closed."""
        self._send = send
        self._clock: Clock = clock or SystemClock()
        self._never = threading.Event()
        self._heard_at_s = float("-inf")

    def play(self, sound: Sound, is_cut: Callable[[], bool]) -> bool:
        """Send a clause; return when it is nearly heard. Raises `DeviceLost` once the tab is gone."""
        begins_s = max(self._clock.now_s(), self._heard_at_s)
        self._heard_at_s = begins_s + sound.duration_s
        if not self._send({"type": "sound", "seconds": round(sound.duration_s, 3)}, sound.as_wav()):
            raise DeviceLost("the page was closed")
        while self._clock.now_s() < self._heard_at_s - AHEAD_S:
            if is_cut():
                return False
            self._clock.wait(self._never, STEP_S)
        return not is_cut()

    def rest(self, *, cut: bool) -> None:
        """Wait until the last clause is heard, or have the browser stop it."""
        if cut:
            self._send({"type": "cut"}, None)
            self._heard_at_s = float("-inf")
        self._clock.wait(self._never, max(0.0, min(AHEAD_S, self._heard_at_s - self._clock.now_s())))

    def close(self) -> None:
        """Have the browser fall silent."""
        self._send({"type": "cut"}, None)
