"""Opens recordings that are files, with errors that say why one cannot be read, and finds missing ends.

For any thread.
"""

from __future__ import annotations

import os
from pathlib import Path

import av

from streaming.errors import NotAVideo, SourceNotFound, SourceUnreadable, TruncatedFile
from streaming.sources.animations import is_animated_webp, open_animation
from streaming.sources.file_signatures import non_video_kind
from streaming.sources.reading import VideoReader, open_reader, reason_of

# A playlist or a list of files may name any URL; FFmpeg may open only local files for it.
_FILE_OPTIONS = {"protocol_whitelist": "file"}

_MIN_MISSING_S = 1.0
_MIN_MISSING_SHARE = 0.05


def open_file(name: str) -> VideoReader:
    """Open the file at path `name`. Raises a `SourceError` that says why it cannot be read."""
    path = Path(name).expanduser()
    _check_file(path, name)
    if is_animated_webp(path):
        return open_animation(path, name)
    try:
        return open_reader(str(path.absolute()), name, options=_FILE_OPTIONS)
    except av.FFmpegError as error:
        reason = reason_of(error)
    except NotAVideo as error:
        if not _lacks_index(path) and non_video_kind(path) is None:
            raise
        reason = error.rule
    kind = non_video_kind(path)
    if kind is not None:
        raise NotAVideo(name, f"{kind.description}, and it cannot be read as a video ({reason})", kind.remedy)
    if _lacks_index(path):
        raise TruncatedFile(
            name,
            "its index (the moov atom) is missing, so its recording was cut off",
            "repair it with a tool like untrunc, or record to Matroska, which survives a cut",
        )
    raise NotAVideo(name, f"it cannot be read as a video ({reason})", "give a video file that plays elsewhere")


def _check_file(path: Path, name: str) -> None:
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):
        exists, is_folder = False, False
    if not exists:
        raise SourceNotFound(name, "there is no such file", "check the path")
    if is_folder:
        raise SourceNotFound(name, "it is a folder", "give one of the files in it")
    if not os.access(path, os.R_OK):
        raise SourceUnreadable(name, "you may not read it", "ask its owner, or run chmod +r on it")
    if path.is_file() and path.stat().st_size == 0:
        raise NotAVideo(name, "it is empty (0 bytes)", "record or copy it again")


def _lacks_index(path: Path) -> bool:
    """Whether this is an MP4 or QuickTime file without a complete `moov` box among its outermost boxes."""
    boxes: set[bytes] = set()
    with path.open("rb") as file:
        size_bytes = path.stat().st_size
        position = 0
        while position + 8 <= size_bytes and len(boxes) < 64:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            position += length
            if length and position <= size_bytes:
                boxes.add(header[4:8])
            if length < 8:
                break
    return b"ftyp" in boxes and not boxes & {b"moov", b"moof"}


def missing_bytes(path: Path | None) -> str:
    """How many bytes a file lacks by its header, as a clause; empty if none, or if the header has no count.

    Only AVI counts its bytes; FFmpeg would silently shorten the length to the data that is there.
    """
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        header = file.read(12)
    num_missing = int.from_bytes(header[4:8], "little") + 8 - path.stat().st_size
    if header[:4] != b"RIFF" or header[8:] != b"AVI " or num_missing <= 8:
        return ""
    return f"{num_missing} bytes of it are missing"


def missing_end(reader: VideoReader, end_s: float) -> str:
    """A clause on the declared length if the recording ends well before it; empty otherwise."""
    declared_s = reader.duration_s_declared
    if declared_s is None or not reader.has_own_duration:
        return ""
    if declared_s - end_s <= max(_MIN_MISSING_S, _MIN_MISSING_SHARE * declared_s):
        return ""
    return f"its header declares {declared_s:.2f} s"
