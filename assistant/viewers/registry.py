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
from assistant.serving.contracts import WatchableStream
from assistant.viewers.viewer_session import ViewerSession, ViewerSessionError, WatchRequest
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


class SessionRegistry:
    """Tabs by their tokens, and by the names of their requests."""

    def __init__(
        self,
        open_stream: Callable[[ViewerSession, WatchRequest], tuple[WatchableStream, bool]],
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
        self._tabs: dict[str, ViewerSession] = {}
        self._by_key: dict[str, ViewerSession] = {}
        self._absent_since: dict[str, float] = {}
        self._holding: set[str] = set()
        """Tokens of the tabs that have a place."""
        self._waiting: deque[tuple[ViewerSession, WatchRequest]] = deque()
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
        for viewer in tabs:
            self._end(viewer)

    @property
    def tabs(self) -> tuple[ViewerSession, ...]:
        """Everybody who is there, or left a moment ago."""
        with self._lock:
            return tuple(self._tabs.values())

    @property
    def num_watching(self) -> int:
        """Places that are taken."""
        with self._lock:
            return len(self._holding)

    def enter(self, token: str | None, key: str) -> ViewerSession:
        """A page was loaded: the session of its token where that is free, else a new one."""
        viewer = self._tabs.get(token) if token else None
        if viewer is not None and not self._is_free(viewer):
            viewer = None  # the tab was duplicated: each has its own
        with self._lock:
            before = self._by_key.get(key)  # something was clicked before the page had said who it is
            if viewer is None or viewer.token not in self._tabs:
                viewer = before or self._new()
            elif before is not None and before is not viewer:
                before.keys.discard(key)
                self._note_presence(before)
            self._name(viewer, key)
            return viewer

    def of(self, key: str) -> ViewerSession:
        """The session behind a request; a client that never loaded a page gets a new one."""
        with self._lock:
            viewer = self._by_key.get(key)
            if viewer is None:
                viewer = self._new()
            self._name(viewer, key)
            return viewer

    def end_key(self, key: str) -> None:
        """The page with this name was closed or reloaded."""
        with self._lock:
            viewer = self._by_key.pop(key, None)
            if viewer is not None:
                viewer.keys.discard(key)
                self._note_presence(viewer)

    def connect(self, token: str) -> ViewerSession | None:
        """A picture connection of a tab was opened; None where there is no such tab."""
        with self._lock:
            viewer = self._tabs.get(token)
            if viewer is not None:
                viewer.num_connections += 1
                viewer.last_seen_s = self._clock.now_s()
                self._note_presence(viewer)
            return viewer

    def disconnect(self, viewer: ViewerSession) -> None:
        """A picture connection was closed."""
        with self._lock:
            viewer.num_connections -= 1
            viewer.last_seen_s = self._clock.now_s()
            self._note_presence(viewer)

    def by_token(self, token: str) -> ViewerSession | None:
        """The tab with this token."""
        with self._lock:
            return self._tabs.get(token)

    def watch(self, viewer: ViewerSession, wanted: WatchRequest) -> int:
        """Start a stream in place of the one before. Gives 0, or the tab's place in the queue where all are taken.

        Raises what is wrong with the source, or that memory does not allow one more.
        """
        self._let_go(viewer)
        with self._lock:
            self._waiting = deque(entry for entry in self._waiting if entry[0] is not viewer)
            viewer.wanted = wanted
            if wanted.kind != "shared" and not self._take_place(viewer):
                self._waiting.append((viewer, wanted))
                self._number_places()
                return viewer.place
            viewer.place = 0
        self._begin(viewer, wanted)
        return 0

    def stop(self, viewer: ViewerSession) -> None:
        """End the tab's stream, or its waiting for one."""
        with self._lock:
            self._waiting = deque(entry for entry in self._waiting if entry[0] is not viewer)
            viewer.place = 0
            self._number_places()
        self._let_go(viewer)
        self._give_place(viewer)

    def sweep(self) -> None:
        """Free what belonged to those who left, and let those who wait begin."""
        now_s = self._clock.now_s()
        with self._lock:
            for viewer in self._tabs.values():
                if not viewer.num_connections and now_s - viewer.last_seen_s > IDLE_S:
                    self._absent_since.setdefault(viewer.token, now_s - GRACE_S)
            gone = [(self._tabs[token], now_s - since_s) for token, since_s in self._absent_since.items()]
        leaving = [
            viewer for viewer, away_s in gone if away_s >= GRACE_S and (viewer.stream is not None or viewer.place)
        ]
        if leaving:  # side by side: each waits for its threads to end
            with ThreadPoolExecutor(len(leaving), thread_name_prefix="leaving") as pool:
                list(pool.map(self.stop, leaving))
        for viewer in leaving:
            viewer.feed.note("The page was away, so its stream was closed; start it again.")
        for viewer, away_s in gone:
            if away_s >= GRACE_S + PARKED_S:
                self._end(viewer)
        self._begin_waiting()
        for viewer in self.tabs:
            if (stream := viewer.stream) is not None:
                viewer.history.sample(stream.snapshot(), now_s)

    def _run(self) -> None:
        while not self._clock.wait(self._ended, SWEEP_S):
            try:
                self.sweep()
            except Exception:  # one tab's trouble must not keep the others' memory
                _log.exception("sessions could not be looked after")

    def _new(self) -> ViewerSession:
        viewer = ViewerSession(self._clock.now_s(), self._folder)
        self._tabs[viewer.token] = viewer
        self._absent_since[viewer.token] = self._clock.now_s()
        return viewer

    def _name(self, viewer: ViewerSession, key: str) -> None:
        viewer.keys.add(key)
        self._by_key[key] = viewer
        viewer.last_seen_s = self._clock.now_s()
        self._note_presence(viewer)

    def _is_free(self, viewer: ViewerSession) -> bool:
        """Whether no page holds the tab; one that is being reloaded lets go within a moment."""
        waited_s = 0.0
        nothing = threading.Event()
        while viewer.num_connections and waited_s < CLAIM_S:
            self._clock.wait(nothing, 0.05)
            waited_s += 0.05
        return not viewer.num_connections

    def _note_presence(self, viewer: ViewerSession) -> None:
        if viewer.keys or viewer.num_connections:
            self._absent_since.pop(viewer.token, None)
        elif viewer.token in self._tabs:
            self._absent_since.setdefault(viewer.token, self._clock.now_s())

    def _take_place(self, viewer: ViewerSession) -> bool:
        is_full = self.max_sessions is not None and len(self._holding - {viewer.token}) >= self.max_sessions
        if not is_full:
            self._holding.add(viewer.token)
        return not is_full

    def _give_place(self, viewer: ViewerSession) -> None:
        with self._lock:
            self._holding.discard(viewer.token)

    def _number_places(self) -> None:
        for place, (viewer, _) in enumerate(self._waiting, start=1):
            viewer.place = place

    def _begin(self, viewer: ViewerSession, wanted: WatchRequest) -> None:
        try:
            stream, is_shared = self._open_stream(viewer, wanted)
        except Exception:
            self._give_place(viewer)
            raise
        viewer.take(stream, wanted, is_shared=is_shared)
        if not is_shared:
            try:
                stream.start()
            except Exception:
                self._let_go(viewer)
                self._give_place(viewer)
                raise

    def _begin_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or not self._take_place(self._waiting[0][0]):
                    return
                viewer, wanted = self._waiting.popleft()
                viewer.place = 0
                self._number_places()
            try:
                self._begin(viewer, wanted)
            except (AssistantError, StreamingError) as error:
                viewer.feed.note(str(error), is_error=True)

    def _let_go(self, viewer: ViewerSession) -> None:
        stream = viewer.release()
        if stream is not None:
            with suppress(StreamingError):  # what its source said at the end no longer matters
                stream.stop()

    def _end(self, viewer: ViewerSession) -> None:
        self.stop(viewer)
        with self._lock:
            self._tabs.pop(viewer.token, None)
            self._absent_since.pop(viewer.token, None)
            for key in list(viewer.keys):
                self._by_key.pop(key, None)
        viewer.end()


__all__ = ["GRACE_S", "ViewerSessionError", "SessionRegistry"]
