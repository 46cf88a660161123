"""The program under test for fault cases: a scheduler with the embedded checkpoint, channels, a timeline, servers."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from assistant.events import StatusEvent, StatusKind, StreamEvent
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig, ChannelSnapshot
from assistant.serving.contracts import ModelState
from assistant.serving.scheduler import Scheduler
from assistant.timeline.sink import ChannelSink
from assistant.timeline.store import Timeline
from streaming.clock import Clock, SystemClock
from streaming.open_source import open_source
from streaming.sources.base import RetryPolicy, Source, SourceOptions
from tests.faults.proxy import Proxy
from tests.streaming.rtsp import RtspServer

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint
    from models.engine import Engine

QUICK = RetryPolicy(
    max_retries=None, first_delay_s=0.5, max_delay_s=1.0, login_refused_delay_s=3.0, steady_s=2.0, from_start=True
)
"""Retry policy ten times as fast as that of watched cameras, so that a case takes seconds."""

_POLL_S = 0.02


class Broken(AssertionError):
    """A rule did not hold."""


def hold(condition: bool, otherwise: str) -> None:
    """Raise `Broken` unless `condition`."""
    if not condition:
        raise Broken(otherwise)


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """Wait for `condition`; return the seconds it took. Raises `Broken` if it takes too long."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > within_s:
            raise Broken(f"{what}: not within {within_s:g} s")
        time.sleep(_POLL_S)
    return time.monotonic() - began_s


class ShiftedClock(SystemClock):
    """The machine's clocks, shifted by a case; waits are real."""

    def __init__(self) -> None:
        self.now_shift_s = 0.0
        self.wall_shift_s = 0.0

    def now_s(self) -> float:
        """The monotonic clock plus the shift."""
        return super().now_s() + self.now_shift_s

    def wall_s(self) -> float:
        """The time of day plus the shift."""
        return super().wall_s() + self.now_shift_s + self.wall_shift_s


class Trouble:
    """Makes forward passes of the model fail or hang, on the engine's thread."""

    def __init__(self) -> None:
        self.before_pass: Callable[[Any], None] = lambda cache: None
        """Called before each forward pass with the cache that it is to append to."""
        self.sessions: list[Any] = []
        """Every session that was opened, in order."""


class Watched:
    """A channel with all its events, and the time of our clock at which each was published."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.events: list[tuple[float, StreamEvent]] = []
        self._lock = threading.Lock()
        channel.subscribe(self._hear)

    @property
    def now(self) -> ChannelSnapshot:
        """The channel's current state."""
        return self.channel.snapshot()

    @property
    def mark(self) -> int:
        """The current position in the list of events, to wait from."""
        with self._lock:
            return len(self.events)

    def said(self, kind: StatusKind, since: int = 0) -> list[StatusEvent]:
        """The status events of this kind since a mark."""
        with self._lock:
            found = [event for _, event in self.events[since:]]
        return [event for event in found if isinstance(event, StatusEvent) and event.kind is kind]

    def wait_for(self, kind: StatusKind, within_s: float, since: int = 0) -> tuple[StatusEvent, float]:
        """Wait for the first event of this kind since a mark; return it and the seconds it took."""
        took_s = wait_until(lambda: bool(self.said(kind, since)), within_s, f"{self.channel.name}: said {kind.value}")
        return self.said(kind, since)[0], took_s

    def wait_seen(self, num_frames: int, within_s: float) -> float:
        """Wait until the model has seen this many more frames."""
        wanted = self.now.counts.num_sampled + num_frames
        what = f"{self.channel.name}: {num_frames} more frames seen"
        return wait_until(lambda: self.now.counts.num_sampled >= wanted, within_s, what)

    def keeps_rate(self, num_before: int, seconds: float, share: float = 0.7) -> float:
        """Frames per second since `num_before`; raises `Broken` below a fraction of the rate controller's rate."""
        now, fps = self.now, (self.now.counts.num_sampled - num_before) / seconds
        wanted = share * now.rates.fps_wanted * now.rates.factor
        hold(fps >= wanted, f"{self.channel.name} was seen {fps:.2f} times a second; {wanted:.2f} is the least")
        return fps

    def all_text(self) -> str:
        """The text of all events, to search for what must not appear."""
        with self._lock:
            return "\n".join(repr(event) for _, event in self.events)

    def _hear(self, event: StreamEvent) -> None:
        with self._lock:
            self.events.append((time.monotonic(), event))


