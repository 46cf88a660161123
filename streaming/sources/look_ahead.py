"""Looks into what a server sends before it is watched: can it begin, does it end, is it faster than a camera can be?

For the thread that reads.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from av import Packet

WINDOW_S = 1.0
"""So long is listened, and as long again where more came than a camera gives: many begin with what they kept."""
FASTER = 2.0
"""Media seconds a second, over a whole window, that no camera gives."""
MOST_BYTES = 32 << 20
"""Within the windows; no camera gives more."""
_NUM_DIGESTED = 3


@dataclass(frozen=True, slots=True)
class PeekedPacket:
    """A packet that was looked at."""

    stamp_s: float | None
    """Of a picture; None of sound, and where the timestamps are made up."""
    num_bytes: int


class PacketsAhead:
    """Packets of a container in their order, some of which may have been read before they are asked for."""

    def __init__(self, demux: Callable[[], Iterator[Packet]]) -> None:
        """`demux` begins to read on from where the container stands."""
        self._demux = demux
        self._source: Iterator[Packet] | None = None
        self._kept: deque[Packet] = deque()
        self._failure: av.FFmpegError | None = None
        self._digest = hashlib.blake2b()
        self._num_digested = 0

    @property
    def failure(self) -> av.FFmpegError | None:
        """What ended a look ahead, which is raised again after what was kept."""
        return self._failure

    @property
    def digest(self) -> bytes | None:
        """Of the first packets that were looked at: the same for the same ones. None where they were too few."""
        return self._digest.digest() if self._num_digested == _NUM_DIGESTED else None

    def look(self) -> Iterator[Packet]:
        """Read on and keep what comes, up to the end or a failure."""
        while self._failure is None and (packet := self._read()) is not None:
            self._kept.append(packet)
            if self._num_digested < _NUM_DIGESTED:
                self._num_digested += 1
                self._digest.update(b"%d %a %d " % (packet.stream.index, packet.pts, packet.size) + bytes(packet))
            yield packet

    def forget(self) -> None:
        """The container stands elsewhere."""
        self._kept.clear()
        self._source, self._failure = None, None

    def __iter__(self) -> Iterator[Packet]:
        """What was kept, then the rest. Raises FFmpeg's errors."""
        while True:
            if self._kept:
                yield self._kept.popleft()
                continue
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if self._source is None:
                self._source = self._demux()
            packet = next(self._source, None)
            if packet is None:
                return
            yield packet

    def _read(self) -> Packet | None:
        if self._source is None:
            self._source = self._demux()
        try:
            return next(self._source, None)
        except av.EOFError:
            return None
        except av.FFmpegError as error:
            self._failure = error
            return None


def is_recording(glimpses: Iterable[PeekedPacket], now_s: Callable[[], float]) -> bool:
    """Whether what comes without a length is a recording: it ends at once, or goes on faster than time does.

    A server that passes on a camera begins with what it kept, some seconds at once, so the first window alone says
    nothing; the second one does.
    """
    began_s = now_s()
    first_s = last_s = 0.0
    is_stamped, num_bytes = False, 0
    mark: tuple[float, float] | None = None
    for glimpse in glimpses:
        elapsed_s = now_s() - began_s
        num_bytes += glimpse.num_bytes
        if glimpse.stamp_s is not None:
            first_s = min(first_s, glimpse.stamp_s) if is_stamped else glimpse.stamp_s
            last_s = max(last_s, glimpse.stamp_s) if is_stamped else glimpse.stamp_s
            is_stamped = True
        if num_bytes > MOST_BYTES:
            return True
        if mark is None and elapsed_s >= WINDOW_S:
            if last_s - first_s <= FASTER * elapsed_s:
                return False
            mark = (elapsed_s, last_s)
        elif mark is not None and elapsed_s - mark[0] >= WINDOW_S:
            return last_s - mark[1] > FASTER * (elapsed_s - mark[0])
    return True
