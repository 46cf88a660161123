"""Reads a stream's first packets ahead, to tell a recording from a live stream. For the thread that reads the stream.

A recording ends, or arrives faster than any camera can send.
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
    from av.stream import Stream

WINDOW_S = 1.0
"""Length of the first two measuring windows; the second follows if the first was fast: many servers begin with a
buffer."""
LONG_WINDOW_S = 4.0
"""Length of a third window, which follows if the second was fast, but not clearly so."""
FASTER, CLEARLY_FASTER = 1.25, 2.0
"""Media seconds a second, over a long and a short window, that no camera exceeds."""
MOST_BYTES_PER_S = 16 << 20
"""Bytes a second that no camera exceeds."""
_NUM_DIGESTED = 3
_NUM_SHORT_WINDOWS = 2


@dataclass(frozen=True, slots=True)
class PeekedPacket:
    """The facts about one packet that was read ahead."""

    stamp_s: float | None
    """Timestamp of a picture; None for sound, and if the timestamps are not the camera's."""
    num_bytes: int
    """Size of the packet."""


class PacketsAhead:
    """The packets of a container in order; some may be read ahead and are kept until the iteration reaches them."""

    def __init__(self, demux: Callable[[], Iterator[Packet[Stream]]]) -> None:
        """`demux` returns an iterator over the packets from the container's present position."""
        self._demux = demux
        self._source: Iterator[Packet[Stream]] | None = None
        self._kept: deque[Packet[Stream]] = deque()
        self._failure: av.FFmpegError | None = None
        self._digest = hashlib.blake2b()
        self._num_digested = 0

    @property
    def failure(self) -> av.FFmpegError | None:
        """The error that ended reading ahead; iteration raises it after the packets that were kept."""
        return self._failure

    @property
    def digest(self) -> bytes | None:
        """Hash of the first three packets; None if fewer were read so far."""
        return self._digest.digest() if self._num_digested == _NUM_DIGESTED else None

    def read_ahead(self) -> Iterator[Packet[Stream]]:
        """Read packets up to the end or an error, yield them, and keep them for the iteration."""
        while self._failure is None and (packet := self._read()) is not None:
            self._kept.append(packet)
            yield packet

    def clear(self) -> None:
        """Discard the packets that were kept, after a seek in the container."""
        self._kept.clear()
        self._source, self._failure = None, None

    def __iter__(self) -> Iterator[Packet[Stream]]:
        """Yield the packets that were kept, then the rest. Raises FFmpeg's errors."""
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
            yield self._noted(packet)

    def _noted(self, packet: Packet[Stream]) -> Packet[Stream]:
        if self._num_digested < _NUM_DIGESTED:
            self._num_digested += 1
            self._digest.update(b"%d %a %d " % (packet.stream.index, packet.pts, packet.size) + bytes(packet))
        return packet

    def _read(self) -> Packet[Stream] | None:
        if self._source is None:
            self._source = self._demux()
        try:
            packet = next(self._source, None)
            return None if packet is None else self._noted(packet)
        except av.EOFError:
            return None
        except av.FFmpegError as error:
            self._failure = error
            return None


@dataclass(frozen=True, slots=True)
class _Mark:
    """What had come by the beginning of a measuring window."""

    at_s: float
    media_s: float


def is_recording(glimpses: Iterable[PeekedPacket], now_s: Callable[[], float]) -> bool:
    """Whether a stream without a declared length is a recording: it ends early, or stays faster than real time.

    A server that relays a camera first sends several buffered seconds at once, so a fast first window decides nothing;
    the second window decides, or if it is not clear the third. Pictures that come in groups, such as the fragments of
    an MP4, make a window look up to one and a half pauses longer or shorter than it is.
    """
    began_s = now_s()
    first_s = last_s = before_s = longest_s = 0.0
    is_stamped, num_bytes = False, 0
    marks: list[_Mark] = []
    for glimpse in glimpses:
        elapsed_s = now_s() - began_s
        longest_s, before_s = max(longest_s, elapsed_s - before_s), elapsed_s
        num_bytes += glimpse.num_bytes
        if glimpse.stamp_s is not None:
            first_s = min(first_s, glimpse.stamp_s) if is_stamped else glimpse.stamp_s
            last_s = max(last_s, glimpse.stamp_s) if is_stamped else glimpse.stamp_s
            is_stamped = True
        if num_bytes > MOST_BYTES_PER_S * max(2 * WINDOW_S, elapsed_s):
            return True
        mark = marks[-1] if marks else _Mark(0.0, first_s)
        window_s, media_s = elapsed_s - mark.at_s, last_s - mark.media_s
        if window_s < (WINDOW_S if len(marks) < _NUM_SHORT_WINDOWS else LONG_WINDOW_S):
            continue
        faster = CLEARLY_FASTER if len(marks) < _NUM_SHORT_WINDOWS else FASTER
        if marks and media_s > faster * window_s + 1.5 * longest_s:
            return True
        if media_s <= FASTER * window_s or len(marks) == _NUM_SHORT_WINDOWS:
            return False
        marks.append(_Mark(elapsed_s, last_s))
    return True
