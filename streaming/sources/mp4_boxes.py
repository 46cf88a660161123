"""What the boxes at the beginning of an MP4 or MOV say (ISO 14496-12). Pure functions, for any thread."""

from __future__ import annotations

from collections.abc import Iterator

_CONTAINERS = (b"moov", b"mvex")
_UNKNOWN = (0, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)


def index_is_last(head: bytes) -> bool:
    """Whether an MP4's pictures come before its index, by the outermost boxes in its first bytes (4.2).

    >>> index_is_last(b"\\0\\0\\0\\x0cftypisom\\0\\0\\1\\0mdat")
    True
    >>> index_is_last(b"\\0\\0\\0\\x0cftypisom\\0\\0\\1\\0moov")
    False
    """
    position = 0
    while head[4:8] == b"ftyp" and position + 8 <= len(head):
        length, kind = int.from_bytes(head[position : position + 4]), head[position + 4 : position + 8]
        if kind in (b"mdat", b"moov", b"moof") or length < 8:
            return kind == b"mdat"
        position += length
    return False


def fragments_length_s(head: bytes) -> float | None:
    """Length by the index of an MP4 in fragments, in seconds: its `mehd` (8.8.2), else its `mvhd` (8.2.2).

    0.0 if it declares none, as with an encoder that sends fragments while it makes them. None if it is not in
    fragments, or if its first bytes `head` do not reach so far.
    """
    boxes = dict(_boxes(head))
    if not {b"mvhd", b"mvex"} <= boxes.keys():
        return None
    units_per_s, ticks = _scale_and_length(boxes[b"mvhd"])
    if b"mehd" in boxes:
        ticks = _number(boxes[b"mehd"], 4, is_long=boxes[b"mehd"][:1] == b"\1")
    return 0.0 if ticks in _UNKNOWN or not units_per_s else ticks / units_per_s


def _scale_and_length(mvhd: bytes) -> tuple[int, int]:
    """Time units a second, and the length in those."""
    is_long = mvhd[:1] == b"\1"
    return _number(mvhd, 20 if is_long else 12, is_long=False), _number(mvhd, 24 if is_long else 16, is_long=is_long)


def _number(body: bytes, at: int, *, is_long: bool) -> int:
    return int.from_bytes(body[at : at + (8 if is_long else 4)])


def _boxes(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the boxes of `head`, and of those within its index, as far as `head` reaches."""
    position = 0
    while position + 8 <= len(head):
        length, kind, begin = int.from_bytes(head[position : position + 4]), head[position + 4 : position + 8], 8
        if length == 1:
            length, begin = int.from_bytes(head[position + 8 : position + 16]), 16
        if length < begin:
            return
        body = head[position + begin : position + length]
        yield kind, body
        if kind in _CONTAINERS:
            yield from _boxes(body)
        position += length
