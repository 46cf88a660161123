"""Writes video clips: H.264 in MP4, under a temporary name until the file is complete.

`encode_clip` and `cut_clip` are for any thread. A `ClipWriter` encodes the clips of all cameras in one thread of its
own; its methods are for any thread. PyAV loads on use.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streaming.errors import OptionError, StreamingError
from streaming.size_fitting import fit_into
from streaming.thumbnails import decode_jpeg

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

CLIP_QUALITY = 26
"""Constant rate factor of x264: 23 is its default, lower is better."""
PART = ".part"
"""Suffix of a clip that is still being written."""
MOST_QUEUED_BYTES = 32 << 20
"""Most bytes of JPEG that wait to be encoded, all clips together; beyond it, pictures are dropped and counted."""
_TICKS_A_SECOND = 90_000
_BT601, _LIMITED = 6, 1  # code points of ITU-T H.273, and of FFmpeg


class ClipNotWritten(StreamingError):
    """A clip could not be written or read."""


@dataclass(frozen=True, slots=True)
class ClipResult:
    """The outcome of writing one clip."""

    path: Path
    num_frames: int
    """Frames in the file."""
    num_dropped: int
    """Frames dropped because too many were waiting to be encoded."""
    size_bytes: int
    """Size of the file, 0 if there is none."""
    start_s: float
    """Media time of the first picture."""
    end_s: float
    """Media time of the last picture."""
    failure: str = ""
    """Why the clip could not be written; empty on success."""


class ClipFile:
    """One clip while it is written, on one thread. Pictures of another size are fitted to the size of the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_frames = 0
        self.start_s = self.end_s = 0.0
        self._part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._last_tick = -1

    def add(self, image: np.ndarray, time_s: float) -> None:
        """Append a picture, uint8 RGB `[height, width, 3]`, at its media time. Raises `ClipNotWritten`.

        Pictures that are not later than the one before are skipped.
        """
        from av.error import FFmpegError
        from av.video.frame import VideoFrame

        tick = round((time_s - self.start_s) * _TICKS_A_SECOND) if self.num_frames else 0
        if tick <= self._last_tick:
            return
        try:
            if self._container is None:
                self._open(image)
                self.start_s = time_s
            assert self._container is not None and self._stream is not None
            fitted = fit_into(_even(image), self._stream.width, self._stream.height)
            frame = VideoFrame.from_ndarray(fitted, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, _TICKS_A_SECOND)
            self._container.mux(self._stream.encode(frame))
        except (FFmpegError, OSError) as error:
            self.abandon()
            raise self._failed(error) from error
        self._last_tick, self.end_s = tick, time_s
        self.num_frames += 1

    def finish(self) -> int:
        """Complete the file and move it to its final name; return its size in bytes. Raises `ClipNotWritten`."""
        from av.error import FFmpegError

        if self._container is None or self._stream is None:
            raise ClipNotWritten(str(self.path), "the clip has no pictures", "record longer")
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None
            self._part.replace(self.path)
            return self.path.stat().st_size
        except (FFmpegError, OSError) as error:
            self.abandon()
            raise self._failed(error) from error

    def abandon(self) -> None:
        """Delete the unfinished file."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(Exception):  # closing writes the trailer, which fails on a full disk too
                container.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _open(self, image: np.ndarray) -> None:
        import av

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=Fraction(30))
        height_px, width_px = _even(image).shape[:2]
        self._stream.width, self._stream.height = width_px, height_px
        self._stream.pix_fmt = "yuv420p"
        # Name the matrix used to convert RGB here; without it players assume another for large pictures.
        self._stream.codec_context.colorspace, self._stream.codec_context.color_range = _BT601, _LIMITED
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, _TICKS_A_SECOND)
        self._stream.codec_context.thread_count = 1
        self._stream.options = {"crf": str(CLIP_QUALITY), "preset": "veryfast", "g": "50", "bf": "0"}

    def _failed(self, error: Exception) -> ClipNotWritten:
        reason = getattr(error, "strerror", None) or str(error)
        return ClipNotWritten(self.path.name, reason, "free some room, or keep no clips")


def encode_clip(path: Path, pictures: Iterable[tuple[np.ndarray, float]]) -> ClipResult:
    """Write `pictures`, uint8 RGB `[height, width, 3]` with increasing media times. Raises `ClipNotWritten`."""
    clip = ClipFile(path)
    try:
        for image, time_s in pictures:
            clip.add(image, time_s)
        size_bytes = clip.finish()
    except BaseException:
        clip.abandon()
        raise
    return ClipResult(path, clip.num_frames, 0, size_bytes, clip.start_s, clip.end_s)


def cut_clip(path: Path, out: Path, start_s: float, end_s: float) -> ClipResult:
    """Copy the part of a clip between two times, seconds from its start, to `out`. Raises `ClipNotWritten`."""
    import av
    from av.error import FFmpegError

    def pictures() -> Iterable[tuple[np.ndarray, float]]:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if frame.time is not None and start_s <= frame.time <= end_s:
                    yield frame.to_ndarray(format="rgb24"), frame.time

    try:
        return encode_clip(out, pictures())
    except FFmpegError as error:
        raise ClipNotWritten(path.name, error.strerror or str(error), "the file is damaged; record it again") from error


@dataclass(slots=True)
class _Clip:
    """A clip that the writer is writing."""

    file: ClipFile
    on_done: Callable[[ClipResult], None]
    num_dropped: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class _Task:
    """A queued picture of a clip; with `jpeg=None`, the clip's end."""

    clip: _Clip
    time_s: float = 0.0
    jpeg: bytes | None = field(default=None, repr=False)


