"""Registry of the viewers' sessions: creates them, queues viewers for a free place, and frees what they leave behind.

Any thread may call it; a thread named "sessions" ends the sessions of viewers who left.
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
"""Seconds until a closed page's stream is stopped: longer than a reload takes, and all is free within ten seconds."""
PARKED_S = 120.0
"""Further seconds until the session's feed and settings are removed."""
IDLE_S = 600.0
"""Seconds without a request after which a client with no picture connection counts as gone."""
SWEEP_S = 0.5
CLAIM_S = 1.5
"""Seconds that a page with a token in use waits for the old connection of a reload to close."""

_log = logging.getLogger(__name__)


class SessionRegistry:
    """The viewers' sessions, by token and by the names under which their requests come."""

    def __init__(
        self,
        open_stream: Callable[[ViewerSession, WatchRequest], tuple[WatchableStream, bool]],
        *,
        clock: Clock | None = None,
        max_sessions: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """open_stream: creates a request's stream, not started; returns it and whether it is a shared camera.

        max_sessions: most sessions that may have their own stream at once. folder: where sessions keep files.
        """
        if max_sessions is not None and max_sessions < 1:
            raise ConfigError(f"max_sessions {max_sessions}: it must be at least 1; raise it")
        self._open_stream = open_stream
        self._clock: Clock = clock or SystemClock()
        self.max_sessions = max_sessions
        self._folder = folder
        self._viewers: dict[str, ViewerSession] = {}
        self._by_key: dict[str, ViewerSession] = {}
        self._absent_since: dict[str, float] = {}
        self._holding: set[str] = set()
        """Tokens of the sessions that have a place, the right to a stream of their own."""
        self._waiting: deque[tuple[ViewerSession, WatchRequest]] = deque()
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread that calls `sweep`."""
        self._thread = threading.Thread(target=self._run, name="sessions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every session and the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10.0)
        with self._lock:
            viewers = list(self._viewers.values())
            self._waiting.clear()
        for viewer in viewers:
            self._end(viewer)

    @property
    def viewers(self) -> tuple[ViewerSession, ...]:
        """All sessions, including those of viewers who left a moment ago."""
        with self._lock:
            return tuple(self._viewers.values())

    @property
    def num_watching(self) -> int:
        """Number of sessions that have a place."""
        with self._lock:
            return len(self._holding)

    def enter(self, token: str | None, key: str) -> ViewerSession:
        """The session of a page that was loaded: its token's if no other page uses that, otherwise a new one.

        key: the name under which the page's requests come.
        """
        viewer = self._viewers.get(token) if token else None
        if viewer is not None and not self._is_free(viewer):
            viewer = None  # a duplicated tab: each gets its own session
        with self._lock:
            before = self._by_key.get(key)  # a click came before the page sent its token
            if viewer is None or viewer.token not in self._viewers:
                viewer = before or self._new()
            elif before is not None and before is not viewer:
                before.keys.discard(key)
                self._note_presence(before)
            self._name(viewer, key)
            return viewer

    def of(self, key: str) -> ViewerSession:
        """The session of a request by its key; a new one for a client that never loaded a page."""
        with self._lock:
            viewer = self._by_key.get(key)
            if viewer is None:
                viewer = self._new()
            self._name(viewer, key)
            return viewer

    def end_key(self, key: str) -> None:
        """Note that the page with this key was closed or reloaded."""
        with self._lock:
            viewer = self._by_key.pop(key, None)
            if viewer is not None:
                viewer.keys.discard(key)
                self._note_presence(viewer)

    def connect(self, token: str) -> ViewerSession | None:
        """Count a new picture connection of a session; return the session, or None for an unknown token."""
        with self._lock:
            viewer = self._viewers.get(token)
            if viewer is not None:
                viewer.num_connections += 1
                viewer.last_seen_s = self._clock.now_s()
                self._note_presence(viewer)
            return viewer

    def disconnect(self, viewer: ViewerSession) -> None:
        """Note that a picture connection of a session was closed."""
        with self._lock:
            viewer.num_connections -= 1
            viewer.last_seen_s = self._clock.now_s()
            self._note_presence(viewer)

    def by_token(self, token: str) -> ViewerSession | None:
        """The session with this token; None if there is none."""
        with self._lock:
            return self._viewers.get(token)

    def watch(self, viewer: ViewerSession, wanted: WatchRequest) -> int:
        """Replace the session's stream; return 0, or its place in the queue if no place is free.

        Raises an `AssistantError` or `StreamingError` if the source fails or memory does not suffice.
        """
        with viewer.switching:
            self._close_stream(viewer)
            with self._lock:
                self._waiting = deque(entry for entry in self._waiting if entry[0] is not viewer)
                viewer.wanted = wanted
                if wanted.kind != "shared" and not self._claim_place(viewer):
                    self._waiting.append((viewer, wanted))
                    self._number_places()
                    return viewer.place
                viewer.place = 0
            self._begin(viewer, wanted)
            return 0

    def stop(self, viewer: ViewerSession) -> None:
        """Stop the session's stream, or remove the session from the queue."""
        with viewer.switching:
            with self._lock:
                self._waiting = deque(entry for entry in self._waiting if entry[0] is not viewer)
                viewer.place = 0
                self._number_places()
            self._close_stream(viewer)
            self._free_place(viewer)

    def sweep(self) -> None:
        """Stop streams and end sessions of viewers who left, start queued streams, and sample the figures."""
        now_s = self._clock.now_s()
        with self._lock:
            for viewer in self._viewers.values():
                if not viewer.num_connections and now_s - viewer.last_seen_s > IDLE_S:
                    self._absent_since.setdefault(viewer.token, now_s - GRACE_S)
            gone = [(self._viewers[token], now_s - since_s) for token, since_s in self._absent_since.items()]
        leaving = [
            viewer for viewer, away_s in gone if away_s >= GRACE_S and (viewer.stream is not None or viewer.place)
        ]
        if leaving:  # in parallel, since each waits for its threads to end
            with ThreadPoolExecutor(len(leaving), thread_name_prefix="leaving") as pool:
                list(pool.map(self.stop, leaving))
        for viewer in leaving:
            viewer.feed.note("The page was closed for a while, so its stream was stopped; start it again.")
        for viewer, away_s in gone:
            if away_s >= GRACE_S + PARKED_S:
                self._end(viewer)
        self._begin_waiting()
        for viewer in self.viewers:
            if (stream := viewer.stream) is not None:
                viewer.history.sample(stream.snapshot(), now_s)

    def _run(self) -> None:
        while not self._clock.wait(self._ended, SWEEP_S):
            try:
                self.sweep()
            except Exception:  # one session's error must not stop the freeing of others
                _log.exception("the sessions of viewers who left could not be freed")

    def _new(self) -> ViewerSession:
        viewer = ViewerSession(self._clock.now_s(), self._folder)
        self._viewers[viewer.token] = viewer
        self._absent_since[viewer.token] = self._clock.now_s()
        return viewer

    def _name(self, viewer: ViewerSession, key: str) -> None:
        viewer.keys.add(key)
        self._by_key[key] = viewer
        viewer.last_seen_s = self._clock.now_s()
        self._note_presence(viewer)

    def _is_free(self, viewer: ViewerSession) -> bool:
        """Whether no page is connected; waits up to `CLAIM_S` for the old connection of a reload to close."""
        waited_s = 0.0
        nothing = threading.Event()
        while viewer.num_connections and waited_s < CLAIM_S:
            self._clock.wait(nothing, 0.05)
            waited_s += 0.05
        return not viewer.num_connections

    def _note_presence(self, viewer: ViewerSession) -> None:
        if viewer.keys or viewer.num_connections:
            self._absent_since.pop(viewer.token, None)
        elif viewer.token in self._viewers:
            self._absent_since.setdefault(viewer.token, self._clock.now_s())

    def _claim_place(self, viewer: ViewerSession) -> bool:
        is_full = self.max_sessions is not None and len(self._holding - {viewer.token}) >= self.max_sessions
        if not is_full:
            self._holding.add(viewer.token)
        return not is_full

    def _free_place(self, viewer: ViewerSession) -> None:
        with self._lock:
            self._holding.discard(viewer.token)

    def _number_places(self) -> None:
        for place, (viewer, _) in enumerate(self._waiting, start=1):
            viewer.place = place

    def _begin(self, viewer: ViewerSession, wanted: WatchRequest) -> None:
        try:
            stream, is_shared = self._open_stream(viewer, wanted)
        except Exception:
            self._free_place(viewer)
            raise
        viewer.attach(stream, wanted, is_shared=is_shared)
        if not is_shared:
            try:
                stream.start()
            except Exception:
                self._close_stream(viewer)
                self._free_place(viewer)
                raise

    def _begin_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or not self._claim_place(self._waiting[0][0]):
                    return
                viewer, wanted = self._waiting.popleft()
                viewer.place = 0
                self._number_places()
            with viewer.switching:
                if viewer.wanted is not wanted or viewer.token not in self._holding:
                    continue  # it was stopped, or wants something else, since it was taken from the queue
                try:
                    self._begin(viewer, wanted)
                except (AssistantError, StreamingError) as error:
                    viewer.feed.note(str(error), is_error=True)

    def _close_stream(self, viewer: ViewerSession) -> None:
        stream = viewer.detach()
        if stream is not None:
            with suppress(StreamingError):  # the stream ends anyway
                stream.stop()

    def _end(self, viewer: ViewerSession) -> None:
        self.stop(viewer)
        with self._lock:
            self._viewers.pop(viewer.token, None)
            self._absent_since.pop(viewer.token, None)
            for key in list(viewer.keys):
                self._by_key.pop(key, None)
        viewer.end()


__all__ = ["GRACE_S", "ViewerSessionError", "SessionRegistry"]
