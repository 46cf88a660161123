"""What kind of source a name stands for: the one place that reads such names in this room. No state."""

from __future__ import annotations

import re
from enum import StrEnum

PUSHED = "push:"
"""Names of streams whose frames come through `Channel.push` begin with it."""
SAMPLE = "sample:"


class SourceKind(StrEnum):
    """The kinds of sources."""

    SAMPLE = "sample"
    """A clip that comes with the program, `sample:NAME`."""
    SYNTHETIC = "synthetic"
    """A rendered scene, `synthetic:SEED`."""
    WEBCAM = "webcam"
    PUSHED = "pushed"
    NETWORK = "network"
    FILE = "file"
    """A path, or what is none of the others."""


_KINDS = (
    (re.compile(re.escape(SAMPLE)), SourceKind.SAMPLE),
    (re.compile(re.escape(PUSHED)), SourceKind.PUSHED),
    (re.compile("synthetic:"), SourceKind.SYNTHETIC),
    (re.compile("(?i)webcam:"), SourceKind.WEBCAM),
    (re.compile("(?i)(rtsps?|https?)://"), SourceKind.NETWORK),
)


def source_kind(name: str) -> SourceKind:
    """The kind of source that a name stands for, whether or not it can be opened.

    >>> source_kind("rtsp://192.168.1.20/stream"), source_kind("sample:world"), source_kind("film.mp4")
    (<SourceKind.NETWORK: 'network'>, <SourceKind.SAMPLE: 'sample'>, <SourceKind.FILE: 'file'>)
    """
    return next((kind for begins, kind in _KINDS if begins.match(name)), SourceKind.FILE)
