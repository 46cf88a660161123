"""Live sources: one connection after another, with a bounded number of attempts between them.

`frames()` is for one thread, `close()` for any: it waits for nothing, and the reader ends as soon as its read returns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

import av

from streaming.buffer import Item
from streaming.clock import Clock
from streaming.errors import LoginRefused, SourceError
from streaming.sampling import Sampler
from streaming.sources.base import BaseSource, SourceOptions, check_aspect
from streaming.sources.pacing import Pacer
from streaming.sources.pictures import Broken, Damage, Event, Picture
from streaming.sources.reading import reason_of
from streaming.sources.timestamps import LiveTimeline
from streaming.types import NoticeKind, SourceInfo

_DAMAGE_INTERVAL_S = 1.0
_MAX_WITHOUT_PICTURE_S = 30.0


class Connection(Protocol):
    """What is read until it breaks: `VideoReader`, or a camera."""

    @property
    def codec(self) -> str:
        """Name of the codec."""
        ...

    @property
    def coded_size_px(self) -> tuple[int, int]:
        """Width and height by the header."""
        ...

    @property
    def fps_declared(self) -> float | None:
        """Rate by the header."""
        ...

    @property
    def has_timestamps(self) -> bool:
        """Whether its timestamps are a camera's and not made up on the way."""
        ...

    @property
    def is_bursty(self) -> bool:
        """Whether many seconds arrive at once, so that they are to be played in real time."""
        ...

    def events(self) -> Iterator[Event]:
        """Pictures and damage until the connection ends."""
        ...

    def close(self) -> None:
        """End it; more than once does no harm."""
        ...


class LiveSource(BaseSource):
    """A source in whose time we have no say. An end is a disconnect, and is followed by attempts to come back."""

    is_live = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        options: SourceOptions,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`connect` makes a connection or raises a `SourceError`; `rng` draws the jitter of the delays."""
        options.check_live(name)
        super().__init__(name, options, clock)
        self._connect = connect
        self._rng = rng or random.Random()
        self._connection: Connection | None = None
        self._timeline = LiveTimeline()
        self._sampler = Sampler(options.sample_fps)
        self._num_attempts = 0
        self._connected_at_s = self._decoded_at_s = 0.0
        self._is_back = False

    def open(self) -> SourceInfo:
        """Connect; raises what `connect` raises."""
        self.close()
        self._start()
        self._timeline = LiveTimeline()
        self._sampler.reset()
        self._num_attempts = 0
        self._is_back = False
        self._connection = self._connect()
        self._connected_at_s = self._decoded_at_s = self._clock.now_s()
        try:
            check_aspect(self._name, *self._connection.coded_size_px)
            self._size_px = self._connection.coded_size_px
            return self._describe(self._connection)
        except SourceError:
            self.close()
            raise

    def frames(self) -> Iterator[Item]:
        """Frames and notices until it is closed, or was lost and did not come back (`ENDED`)."""
        connection = self._connection
        if connection is None:
            raise SourceError(self._name, "it is not open", "call open() first")
        closed = self._closed
        yield self._opened(self._describe(connection))
        while True:
            reason = yield from self._receive(connection)
            yield from self._tell_damage()
            self._with_decoder(self._release)
            if closed.is_set():
                return
            back = yield from self._reconnect(reason)
            if closed.is_set():
                return
            if back is None:
                break
            connection = back
        reason = f"lost, and not back after {self._num_attempts} attempts"
        yield self._notice(
            NoticeKind.ENDED, reason, self._num_decoded, broken=True, num_frames=self._num_decoded,
            num_lost=self._damage.num_lost,
        )

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _describe(self, connection: Connection) -> SourceInfo:
        width_px, height_px = self._size_px or connection.coded_size_px
        return SourceInfo(self._name, True, width_px, height_px, connection.fps_declared, None, connection.codec)

    def _receive(self, connection: Connection) -> Generator[Item, None, str]:
        """Items of one connection; returns why it ended."""
        events = connection.events()
        pacer = Pacer(self._clock, 1.0 if connection.is_bursty else None, self._closed)
        told_at_s = float("-inf")
        while (event := self._with_decoder(lambda: next(events, None))) is not None:
            now_s = self._clock.now_s()
            if isinstance(event, Broken):
                return event.reason
            if isinstance(event, Damage):
                self._damage.add(event)
                if now_s - max(self._decoded_at_s, self._connected_at_s) > _MAX_WITHOUT_PICTURE_S:
                    return f"no picture could be decoded for {_MAX_WITHOUT_PICTURE_S:g} s"
            else:
                stamp_s = event.stamp_s if connection.has_timestamps else None
                yield from self._deliver(event, stamp_s, now_s, pacer)
            if self._damage.is_pending and now_s - told_at_s >= _DAMAGE_INTERVAL_S:
                told_at_s = now_s
                yield from self._tell_damage()
        return "the connection was ended by the other side"

    def _deliver(self, picture: Picture, stamp_s: float | None, now_s: float, pacer: Pacer) -> Iterator[Item]:
        """One picture: as a frame if it is sampled, after what has to be said of it."""
        placed = self._timeline.place(stamp_s, now_s)
        if self._is_back:
            gap_s = now_s - self._decoded_at_s
            yield self._notice(NoticeKind.GAP, f"it is back; {gap_s:.1f} s were not seen", gap_s=gap_s)
            self._is_back = False
        elif placed.jump_s:
            reason = f"timestamps jumped by {placed.jump_s:.1f} s; media time follows our clock"
            yield self._notice(NoticeKind.GAP, reason, jump_s=placed.jump_s)
        self._decoded_at_s = now_s
        if now_s - self._connected_at_s >= self._options.retry.steady_s:
            self._num_attempts = 0
        index = self._num_decoded
        self._num_decoded += 1
        if not self._sampler.take(placed.pts_s):
            self._last_pts_s = placed.pts_s
            return
        pacer.wait(placed.pts_s)
        if self._closed.is_set():
            return
        try:
            image = picture.to_rgb()
        except av.FFmpegError as error:
            self._damage.add(Damage(reason_of(error), num_lost=1))
            return
        yield from self._framed(image, placed.pts_s, index)

    def _reconnect(self, reason: str) -> Generator[Item, None, Connection | None]:
        """Try until it is back; returns the new connection, or None where the attempts are used up or it was closed."""
        retry, closed = self._options.retry, self._closed
        login_refused = False
        while retry.max_retries is None or self._num_attempts < retry.max_retries:
            self._num_attempts += 1
            delay_s = retry.delay_s(self._num_attempts, login_refused=login_refused, rng=self._rng)
            yield self._notice(
                NoticeKind.RECONNECTING,
                f"lost: {reason}; trying again in {delay_s:.1f} s",
                self._num_attempts,
                delay_s=delay_s,
                login_refused=login_refused,
            )
            if self._clock.wait(closed, delay_s):
                return None
            try:
                connection = self._with_decoder(self._connect_again)
            except SourceError as error:
                reason, login_refused = error.rule, isinstance(error, LoginRefused)
                continue
            return connection
        return None

    def _connect_again(self) -> Connection:
        self._connection = connection = self._connect()
        self._connected_at_s = self._clock.now_s()
        self._timeline.reconnect()
        self._is_back = True
        return connection
