"""The capture thread: reads one source and passes its frames and notices to the owner.

The owner's thread calls `start`, `stop` and iterates; any thread may read `num_dropped` and `failure`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from streaming.buffer import FrameQueue, HandOver, Item, LatestFrame
from streaming.clock import Clock, SystemClock
from streaming.errors import CaptureStuck, StreamingError
from streaming.sources.base import Source
from streaming.types import Frame, SourceInfo

DEFAULT_MAX_ITEMS = 4
"""Frames and notices of a recording that are read ahead."""
STOP_TIMEOUT_S = 10.0
"""How long `Capture.stop` waits for the thread."""


class Capture:
    """Reads `source` in its own thread. Recordings wait for the reader, live sources keep only the newest frame.

        with Capture(open_source("clip.mp4")) as capture:
            for item in capture:
                ...

    An error while reading is raised by the iteration, after all earlier items, or by `stop`. After `stop` it can be
    started again.
    """

    def __init__(
        self,
        source: Source,
        *,
        clock: Clock | None = None,
        max_items: int = DEFAULT_MAX_ITEMS,
        accept: Callable[[Item], bool] | None = None,
        on_item: Callable[[], None] | None = None,
    ) -> None:
        """`max_items`: how many frames and notices of a recording are read ahead.

        `accept` is called in the capture thread with each item; an item for which it returns False is discarded. It
        must be quick and never raise. `on_item` is called in the capture thread after each new item and at the end.
        """
        self._source = source
        self._accept = accept
        self.prepare: Callable[[Frame], Frame] | None = None
        """Applied in the capture thread to each accepted frame, for instance to scale it; may be set at any time."""
        self._on_item = on_item or (lambda: None)
        self._is_over = False
        self._closing = threading.Lock()
        self.clock: Clock = clock or SystemClock()
        self._max_items = max_items
        self._buffer: HandOver = FrameQueue(max_items, self.clock)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._info: SourceInfo | None = None
        self.hand_over_ms = 0.0
        """Milliseconds that the last frame took from the decoder through `accept`, without any waiting."""

    @property
    def name(self) -> str:
        """The source's display name."""
        return self._source.name

    @property
    def info(self) -> SourceInfo:
        """Facts about the source. Raises `StreamingError` before it was started."""
        if self._info is None:
            raise StreamingError(self.name, "its capture was not started", "call start() first")
        return self._info

    @property
    def num_dropped(self) -> int:
        """Number of frames of a live source dropped since the start, because a newer one arrived first."""
        return self._buffer.num_dropped

    @property
    def failure(self) -> BaseException | None:
        """The error of the capture thread that was not raised yet, or None."""
        return self._failure

    @property
    def is_running(self) -> bool:
        """Whether the capture thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_drained(self) -> bool:
        """Whether `get` will never return another item."""
        return self._buffer.is_drained

    def start(self) -> SourceInfo:
        """Open the source in the calling thread, then read it in the capture thread. Raises the source's errors."""
        self._check_stopped()
        info = self._open()
        self._run(lambda: self._read(self._buffer))
        return info

    def begin(self) -> None:
        """Open and read the source in the capture thread; `get` raises the errors of opening."""
        self._check_stopped()
        self._failure, self._info, self._is_over = None, None, False
        self._buffer = FrameQueue(self._max_items, self.clock)
        self._run(self._open_and_read)

    def close(self) -> None:
        """Close the source and discard all queued items, without waiting for the thread, as `stop` does."""
        with self._closing:
            self._is_over = True
        self._source.close()
        self._buffer.cancel()

    def get(self, timeout_s: float | None = None) -> Item | None:
        """The next frame or notice; None after `timeout_s` (None: no limit), or at the end, where `is_drained` is True.

        Raises the capture thread's error once all earlier items were returned.
        """
        item = self._buffer.get(timeout_s)
        if item is None and self._buffer.is_drained:
            self._raise_failure()
        return item

    def __iter__(self) -> Iterator[Item]:
        """Iterate over frames and notices up to the end of the stream."""
        while (item := self.get()) is not None:
            yield item

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Close the source and wait at most `timeout_s` for the thread.

        Raises `CaptureStuck` if the thread does not end, or the thread's error if it was not raised yet.
        """
        thread = self._thread
        self.close()
        if thread is not None:
            thread.join(timeout_s)
            if thread.is_alive():
                raise CaptureStuck(
                    thread.name,
                    f"the thread did not end within {timeout_s:g} s",
                    "wait for the source's read timeout and stop it again",
                )
            self._thread = None
        self._raise_failure()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except Exception:
            if error is None:
                raise

    def _check_stopped(self) -> None:
        if self._thread is not None:
            raise StreamingError(self.name, "its capture runs already", "call stop() first")

    def _open(self) -> SourceInfo:
        self._info = info = self._source.open()
        self._failure, self._is_over = None, False
        self._buffer = LatestFrame(self.clock) if info.is_live else FrameQueue(self._max_items, self.clock)
        return info

    def _run(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name=f"capture:{self.name}", daemon=True)
        self._thread.start()

    def _open_and_read(self) -> None:
        try:
            info = self._source.open()
        except Exception as error:
            # A source that was closed while it was opening does not report a failure.
            self._failure = None if self._is_over else error
            self._source.close()
            self._buffer.finish()
            self._on_item()
            return
        with self._closing:
            if info.is_live and not self._is_over:
                self._buffer = LatestFrame(self.clock)
            self._info = info
        if self._is_over:
            self._source.close()
            self._buffer.cancel()
            return
        self._read(self._buffer)

    def _read(self, buffer: HandOver) -> None:
        try:
            for item in self._source.frames():
                if self._is_over or not self._hand_over(item, buffer):
                    break
        except Exception as error:
            # A source that was closed while it was being read does not report a failure.
            self._failure = None if self._is_over else error
        finally:
            self._source.close()
            buffer.finish()
            self._on_item()

    def _hand_over(self, item: Item, buffer: HandOver) -> bool:
        """Queue an accepted item; return False once the queue is cancelled and reading should stop."""
        wanted = self._accept is None or self._accept(item)
        if isinstance(item, Frame):
            self.hand_over_ms = 1000 * max(0.0, self.clock.now_s() - item.captured_at_s)
        if not wanted:
            return True
        if isinstance(item, Frame) and self.prepare is not None:
            item = self.prepare(item)
        if not buffer.put(item):
            return False
        self._on_item()
        return True

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