class ClipWriter:
    """Encodes the pictures of all clips on one thread, in the order in which they were added."""

    def __init__(self, *, most_queued_bytes: int = MOST_QUEUED_BYTES) -> None:
        if most_queued_bytes < 1:
            raise OptionError(f"most_queued_bytes={most_queued_bytes}", "it is 1 byte or more", "leave it out")
        self._most_queued_bytes = most_queued_bytes
        self._tasks: deque[_Task] = deque()
        self._num_bytes = 0
        self._open: dict[str, _Clip] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def begin(self, key: str, path: Path, on_done: Callable[[ClipResult], None]) -> None:
        """Start a clip, named `key` in later calls. on_done: called with the result, on the writer's thread.

        Raises `ClipNotWritten` if the writer is closed.
        """
        with self._changed:
            if self._closing:
                raise ClipNotWritten(path.name, "the clip writer is closed", "create another ClipWriter")
            self._open[key] = _Clip(ClipFile(path), on_done)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="clips", daemon=True)
                self._thread.start()

    def add(self, key: str, jpeg: bytes, time_s: float) -> bool:
        """Queue a picture for a clip; return False if it was dropped because too many bytes wait already."""
        with self._changed:
            clip = self._open.get(key)
            if clip is None:
                return False
            if self._num_bytes + len(jpeg) > self._most_queued_bytes:
                clip.num_dropped += 1
                return False
            self._tasks.append(_Task(clip, time_s, jpeg))
            self._num_bytes += len(jpeg)
            self._changed.notify_all()
            return True

    def finish(self, key: str) -> None:
        """End the clip `key`: it gets no more pictures and is completed."""
        with self._changed:
            clip = self._open.pop(key, None)
            if clip is not None:
                self._tasks.append(_Task(clip))
                self._changed.notify_all()

    def close(self, timeout_s: float = 10.0) -> bool:
        """Finish every clip and end the thread; return False if that took longer than `timeout_s`."""
        with self._changed:
            for key in list(self._open):
                self.finish(key)
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._closing)
                if not self._tasks:
                    return
                task = self._tasks.popleft()
                self._num_bytes -= len(task.jpeg or b"")
            if task.jpeg is None:
                self._finish(task.clip)
            elif not task.clip.failure:
                try:
                    task.clip.file.add(decode_jpeg(task.jpeg), task.time_s)
                except StreamingError as error:
                    task.clip.failure = str(error)

    def _finish(self, clip: _Clip) -> None:
        size_bytes = 0
        if not clip.failure:
            try:
                size_bytes = clip.file.finish()
            except StreamingError as error:
                clip.failure = str(error)
        file = clip.file
        clip.on_done(
            ClipResult(file.path, file.num_frames, clip.num_dropped, size_bytes, file.start_s, file.end_s, clip.failure)
        )


def _even(image: np.ndarray) -> np.ndarray:
    """The picture padded to even width and height, as H.264 with 4:2:0 colour subsampling requires."""
    height_px, width_px = image.shape[:2]
    if height_px % 2 or width_px % 2:
        image = np.pad(image, ((0, height_px % 2), (0, width_px % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)
