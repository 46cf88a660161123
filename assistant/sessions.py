"""Every viewer's session: who is there, who waits for a place, and what is freed when somebody leaves.

Any thread may call it; a thread named "sessions" looks after those who left.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from assistant.errors import AssistantError, ConfigError
from assistant.tabs import SessionError, Stream, Tab, Wish
from streaming.clock import Clock, SystemClock
from streaming.errors import StreamingError

GRACE_S = 8.0
"""How long the stream of a tab that went away is kept: a reload is back sooner, and all is free within ten seconds."""
PARKED_S = 120.0
"""How long its feed and settings are kept after that."""
IDLE_S = 600.0
"""A client without a picture connection that asks for nothing for so long has gone."""
SWEEP_S = 0.5
CLAIM_S = 1.5
"""How long a tab that comes with a token already in use waits for a reload's old connection to end."""

_log = logging.getLogger(__name__)


class TabRegistry:
    """Tabs by their tokens, and by the names of their requests."""

    def __init__(
        self,
        open_stream: Callable[[Tab, Wish], tuple[Stream, bool]],
        *,
        clock: Clock | None = None,
        max_sessions: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """open_stream: makes the stream of a wish, not started, and says whether it is shared with others.

        max_sessions: how many streams of their own tabs may have at once. folder: where tabs keep their files.
        """
        if max_sessions is not None and max_sessions < 1:
            raise ConfigError(f"max_sessions {max_sessions}: at least one viewer must fit; give 1 or more")
        self._open_stream = open_stream
        self._clock: Clock = clock or SystemClock()
        self.max_sessions = max_sessions
        self._folder = folder
        self._tabs: dict[str, Tab] = {}
        self._by_key: dict[str, Tab] = {}
        self._absent_since: dict[str, float] = {}
        self._holding: set[str] = set()
        """Tokens of the tabs that have a place."""
        self._waiting: deque[tuple[Tab, Wish]] = deque()
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look after the tabs in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="sessions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every session."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10.0)
        with self._lock:
            tabs = list(self._tabs.values())
            self._waiting.clear()
        for tab in tabs:
            self._end(tab)

    @property
    def tabs(self) -> tuple[Tab, ...]:
        """Everybody who is there, or left a moment ago."""
        with self._lock:
            return tuple(self._tabs.values())

    @property
    def num_watching(self) -> int:
        """Places that are taken."""
        with self._lock:
            return len(self._holding)

    def enter(self, token: str | None, key: str) -> Tab:
        """A page was loaded: the session of its token where that is free, else a new one."""
        tab = self._tabs.get(token) if token else None
        if tab is not None and not self._is_free(tab):
            tab = None  # the tab was duplicated: each has its own
        with self._lock:
            before = self._by_key.get(key)  # something was clicked before the page had said who it is
            if tab is None or tab.token not in self._tabs:
                tab = before or self._new()
            elif before is not None and before is not tab:
                before.keys.discard(key)
                self._note_presence(before)
            self._name(tab, key)
            return tab

    def of(self, key: str) -> Tab:
        """The session behind a request; a client that never loaded a page gets a new one."""
        with self._lock:
            tab = self._by_key.get(key)
            if tab is None:
                tab = self._new()
            self._name(tab, key)
            return tab

    def leave(self, key: str) -> None:
        """The page with this name was closed or reloaded."""
        with self._lock:
            tab = self._by_key.pop(key, None)
            if tab is not None:
                tab.keys.discard(key)
                self._note_presence(tab)

    def connect(self, token: str) -> Tab | None:
        """A picture connection of a tab was opened; None where there is no such tab."""
        with self._lock:
            tab = self._tabs.get(token)
            if tab is not None:
                tab.num_connections += 1
                tab.last_seen_s = self._clock.now_s()
                self._note_presence(tab)
            return tab

    def disconnect(self, tab: Tab) -> None:
        """A picture connection was closed."""
        with self._lock:
            tab.num_connections -= 1
            tab.last_seen_s = self._clock.now_s()
            self._note_presence(tab)

    def by_token(self, token: str) -> Tab | None:
        """The tab with this token."""
        with self._lock:
            return self._tabs.get(token)

    def watch(self, tab: Tab, wish: Wish) -> int:
        """Start a stream in place of the one before. Gives 0, or the tab's place in the queue where all are taken.

        Raises what is wrong with the source, or that memory does not allow one more.
        """
        self._let_go(tab)
        with self._lock:
            self._waiting = deque(entry for entry in self._waiting if entry[0] is not tab)
            tab.wish = wish
            if wish.kind != "shared" and not self._take_place(tab):
                self._waiting.append((tab, wish))
                self._number_places()
                return tab.place
            tab.place = 0
        self._begin(tab, wish)
        return 0

    def stop(self, tab: Tab) -> None:
        """End the tab's stream, or its waiting for one."""
        with self._lock:
            self._waiting = deque(entry for entry in self._waiting if entry[0] is not tab)
            tab.place = 0
            self._number_places()
        self._let_go(tab)
        self._give_place(tab)

    def sweep(self) -> None:
        """Free what belonged to those who left, and let those who wait begin."""
        now_s = self._clock.now_s()
        with self._lock:
            for tab in self._tabs.values():
                if not tab.num_connections and now_s - tab.last_seen_s > IDLE_S:
                    self._absent_since.setdefault(tab.token, now_s - GRACE_S)
            gone = [(self._tabs[token], now_s - since_s) for token, since_s in self._absent_since.items()]
        leaving = [tab for tab, away_s in gone if away_s >= GRACE_S and (tab.stream is not None or tab.place)]
        if leaving:  # side by side: each waits for its threads to end
            with ThreadPoolExecutor(len(leaving), thread_name_prefix="leaving") as pool:
                list(pool.map(self.stop, leaving))
        for tab in leaving:
            tab.feed.note("The page was away, so its stream was closed; start it again.")
        for tab, away_s in gone:
            if away_s >= GRACE_S + PARKED_S:
                self._end(tab)
        self._begin_waiting()
        for tab in self.tabs:
            if (stream := tab.stream) is not None:
                tab.history.sample(stream.snapshot(), now_s)

    def _run(self) -> None:
        while not self._clock.wait(self._ended, SWEEP_S):
            try:
                self.sweep()
            except Exception:  # one tab's trouble must not keep the others' memory
                _log.exception("sessions could not be looked after")

    def _new(self) -> Tab:
        tab = Tab(self._clock.now_s(), self._folder)
        self._tabs[tab.token] = tab
        self._absent_since[tab.token] = self._clock.now_s()
        return tab

    def _name(self, tab: Tab, key: str) -> None:
        tab.keys.add(key)
        self._by_key[key] = tab
        tab.last_seen_s = self._clock.now_s()
        self._note_presence(tab)

    def _is_free(self, tab: Tab) -> bool:
        """Whether no page holds the tab; one that is being reloaded lets go within a moment."""
        waited_s = 0.0
        nothing = threading.Event()
        while tab.num_connections and waited_s < CLAIM_S:
            self._clock.wait(nothing, 0.05)
            waited_s += 0.05
        return not tab.num_connections

    def _note_presence(self, tab: Tab) -> None:
        if tab.keys or tab.num_connections:
            self._absent_since.pop(tab.token, None)
        elif tab.token in self._tabs:
            self._absent_since.setdefault(tab.token, self._clock.now_s())

    def _take_place(self, tab: Tab) -> bool:
        is_full = self.max_sessions is not None and len(self._holding - {tab.token}) >= self.max_sessions
        if not is_full:
            self._holding.add(tab.token)
        return not is_full

    def _give_place(self, tab: Tab) -> None:
        with self._lock:
            self._holding.discard(tab.token)

    def _number_places(self) -> None:
        for place, (tab, _) in enumerate(self._waiting, start=1):
            tab.place = place

    def _begin(self, tab: Tab, wish: Wish) -> None:
        try:
            stream, is_shared = self._open_stream(tab, wish)
        except Exception:
            self._give_place(tab)
            raise
        tab.take(stream, wish, is_shared=is_shared)
        if not is_shared:
            try:
                stream.start()
            except Exception:
                self._let_go(tab)
                self._give_place(tab)
                raise

    def _begin_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or not self._take_place(self._waiting[0][0]):
                    return
                tab, wish = self._waiting.popleft()
                tab.place = 0
                self._number_places()
            try:
                self._begin(tab, wish)
            except (AssistantError, StreamingError) as error:
                tab.feed.note(str(error), is_error=True)

    def _let_go(self, tab: Tab) -> None:
        stream = tab.release()
        if stream is not None:
            with suppress(StreamingError):  # what its source said at the end no longer matters
                stream.stop()

    def _end(self, tab: Tab) -> None:
        self.stop(tab)
        with self._lock:
            self._tabs.pop(tab.token, None)
            self._absent_since.pop(tab.token, None)
            for key in list(tab.keys):
                self._by_key.pop(key, None)
        tab.end()


__all__ = ["GRACE_S", "SessionError", "TabRegistry"]
