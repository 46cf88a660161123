"""Splits a camera's MJPEG stream into pictures by the JPEG markers, ignoring the headers between them.

Cheap cameras omit or double the boundaries, give parts any content type, and send lengths that are not numbers. So the
pictures are cut out by their own markers (ITU-T T.81, B.1.1) and rewritten as a stream that FFmpeg can read. For the
thread that reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from streaming.errors import NotAVideo

MOST_BYTES = 32 << 20
"""Largest size of one picture; no camera sends more."""
MOST_SKIPPED_BYTES = 1 << 20
"""Most bytes that may come before a picture."""

_START = b"\xff\xd8\xff"
_END, _SCAN = 0xD9, 0xDA
_WITH_PICTURES = (*range(0xE0, 0xF0), 0xFE)
"""Markers of application data (APPn) and comments, which may contain a thumbnail JPEG."""
# In coded data 0xFF is followed by 0x00 or a restart marker; fill bytes may stand before any marker.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_BOUNDARY = "next-picture"
_PART_HEAD = re.compile(
    rb"\s*(?:(?:--[^\r\n]*\r?\n)+(?:[!-9;-~]+:[^\r\n]*\r?\n)*|(?:content-length:[^\r\n]*\r?\n)?)content-type: *image/",
    re.I,
)
_HEAD_BYTES = 2048


def is_series(content_type: str, head: bytes, *, is_endless: bool) -> bool:
    """Whether an answer is a series of JPEGs, by its content type or by the beginning of its body.

    `is_endless`: the server declares no length, so a picture at the beginning is the first of many.

    >>> is_series("multipart/x-mixed-replace;boundary=x", b"", is_endless=False)
    True
    >>> is_series("text/plain", b"--x\\r\\nContent-Type: image/jpg", is_endless=False)
    True
    >>> is_series("video/mp4", b"....ftyp", is_endless=True)
    False
    """
    if content_type.lower().lstrip().startswith("multipart/") or (is_endless and head.startswith(_START)):
        return True
    return _PART_HEAD.match(head, 0, _HEAD_BYTES) is not None


class JpegCutter:
    """Cuts JPEG pictures out of a byte stream, each as soon as its last byte has arrived."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        """Position up to which the current picture was parsed; 0 outside a picture."""
        self._in_scan = False
        self.num_skipped_bytes = 0
        """Bytes since the last picture that belong to no picture."""

    @property
    def num_held_bytes(self) -> int:
        """Bytes of the current, unfinished picture."""
        return len(self._data)

    def add(self, data: bytes) -> Iterator[bytes]:
        """Add the next bytes; yield the pictures that they complete.

        >>> cutter = JpegCutter()
        >>> list(cutter.add(b"--x\\r\\n\\r\\n\\xff\\xd8\\xff\\xda\\0\\2abc")), list(cutter.add(b"\\xff\\xd9\\r\\n--x"))
        ([], [b'\\xff\\xd8\\xff\\xda\\x00\\x02abc\\xff\\xd9'])
        """
        self._data += data
        while (picture := self._cut()) is not None:
            yield picture

    def _cut(self) -> bytes | None:
        """The next complete picture; None if it has not arrived completely."""
        data = self._data
        if not self._at:
            start = data.find(_START)
            end = start if start >= 0 else max(0, len(data) - len(_START) + 1)
            self.num_skipped_bytes += end
            del data[:end]
            if start < 0:
                return None
            self._at, self._in_scan = 2, False
        while True:
            if self._in_scan:
                found = _NEXT_MARKER.search(data, self._at)
                if found is None:
                    self._at = max(self._at, len(data) - 1)
                    return None
                self._at, self._in_scan = found.start(), False
            if self._at + 4 > len(data) and bytes(data[self._at + 1 : self._at + 2]) not in (b"\xd8", b"\xd9"):
                return None
            marker = data[self._at + 1]
            if data[self._at] != 0xFF or marker == 0xD8:
                # A damaged picture, or one without an end marker: the decoder reports it.
                return self._pop(self._at)
            if marker == _END:
                return self._pop(self._at + 2)
            if marker == 0xFF:
                self._at += 1
                continue
            end = self._at + 2 + int.from_bytes(data[self._at + 2 : self._at + 4])
            if marker not in _WITH_PICTURES:
                # Tables never contain pictures, so this one was cut off, and a new one begins here.
                if (start := data.find(_START, self._at, end)) >= 0:
                    return self._pop(start)
                if end > len(data):
                    return None
            self._at, self._in_scan = end, marker == _SCAN

    def _pop(self, end: int) -> bytes:
        picture = bytes(self._data[:end])
        del self._data[:end]
        self._at, self._in_scan, self.num_skipped_bytes = 0, False, 0
        return picture


class JpegSeries:
    """A file object for FFmpeg's `mpjpeg` format: the pictures in a byte stream, with well-formed headers.

    `read` raises `NotAVideo` if the stream contains no picture.
    """

    def __init__(self, name: str, content_type: str, read: Callable[[int], bytes], close: Callable[[], None]) -> None:
        """`name` and `content_type` are for messages; `read` returns the available bytes, and none at the end."""
        self._name = name
        self._content_type = content_type
        self._read = read
        self._close = close
        self._cutter = JpegCutter()
        self._ready = b""
        self._num_pictures = 0

    def readable(self) -> bool:
        """True: FFmpeg may read it."""
        return True

    def seekable(self) -> bool:
        """False: FFmpeg may not seek in it."""
        return False

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes of the series, and none at its end. Raises `NotAVideo`."""
        while not self._ready:
            data = self._read(65_536)
            pictures = list(self._cutter.add(data))
            self._num_pictures += len(pictures)
            self._ready = b"".join(map(_as_part, pictures))
            if not pictures and (not data or self._is_lost()):
                self._check()
                return b""
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken

    def close(self) -> None:
        """Close the stream that it reads from."""
        self._close()

    def _is_lost(self) -> bool:
        """Whether too many bytes came without a complete picture."""
        cutter = self._cutter
        return cutter.num_held_bytes > MOST_BYTES or cutter.num_skipped_bytes > MOST_SKIPPED_BYTES

    def _check(self) -> None:
        if not self._num_pictures:
            kind = self._content_type.partition(";")[0].strip() or "no type"
            rule = f"what the server sends ({kind}) holds no JPEG picture, and only series of JPEG pictures are read"
            raise NotAVideo(self._name, rule, "let the camera send MJPEG, or give its RTSP address")


def _as_part(picture: bytes) -> bytes:
    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + b"\r\n"
