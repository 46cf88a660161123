"""Live sources: connects, reads, and reconnects by a `RetryPolicy` after a loss.

One thread calls `open()` and `frames()`; any thread may call `close()`, which does not wait: a thread that is
connecting or reading stops as soon as its call returns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

import av
import numpy as np

from streaming.buffer import Item
from streaming.clock import Clock
from streaming.errors import LoginRefused, PictureTooNarrow, PlayedBefore, SourceError
from streaming.sources.base import BaseSource, SourceOptions, check_aspect
from streaming.sources.freeze_detector import FreezeChange, FreezeDetector
from streaming.sources.live_timeline import LivePlaced, LiveTimeline
from streaming.sources.pacing import Pacer
from streaming.sources.pictures import Broken, Damage, DecodedPicture, Event
from streaming.sources.reading import TIMED_OUT, reason_of
from streaming.sources.timestamps import MissingPictures
from streaming.types import NoticeKind, SourceInfo

_DAMAGE_INTERVAL_S = 1.0
_JUMP_INTERVAL_S = 1.0
_FROZEN_INTERVAL_S = 600.0


class Connection(Protocol):
    """One connection to a live source: a `VideoReader`, or a webcam.

    Its properties are read once, when it connects, and stay available after it was closed.
    """

    @property
    def codec(self) -> str:
        """Name of the codec."""
        ...

    @property
    def coded_size_px(self) -> tuple[int, int]:
        """Width and height by the header, upright; 0 if not known yet."""
        ...

    @property
    def fps_declared(self) -> float | None:
        """Frame rate by the header; None if it has none."""
        ...

    @property
    def has_timestamps(self) -> bool:
        """Whether its timestamps come from the camera, rather than from FFmpeg."""
        ...

    @property
    def is_bursty(self) -> bool:
        """Whether many seconds of video arrive at once and must be paced to real time."""
        ...

    @property
    def is_finite(self) -> bool:
        """Whether its end is the end of the source, not a loss."""
        ...

    def events(self) -> Iterator[Event]:
        """Yield pictures and damage until the connection ends."""
        ...

    def close(self) -> None:
        """Close the connection; calling it again does nothing."""
        ...


class LiveSource(BaseSource):
    """A source that runs in real time. The end of a connection counts as a loss, and it tries to reconnect."""

    is_live = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        options: SourceOptions,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`connect` returns a new connection or raises a `SourceError`; `rng` draws the jitter of the delays."""
        options.check_live(name)
        super().__init__(name, options, clock)
        self._connect = connect
        self._rng = rng or random.Random()
        self._connection: Connection | None = None
        self._timeline = LiveTimeline()
        self._missing = MissingPictures()
        self._num_lost_before = 0
        self._num_jumps, self._skipped_s, self._reported_jump_at_s = 0, 0.0, float("-inf")
        self._sampler = options.frame_chooser()
        self._num_attempts, self._num_at_connecting, self._lost_for = 0, 0, ""
        self._connected_at_s = self._decoded_at_s = 0.0
        self._is_back = False
        self._is_opened = self._is_over = False
        self._still: FreezeDetector | None = None
        self._renew_at_s: float | None = None
        self._num_renewals = 0
        self._reported_frozen_at_s = float("-inf")

    def open(self) -> SourceInfo:
        """Connect. Raises the errors of `connect`. With `retry.from_start`, `frames` connects instead."""
        self.close()
        self._start()
        self._timeline = LiveTimeline()
        self._missing.reset()
        self._num_lost_before = 0
        self._sampler.reset()
        self._num_attempts = 0
        self._is_back = self._is_over = False
        self._reset_still()
        self._is_opened = True
        if self._options.retry.from_start:
            return SourceInfo(self._name, True, 0, 0, None, None, "")
        self._is_opened = False
        info = self._open_with(self._connect_first)
        self._is_opened = True
        return info

    def frames(self) -> Iterator[Item]:
        """Frames and notices in order, until the source is closed, or was lost for good (`ENDED`)."""
        if not self._is_opened:
            raise SourceError(self._name, "it is not open", "call open() first")
        closed = self._closed
        connection = self._connection or (yield from self._come_back("", at_once=True))
        if connection is not None:
            yield self._opened(self._describe(connection))
        while connection is not None and not closed.is_set():
            reason = yield from self._receive(connection)
            yield from self._damage_notices()
            self._with_decoder(self._release)
            if self._is_over:
                break
            if not closed.is_set():
                connection = yield from self._come_back(reason, at_once=self._is_renewing)
        if closed.is_set():
            return
        reason = f"lost: {self._lost_for}; not back after {self._num_attempts} attempts"
        if self._is_over:
            reason = f"{self._num_decoded} frame{'s' * (self._num_decoded != 1)} read; it is a recording, seen once"
        yield self._notice(
            NoticeKind.ENDED,
            reason,
            self._num_decoded,
            broken=not self._is_over,
            num_frames=self._num_decoded,
            num_lost=self._damage.num_lost,
        )

    def _connect_first(self) -> SourceInfo:
        connection = self._connected()
        self._connected_at_s = self._decoded_at_s = self._clock.now_s()
        self._num_at_connecting = 0
        self._size_px = _known(connection.coded_size_px)
        return self._describe(connection)

    def _connected(self) -> Connection:
        """A new connection, stored in `_connection`; closes it and raises `PictureTooNarrow` if its picture is."""
        self._connection = connection = self._connect()
        try:
            check_aspect(self._name, *connection.coded_size_px)
        except SourceError:
            self._release()
            raise
        return connection

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _describe(self, connection: Connection) -> SourceInfo:
        width_px, height_px = self._size_px or connection.coded_size_px
        return SourceInfo(self._name, True, width_px, height_px, connection.fps_declared, None, connection.codec)

    def _receive(self, connection: Connection) -> Generator[Item, None, str]:
        """Yield the items of one connection; return why it ended."""
        events = connection.events()
        pacer = Pacer(self._clock, 1.0 if connection.is_bursty else None, self._closed)
        self._timeline.is_bursty = connection.is_bursty
        told_at_s = float("-inf")
        while (event := self._with_decoder(lambda: next(events, None))) is not None:
            now_s = self._clock.now_s()
            if isinstance(event, Broken):
                return self._silence() if event.reason == TIMED_OUT else event.reason
            if isinstance(event, Damage):
                self._damage.add(event)
            if isinstance(event, DecodedPicture):
                stamp_s = event.stamp_s if connection.has_timestamps else None
                try:
                    yield from self._deliver(event, stamp_s, now_s, pacer)
                except PictureTooNarrow as error:
                    return error.rule
            elif now_s - max(self._decoded_at_s, self._connected_at_s) > self._options.picture_timeout_s:
                return self._pictureless()
            if self._is_renewing:
                return "its picture is frozen"
            if self._damage.is_pending and now_s - told_at_s >= _DAMAGE_INTERVAL_S:
                told_at_s = now_s
                yield from self._damage_notices()
        self._is_over = connection.is_finite
        return "the connection was ended by the other side"

    def _silence(self) -> str:
        return f"{TIMED_OUT}, {self._options.read_timeout_s:g} s (read_timeout_s)"

    def _pictureless(self) -> str:
        """Why a connection that sends data but no pictures is given up."""
        limit = f"{self._options.picture_timeout_s:g} s (picture_timeout_s)"
        if self._num_decoded > self._num_at_connecting:
            return f"no picture could be decoded for {limit}"
        return f"no key frame came within {limit}; raise that, or set the camera's key frames closer together"

    def _deliver(self, picture: DecodedPicture, stamp_s: float | None, now_s: float, pacer: Pacer) -> Iterator[Item]:
        """The notices about one picture, and the picture as a frame if it is sampled."""
        placed = self._timeline.place(stamp_s, now_s)
        if self._is_back:
            gap_s = now_s - self._decoded_at_s
            yield self._notice(NoticeKind.GAP, f"it is back; {gap_s:.1f} s were not seen", gap_s=gap_s)
            self._is_back = False
        elif placed.message:
            yield from self._time_notices(placed, now_s)
        self._count_missing(stamp_s if placed.by_stamp else None)
        self._decoded_at_s = now_s
        if now_s - self._connected_at_s >= self._options.retry.steady_s:
            self._num_attempts = 0
        index = self._num_decoded
        self._num_decoded += 1
        if not self._sampler.wants(placed.pts_s):
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
        yield from self._freeze_notices(image, now_s)
        yield from self._framed(image, placed.pts_s, index)

    def _time_notices(self, placed: LivePlaced, now_s: float) -> Iterator[Item]:
        """The notice about a timestamp; at most one a second about jumps, as damaged packets have random timestamps."""
        self._num_jumps += 1
        self._skipped_s += placed.skipped_s
        if placed.rate is not None or now_s - self._reported_jump_at_s >= _JUMP_INTERVAL_S:
            count, self._num_jumps, self._reported_jump_at_s = self._num_jumps, 0, now_s
            skipped_s, self._skipped_s = self._skipped_s, 0.0
            details: dict[str, float] = {"gap_s": skipped_s} if skipped_s else {}
            details |= {"jump_s": placed.jump_s} if placed.rate is None else {"rate": placed.rate}
            yield self._notice(NoticeKind.GAP, placed.message, count, **details)

    def _count_missing(self, stamp_s: float | None) -> None:
        """Count pictures since the last one that never arrived, apart from those that failed to decode."""
        num_undecoded = self._damage.num_lost - self._num_lost_before
        num_missing = self._missing.add(stamp_s) - num_undecoded
        if num_missing > 0:
            self._damage.add(Damage("a picture never came", num_lost=num_missing))
        self._num_lost_before = self._damage.num_lost

    def _freeze_notices(self, image: np.ndarray, now_s: float) -> Iterator[Item]:
        """The notices that the picture froze or moves again; while it is frozen, schedules a new connection."""
        still = self._still
        if still is None:
            return
        still_s = still.still_s(now_s)
        masks = self._options.masks
        change = still.update(masks.apply(image) if masks is not None else image, now_s)
        if change is FreezeChange.THAWED:
            self._renew_at_s, self._num_renewals = None, 0
            reason = f"its picture moves again, after it was frozen for {still_s:.0f} s"
            yield self._notice(NoticeKind.GAP, reason, gap_s=still_s, was_frozen=True)
        elif still.is_frozen and self._renew_at_s is None:
            yield from self._plan_renewal(now_s, still.still_s(now_s))

    def _plan_renewal(self, now_s: float, still_s: float) -> Iterator[Item]:
        """Schedule a new connection, which often unfreezes a camera; yield a notice, later only every ten minutes."""
        self._num_renewals += 1
        delay_s = self._options.retry.delay_s(self._num_renewals, login_refused=False, rng=self._rng)
        self._renew_at_s = now_s + delay_s
        is_power_of_two = self._num_renewals & (self._num_renewals - 1) == 0
        if is_power_of_two or now_s - self._reported_frozen_at_s >= _FROZEN_INTERVAL_S:
            self._reported_frozen_at_s = now_s
            reason = f"its picture is frozen: nothing new in it for {still_s:.0f} s; connecting anew in {delay_s:.1f} s"
            yield self._notice(NoticeKind.FROZEN, reason, self._num_renewals, still_s=still_s, delay_s=delay_s)

    @property
    def _is_renewing(self) -> bool:
        """Whether a new connection is due because the picture is frozen."""
        return self._renew_at_s is not None and self._clock.now_s() >= self._renew_at_s

    def _reset_still(self) -> None:
        after_s = self._options.frozen_after_s
        self._still = FreezeDetector(after_s) if after_s is not None else None
        self._renew_at_s, self._num_renewals = None, 0
        self._reported_frozen_at_s = float("-inf")

    def _come_back(self, reason: str, *, at_once: bool) -> Generator[Item, None, Connection | None]:
        """Try to connect until it succeeds; return the connection, or None if attempts ran out or it was closed.

        `at_once`: make the first attempt without a delay or a notice, as at the start.
        """
        retry, closed = self._options.retry, self._closed
        login_refused = False
        if at_once:
            connection, refusal = self._try_connecting(is_gap=False)
            if refusal is None:
                return connection
            reason, login_refused = refusal.rule, isinstance(refusal, LoginRefused)
        while retry.max_retries is None or self._num_attempts < retry.max_retries:
            self._num_attempts += 1
            delay_s = retry.delay_s(self._num_attempts, login_refused=login_refused, rng=self._rng)
            yield self._notice(
                NoticeKind.RECONNECTING,
                f"{'lost' if self._num_decoded else 'not there'}: {reason}; trying again in {delay_s:.1f} s",
                self._num_attempts,
                delay_s=delay_s,
                login_refused=login_refused,
            )
            if self._clock.wait(closed, delay_s):
                return None
            connection, refusal = self._try_connecting(is_gap=True)
            if refusal is None:
                return connection
            if isinstance(refusal, PlayedBefore):
                self._is_over = True
                return None
            reason, login_refused = refusal.rule, isinstance(refusal, LoginRefused)
        self._lost_for = reason
        return None

    def _try_connecting(self, *, is_gap: bool) -> tuple[Connection | None, SourceError | None]:
        """A connection and None, or None and the error; two Nones if the source was closed meanwhile."""
        try:
            return self._with_decoder(lambda: self._connect_again(is_gap)), None
        except SourceError as error:
            return None, error

    def _connect_again(self, is_gap: bool) -> Connection:
        connection = self._connected()
        if not self._num_decoded:
            self._size_px = _known(connection.coded_size_px)
        self._connected_at_s = now_s = self._clock.now_s()
        self._num_at_connecting = self._num_decoded
        self._timeline.reconnect()
        self._missing.reset()
        self._num_lost_before = self._damage.num_lost
        self._is_back = is_gap and self._num_decoded > 0
        self._renew_at_s = None
        if self._still is not None:
            self._still.on_reconnect(now_s)
        return connection


def _known(size_px: tuple[int, int]) -> tuple[int, int] | None:
    """`size_px`, or None if it is not known yet (0)."""
    return size_px if all(size_px) else None
