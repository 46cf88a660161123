"""The folder of a timeline: paths of its database, thumbnails and clips, atomic writes, and a file lock.

Any thread may call it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from assistant.errors import StoreError
from assistant.evidence import EvidenceFrame
from assistant.timeline.records import KeptClip, KeptFrame

DATABASE = "timeline.sqlite3"
THUMBNAILS = "thumbnails"
CLIPS = "clips"
PART = ".part"
"""Suffix of files that are still being written."""
_UNSAFE = re.compile(r"[\0\\:]")
"""Characters that lead out of the folder on some system, as in `C:` and `..\\x`."""
MOST_NAME = 40
"""Most characters of a camera's name in its folder's name."""


def default_folder() -> Path:
    """The timeline's folder in the user's state folder of this system."""
    from platformdirs import user_state_path

    return user_state_path("streaming-video-assistant", appauthor=False) / "timeline"


class TimelineFolder:
    """The files of one timeline."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / DATABASE

    def make(self) -> None:
        """Create the folder, accessible to its owner only. Raises `StoreError` if that fails."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.root}: {error.strerror}; a timeline needs a folder it can write to; name another --data"
            ) from error

    def keep_thumbnail(self, camera: str, run: str, frame: EvidenceFrame) -> KeptFrame:
        """Write a frame's thumbnail unless it exists already; return its record. Raises `OSError` if that fails."""
        name = f"{_stamp(frame.wall_s)}-{max(0, frame.frame_index)}-{run[:8]}.jpg"
        path = str(PurePosixPath(THUMBNAILS, safe_name(camera), _day(frame.wall_s), name))
        target = self.inside(path)
        if not target.exists():
            write_whole(target, frame.picture.data)
        picture = frame.picture
        return KeptFrame(
            path, frame.frame_index, frame.time_s, frame.wall_s, picture.width_px, picture.height_px, frame.cells(),
            len(picture.data),
        )  # fmt: skip

    def clip_path(self, camera: str, wall_s: float, uid: str) -> str:
        """The path of a new clip, relative to the folder; creates the clip's directory. Raises `OSError`."""
        path = str(PurePosixPath(CLIPS, safe_name(camera), _day(wall_s), f"{_stamp(wall_s)}-{uid[:12]}.mp4"))
        self.inside(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def inside(self, path: str) -> Path:
        """The file of a path in the database. Raises `StoreError` if it would lie outside the folder."""
        if not path or any(part in ("", ".", "..") or _UNSAFE.search(part) for part in path.split("/")):
            raise StoreError(
                f"{path!r}: outside the timeline's folder; its files must lie inside; the database was tampered with"
            )
        return self.root / path

    def read(self, path: str) -> bytes | None:
        """Content of a file; None if it does not exist."""
        try:
            return self.inside(path).read_bytes()
        except (OSError, StoreError):
            return None

    def read_clip(self, clip: KeptClip) -> bytes | None:
        """Content of a clip's MP4 file; None if it is not finished or does not exist."""
        return self.read(clip.path) if clip.state == "done" else None

    def size_of(self, path: str) -> int | None:
        """Size of a file in bytes; None if it does not exist."""
        try:
            return self.inside(path).stat().st_size
        except (OSError, StoreError):
            return None

    def remove(self, path: str) -> None:
        """Delete a file, and its directories if they become empty. A missing file is no error."""
        with suppress(OSError, StoreError):
            target = self.inside(path)
            target.unlink(missing_ok=True)
            for folder in (target.parent, target.parent.parent):
                folder.rmdir()

    def files(self) -> Iterator[tuple[str, Path]]:
        """Thumbnails and clips, complete or not: each file's path as in the database, and its path on disk."""
        for kind in (THUMBNAILS, CLIPS):
            for path in (self.root / kind).rglob("*"):
                if path.is_file():
                    yield path.relative_to(self.root).as_posix(), path

    def size_of_database(self) -> int:
        """Size of the database and its write-ahead log, bytes."""
        size = 0
        for end in ("", "-wal"):
            with suppress(OSError):
                size += self.database.with_name(DATABASE + end).stat().st_size
        return size


def safe_name(camera: str) -> str:
    """A directory name for a camera, valid for any camera name; different cameras have different ones.

    >>> safe_name("Front door")
    'front-door-91b2dbad'
    >>> safe_name("../../etc/passwd").startswith("etc-passwd-")
    True
    """
    plain = re.sub(r"[^a-z0-9]+", "-", camera.lower()).strip("-")[:MOST_NAME].strip("-") or "camera"
    digest = hashlib.sha256(camera.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically: readers never see a part of it. Raises `OSError` and leaves nothing behind."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        with part.open("wb") as file:
            file.write(data)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


class FileLock:
    """A file lock that is released when its process ends, even killed; without `fcntl` (Windows) it locks nothing."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] | None = path.open("ab")

    @staticmethod
    def is_supported() -> bool:
        """Whether this system has the locks."""
        return importlib.util.find_spec("fcntl") is not None

    def try_exclusive(self) -> bool:
        """Try to take the exclusive lock without waiting; return whether it was taken."""
        return self._lock(alone=True)

    def share(self) -> bool:
        """Take the shared lock without waiting; return whether it was taken."""
        return self._lock(alone=False)

    def close(self) -> None:
        """Release the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lock(self, *, alone: bool) -> bool:
        try:
            import fcntl
        except ImportError:
            return not alone
        assert self._file is not None
        try:
            fcntl.flock(self._file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _day(wall_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(max(0.0, min(wall_s, 4e10))))


def _stamp(wall_s: float) -> str:
    """Milliseconds since 1970, all of one length, so that file names sort by time."""
    return f"{max(0, round(wall_s * 1000)):013}"
