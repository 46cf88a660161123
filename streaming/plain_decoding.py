"""Decodes a file and does nothing else: the least that reading it can take. PyAV loads on use; any thread."""

from __future__ import annotations

from pathlib import Path


def decode_alone(path: Path) -> int:
    """Decode the first video track of a file with FFmpeg's own choice of threads; returns the number of pictures."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return sum(1 for _ in container.decode(stream))
