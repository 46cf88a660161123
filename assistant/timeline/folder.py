"""The folder of a timeline: where its files lie, and how they are written so that none is ever half there.

Plain file operations; any thread may call them.
"""

from __future__ import annotations

import hashlib
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
"""End of the name of a file that is being written."""
_UNSAFE = re.compile(r"[\0\\:]")
"""What leads elsewhere on some system: `C:`, `..\\x`."""
MOST_NAME = 40
"""Letters of a camera's name that its folder shows."""


def default_folder() -> Path:
    """Where the user's state belongs on this system."""
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
        """Make the folder, for its owner alone. Raises `StoreError` where it cannot be."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.root}: {error.strerror}; a timeline needs a folder it can write to; name another --data"
            ) from error

    def keep_thumbnail(self, camera: str, run: str, frame: EvidenceFrame) -> KeptFrame:
        """Write a thumbnail, once however often it is kept. Raises `OSError` where the disk refuses it."""
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
        """Where a clip goes, relative to the folder; its own folder is made. Raises `OSError`."""
        path = str(PurePosixPath(CLIPS, safe_name(camera), _day(wall_s), f"{_stamp(wall_s)}-{uid[:12]}.mp4"))
        self.inside(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def inside(self, path: str) -> Path:
        """The file behind a path of the database. Raises `StoreError` where it would lie outside the folder."""
        if not path or any(part in ("", ".", "..") or _UNSAFE.search(part) for part in path.split("/")):
            raise StoreError(f"{path!r}: outside the timeline's folder; its files lie inside; the database was changed")
        return self.root / path

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None where it is gone."""
        try:
            return self.inside(path).read_bytes()
        except (OSError, StoreError):
            return None

    def read_clip(self, clip: KeptClip) -> bytes | None:
        """A clip as MP4; None where it is not finished, or gone."""
        return self.read(clip.path) if clip.state == "done" else None

    def size_of(self, path: str) -> int | None:
        """A file's bytes, counted; None where it is gone."""
        try:
            return self.inside(path).stat().st_size
        except (OSError, StoreError):
            return None

    def remove(self, path: str) -> None:
        """Remove a file and the folders that it leaves empty; one that is not there is as good as removed."""
        with suppress(OSError, StoreError):
            target = self.inside(path)
            target.unlink(missing_ok=True)
            for folder in (target.parent, target.parent.parent):
                folder.rmdir()

    def files(self) -> Iterator[tuple[str, Path]]:
        """Thumbnails and clips, whole or not, with their path as the database writes it."""
        for kind in (THUMBNAILS, CLIPS):
            for path in (self.root / kind).rglob("*"):
                if path.is_file():
                    yield path.relative_to(self.root).as_posix(), path

    def size_of_database(self) -> int:
        """Bytes of the database and its log."""
        size = 0
        for end in ("", "-wal"):
            with suppress(OSError):
                size += self.database.with_name(DATABASE + end).stat().st_size
        return size


def safe_name(camera: str) -> str:
    """A folder name for a camera, whatever it is called; different names never share one.

    >>> safe_name("Front door")
    'front-door-91b2dbad'
    >>> safe_name("../../etc/passwd").startswith("etc-passwd-")
    True
    """
    plain = re.sub(r"[^a-z0-9]+", "-", camera.lower()).strip("-")[:MOST_NAME].strip("-") or "camera"
    digest = hashlib.sha256(camera.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees part of it. Raises `OSError` and leaves nothing behind."""
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
    """A lock that goes with its process, however that ends; without `fcntl` (Windows) nothing is locked."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] | None = path.open("ab")

    def try_alone(self) -> bool:
        """Hold it alone if nobody else holds it; whether that worked."""
        return self._lock(alone=True)

    def share(self) -> bool:
        """Hold it beside others; whether that worked."""
        return self._lock(alone=False)

    def close(self) -> None:
        """Let go."""
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
    """Milliseconds since 1970, all of one length, so that names sort by time."""
    return f"{max(0, round(wall_s * 1000)):013}"
