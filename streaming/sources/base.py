"""The interface of all sources (`Source`), their options, and the base class that most of them share.

One thread at a time may call `open()` and `frames()`; any thread may call `close()`. The decoder is freed by `close()`
itself if no thread is opening or reading, and otherwise by that thread as soon as its call returns. FFmpeg would read
freed memory if a container were closed during another thread's call, so every use of a container holds the decoder
lock.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, get_args

import numpy as np

from streaming.buffer import Item
from streaming.clock import Clock, SystemClock
from streaming.errors import OptionError, PictureTooNarrow, SourceError
from streaming.frame_sampling import FrameSampler, check_fps
from streaming.masks import Masks
from streaming.network_policy import NetworkPolicy
from streaming.sources.damage import DamageTally
from streaming.sources.pacing import Playback
from streaming.types import Frame, Notice, NoticeKind, SourceInfo

MAX_ASPECT = 200
"""Largest ratio of a picture's longer side to its shorter side: a grid of patches cannot represent more."""

Transport = Literal["tcp", "udp"]
Hardware = Literal["auto", "off"]
Jumps = Literal["follow", "refuse"]
T = TypeVar("T")


class Source(Protocol):
    """A source of frames: a camera, a recording, a scene."""

    @property
    def name(self) -> str:
        """The display name, credentials redacted."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether the source runs in real time and cannot wait for its reader. For `http(s)`, known once open."""
        ...

    def open(self) -> SourceInfo:
        """Open the source. On failure, raise a `StreamingError` and leave nothing open; it can be tried again."""
        ...

    def frames(self) -> Iterator[Item]:
        """Frames and notices in order: `OPENED` first, `ENDED` last unless the source was closed."""
        ...

    def close(self) -> None:
        """Release everything that is open; calling it again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FrameChooser(Protocol):
    """Chooses frames before they are converted (`streaming.frame_sampling.FrameSampler`, `streaming.tap.Tap`)."""

    @property
    def next_s(self) -> float:
        """Media time at which the next frame is wanted."""
        ...

    def wants(self, pts_s: float, *, is_repeated: bool = False) -> bool:
        """Whether to deliver the frame at media time `pts_s`. is_repeated: it is the previous picture, still shown."""
        ...

    def reset(self) -> None:
        """Forget the stream; called when a source opens."""
        ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to reconnect after a live source was lost: exponential backoff with a cap and jitter."""

    max_retries: int | None = 5
    """Attempts in a row before giving up; None never gives up."""
    first_delay_s: float = 0.5
    """Delay before the first attempt."""
    max_delay_s: float = 30.0
    """Longest delay."""
    factor: float = 2.0
    """Factor by which the delay grows with each attempt."""
    jitter: float = 0.2
    """Each delay varies at random by at most this share of itself, so that many cameras do not reconnect at once."""
    login_refused_delay_s: float = 60.0
    """Delay after a refused login: cameras lock an account after too many attempts."""
    steady_s: float = 10.0
    """A connection that lasted this long resets the count of attempts."""
    from_start: bool = False
    """Whether a source that cannot be reached at first is retried like one that was lost. `open` then returns at once,
    without any facts about the source, and `frames` makes the first connection."""

    def __post_init__(self) -> None:
        if self.max_retries is not None and self.max_retries < 0:
            raise OptionError(f"max_retries={self.max_retries}", "it is 0 or more, or null for no limit", "5 is usual")
        for name in ("first_delay_s", "max_delay_s", "login_refused_delay_s", "steady_s"):
            _check_seconds(name, getattr(self, name))
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise OptionError(f"factor={self.factor:g}", "delays grow, so it is 1 or more", "2 is usual")
        if not 0 <= self.jitter < 1:
            raise OptionError(f"jitter={self.jitter:g}", "it is a share from 0 to below 1", "0.2 is usual")

    def delay_s(self, attempt: int, *, login_refused: bool, rng: random.Random) -> float:
        """Seconds to wait before the attempt with this number, the first being 1."""
        spread = 1 + self.jitter * rng.uniform(-1, 1)
        if login_refused:
            return self.login_refused_delay_s * spread
        growth = self.factor ** min(attempt - 1, 60)
        # The cap is reduced by the jitter, so that delays at the cap still vary.
        return min(self.max_delay_s / (1 + self.jitter), self.first_delay_s * growth) * spread


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to read a source. A live source raises `OptionError` for the options of recordings."""

    sample_fps: float | None = None
    """Deliver only the frames that a `FrameSampler` of this rate selects; the others are decoded but not converted."""
    start_s: float = 0.0
    """Recordings: media time at which to start."""
    end_s: float | None = None
    """Recordings: media time at which to stop; frames from there on are not delivered."""
    loop: int | None = 1
    """Recordings: how many times to play it; None plays it forever."""
    speed: float | None = None
    """Recordings: 1 plays in real time, 2 twice as fast; None as fast as frames are read."""
    jumps: Jumps = "follow"
    """Recordings: `refuse` makes `open` raise `TimesJumpBack` if the first 100,000 timestamps jump back; `follow`
    continues media time from the frame before and reports the jump. Later jumps are always followed."""
    masks: Masks | None = None
    """Privacy masks that `open_source` paints over each frame."""
    open_timeout_s: float = 5.0
    """Network: how long opening may take."""
    read_timeout_s: float = 3.0
    """Network and webcams: longest time without any data."""
    picture_timeout_s: float = 30.0
    """Live sources: longest time of data without a picture; key frames may be ten seconds apart."""
    frozen_after_s: float | None = None
    """Live sources: time without anything new in the picture after which it counts as frozen; None never checks."""
    hardware: Hardware = "auto"
    """Live sources: `auto` decodes on a graphics card if one can; `off` never does."""
    reach: NetworkPolicy | None = None
    """Network: the addresses that an untrusted URL may lead to; None for the owner's own URLs, which FFmpeg opens."""
    rtsp_transport: Transport = "tcp"
    """RTSP: how video data is transported."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """Live sources: when to reconnect."""
    chooser: FrameChooser | None = None
    """Chooses the frames to deliver, instead of `sample_fps`."""
    playback: Playback | None = None
    """Recordings: controls pause and speed while playing, instead of `speed`."""

    def __post_init__(self) -> None:
        check_fps("sample_fps", self.sample_fps)
        _check_seconds("start_s", self.start_s)
        if self.end_s is not None:
            _check_seconds("end_s", self.end_s)
            if self.end_s <= self.start_s:
                raise OptionError(
                    f"end_s={self.end_s:g}", f"the end lies after the start, {self.start_s:g}", "give a later end"
                )
        if self.loop is not None and self.loop < 1:
            raise OptionError(f"loop={self.loop}", "a recording is played at least once", "give 1 or more")
        if self.speed is not None and not (math.isfinite(self.speed) and self.speed > 0):
            raise OptionError(f"speed={self.speed:g}", "a speed is above 0", "give 1 for real time, or max")
        for name in ("open_timeout_s", "read_timeout_s", "picture_timeout_s", "frozen_after_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise OptionError(f"{name}={value:g}", "a time limit is above 0 seconds", "3 is usual")
        if self.rtsp_transport not in get_args(Transport):
            raise OptionError(f"rtsp_transport={self.rtsp_transport!r}", "it is tcp or udp", "use tcp")
        if self.hardware not in get_args(Hardware):
            raise OptionError(f"hardware={self.hardware!r}", "it is auto or off", "use auto")
        if self.jumps not in get_args(Jumps):
            raise OptionError(f"jumps={self.jumps!r}", "it is follow or refuse", "use follow")

    def frame_chooser(self) -> FrameChooser:
        """The chooser for a source that is being opened: `chooser`, reset, or a new sampler of `sample_fps`."""
        if self.chooser is None:
            return FrameSampler(self.sample_fps)
        self.chooser.reset()
        return self.chooser

    def check_live(self, name: str) -> None:
        """Raise `OptionError` if an option is set that only recordings support; `name` is the source's."""
        for option, is_default in (
            ("start_s", self.start_s == 0),
            ("end_s", self.end_s is None),
            ("loop", self.loop == 1),
            ("speed", self.speed in (None, 1.0)),
        ):
            if not is_default:
                raise OptionError(
                    f"{option}={getattr(self, option)}", f"{name} is live and does not support it", "leave it out"
                )