class Lab:
    """Everything that a case opens; closed at its end, newest first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ShiftedClock()
        self.trouble = Trouble()
        self._stack = ExitStack()
        self._timeline: Timeline | None = None
        self._host: Scheduler | None = None

    def camera(self, *arguments: str) -> RtspServer:
        """Start a real RTSP server in its own process."""
        return self._stack.enter_context(RtspServer(*arguments))

    def proxy(self, port: int) -> Proxy:
        """Start a proxy that disturbs the connection to a camera."""
        return self._stack.enter_context(Proxy(port))

    def enter(self, context: Any) -> Any:
        """Enter a context that is closed at the end."""
        return self._stack.enter_context(context)

    @property
    def timeline(self) -> Timeline:
        """The timeline that stores every event; created on first use."""
        if self._timeline is None:
            self._timeline = Timeline(self.folder / "timeline", clock=self.clock)
            self._stack.callback(self._timeline.close)
        return self._timeline

    def host(self, **options: Any) -> Scheduler:
        """The scheduler, with the model loaded."""
        if self._host is None:
            host = Scheduler(lambda: make_engine(self.trouble), clock=self.clock, **options)
            self._stack.callback(lambda: hold(host.stop(10.0), "the host did not stop within ten seconds"))
            host.start()
            wait_until(lambda: host.state is ModelState.READY, 240.0, "the model is loaded")
            self._host = host
        return self._host

    def watch(self, name: str, spec: str, *, retry: RetryPolicy = QUICK, **config: Any) -> Watched:
        """Watch a camera as the program does; its events go to the timeline first."""

        def open_quickly(spec: str, *, options: SourceOptions, clock: Clock) -> Source:
            return open_source(spec, options=replace(options, retry=retry), clock=clock)

        timeline, host = self.timeline, self.host()
        wanted = ChannelConfig(**{"name": name, "spec": spec, "keep_trying": True, "read_timeout_s": 1.5, **config})
        sink = ChannelSink(timeline, name)
        channel = Channel(wanted, host, clock=self.clock, sinks=[sink], opener=open_quickly)
        watched = Watched(channel)
        channel.start()
        self._stack.callback(lambda: hold(channel.stop(10.0), f"{name} did not stop within ten seconds"))
        return watched

    def stored(self, camera: str) -> list[StreamEvent]:
        """A camera's events in the timeline, oldest first."""
        return [event for event in self.timeline.events() if event.source == camera]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


@functools.cache
def load_embedded() -> Checkpoint:
    """The embedded checkpoint, loaded once per process."""
    from models.checkpoint.loader import load_checkpoint

    return load_checkpoint("embedded", progress=False)


def make_engine(trouble: Trouble | None = None) -> Engine:
    """An engine with the embedded checkpoint, whose passes `trouble` can disturb."""
    from models.engine import Engine

    engine: Any = Engine(load_embedded())
    if trouble is not None:
        forward, open_session = engine._forward, engine.open_session

        def troubled_forward(requests: Sequence[Any]) -> Any:
            errors: dict[int, Exception] = {}
            for request in requests:
                try:
                    trouble.before_pass(request.cache)
                except Exception as error:  # of this camera's pass alone
                    errors[id(request)] = error
            rest = [request for request in requests if id(request) not in errors]
            replies = iter(forward(rest) if rest else [])
            return [errors[id(request)] if id(request) in errors else next(replies) for request in requests]

        def noted_session(*arguments: Any, **options: Any) -> Any:
            session = open_session(*arguments, **options)
            trouble.sessions.append(session)
            return session

        engine._forward, engine.open_session = troubled_forward, noted_session
    return engine