class BaseSource:
    """Base class of sources: makes notices and frames, and can be closed from any thread."""

    def __init__(self, name: str, options: SourceOptions, clock: Clock | None = None) -> None:
        self._name = name
        self._options = options
        self._clock: Clock = clock or SystemClock()
        self._closed = threading.Event()
        self._decoder = threading.Lock()
        self._num_decoded = 0
        self._last_pts_s = 0.0
        self._size_px: tuple[int, int] | None = None
        self._damage = DamageTally()

    @property
    def name(self) -> str:
        """The display name, credentials redacted."""
        return self._name

    def close(self) -> None:
        """Release everything, now or as soon as the reader's call into the decoder returns."""
        self._closed.set()
        if self._decoder.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._decoder.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _release(self) -> None:
        """Free the decoder; called with `_decoder` held, and possibly more than once."""

    def _start(self) -> None:
        """Reset the state of an earlier use; `open` calls this first."""
        self._closed = threading.Event()
        self._num_decoded = 0
        self._last_pts_s = 0.0
        self._size_px = None
        self._damage = DamageTally()

    def _with_decoder(self, work: Callable[[], T]) -> T | None:
        """The result of `work()`, run with the decoder held; None if the source was closed, which frees the decoder."""
        closed = self._closed
        result = None
        try:
            with self._decoder:
                if not closed.is_set():
                    result = work()
        finally:
            if closed.is_set():
                self.close()
        return None if closed.is_set() else result

    def _open_with(self, work: Callable[[], T]) -> T:
        """The result of `work()`, run by `open` with the decoder held; raises `SourceError` if it was closed."""
        result = self._with_decoder(work)
        if result is None:
            raise SourceError(self._name, "it was closed while it was being opened", "open it again")
        return result

    def _notice(self, kind: NoticeKind, reason: str, count: int = 0, **details: float | int | str | bool) -> Notice:
        return Notice(kind, self._name, self._last_pts_s, reason, count, details)

    def _damage_notices(self) -> Iterator[Notice]:
        """A notice of the damage since the last such notice, if there was any."""
        if self._damage.is_pending:
            reason, num_lost = self._damage.drain()
            yield self._notice(NoticeKind.DAMAGED, reason, num_lost)

    def _opened(self, info: SourceInfo) -> Notice:
        fps = f" at {info.fps_declared:.4g} frames a second" if info.fps_declared else ""
        length = f", {info.duration_s_declared:.1f} s" if info.duration_s_declared else ""
        kind = "live" if info.is_live else "a recording"
        size = f"{info.width_px} x {info.height_px}" if info.width_px else "size not known yet"
        unwatched = ", ".join(info.unwatched)
        others = f"; not watched: {unwatched}" if unwatched else ""
        more: dict[str, Any] = {"unwatched": unwatched} if unwatched else {}
        return self._notice(
            NoticeKind.OPENED,
            f"{kind}, {size}, {info.codec}{fps}{length}{others}",
            width_px=info.width_px,
            height_px=info.height_px,
            is_live=info.is_live,
            codec=info.codec,
            **more,
        )

    def _framed(self, image: np.ndarray, pts_s: float, index: int, *, is_repeated: bool = False) -> Iterator[Item]:
        """`image` as a frame, preceded by a notice if its size changed."""
        yield from self._size_notices(image)
        self._last_pts_s = pts_s
        yield Frame(image, index, pts_s, self._clock.now_s(), self._name, is_repeated)

    def _size_notices(self, image: np.ndarray) -> Iterator[Notice]:
        """A notice if the size of `image` differs from the previous picture's; raises `PictureTooNarrow`."""
        height_px, width_px = image.shape[:2]
        check_aspect(self._name, width_px, height_px)
        if self._size_px is not None and self._size_px != (width_px, height_px):
            old_width_px, old_height_px = self._size_px
            yield self._notice(
                NoticeKind.GRID_CHANGED,
                f"the picture is {width_px} x {height_px} now, was {old_width_px} x {old_height_px}",
                width_px=width_px,
                height_px=height_px,
                old_width_px=old_width_px,
                old_height_px=old_height_px,
            )
        self._size_px = (width_px, height_px)


def check_aspect(name: str, width_px: int, height_px: int) -> None:
    """Raise `PictureTooNarrow` if one side is more than `MAX_ASPECT` times the other."""
    if max(width_px, height_px) > MAX_ASPECT * max(1, min(width_px, height_px)):
        raise PictureTooNarrow(
            name,
            f"its picture is {width_px} x {height_px}, and one side may be at most {MAX_ASPECT} times the other",
            "crop it, or add a margin",
        )


def _check_seconds(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise OptionError(f"{name}={value:g}", "it is a number of seconds from 0 up", "give e.g. 10")


WATCH_RETRY = RetryPolicy(
    max_retries=None, first_delay_s=6.25, max_delay_s=60.0, login_refused_delay_s=300.0, from_start=True
)
"""For cameras that are watched for days: retries forever, every 5 to 60 s, every 5 minutes after a refused login."""
