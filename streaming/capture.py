"""One thread that reads one source and hands its items over.

`start`, `stop` and the iteration are for the owner's thread; `num_dropped` and `failure` for any.
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
STOP_TIMEOUT_S = 10.0


class Capture:
    """Reads `source` in a thread of its own: a recording waits for its user, a live source keeps the newest frame.

        with Capture(open_source("clip.mp4")) as capture:
            for item in capture:
                ...

    What goes wrong while reading is raised by the iteration once all that came before has been given, or by `stop`.
    After `stop` it can be started again.
    """

    def __init__(
        self,
        source: Source,
        *,
        clock: Clock | None = None,
        max_items: int = DEFAULT_MAX_ITEMS,
        pass_on: Callable[[Item], bool] | None = None,
        on_item: Callable[[], None] | None = None,
    ) -> None:
        """`max_items` frames and notices of a recording are read ahead.

        `pass_on` sees each item in the thread before it is handed over, and keeps it back by returning False; it is
        quick and does not raise. `on_item` is called in the thread whenever there is something new to get, its end too.
        """
        self._source = source
        self._pass_on = pass_on
        self.prepare: Callable[[Frame], Frame] | None = None
        """What is done in the thread to each frame that is handed over, scaling it for one; may be set at any time."""
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
        """From the decoder to this thread's end for the last frame: what `pass_on` took, no waiting."""

    @property
    def name(self) -> str:
        """The source's display name."""
        return self._source.name

    @property
    def info(self) -> SourceInfo:
        """What is known of the source; only once started."""
        if self._info is None:
            raise StreamingError(self.name, "its capture was not started", "call start() first")
        return self._info

    @property
    def num_dropped(self) -> int:
        """Frames of a live source that nobody took in time, since the start."""
        return self._buffer.num_dropped

    @property
    def failure(self) -> BaseException | None:
        """What went wrong in the thread and was not raised yet."""
        return self._failure

    @property
    def is_running(self) -> bool:
        """Whether its thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_drained(self) -> bool:
        """Whether there is nothing more to get, now or later."""
        return self._buffer.is_drained

    def start(self) -> SourceInfo:
        """Open the source in this thread, raising what is wrong with it, then read it in another."""
        self._check_stopped()
        info = self._open()
        self._run(lambda: self._read(self._buffer))
        return info

    def begin(self) -> None:
        """Open the source in the thread that reads it: what is wrong with it comes from `get`."""
        self._check_stopped()
        self._failure, self._info, self._is_over = None, None, False
        self._buffer = FrameQueue(self._max_items, self.clock)
        self._run(self._open_and_read)

    def close(self) -> None:
        """Give nothing more and close the source, without waiting for the thread: `stop` does that."""
        with self._closing:
            self._is_over = True
        self._source.close()
        self._buffer.cancel()

    def get(self, timeout_s: float | None = None) -> Item | None:
        """The next frame or notice. None after `timeout_s`, or with `is_drained` at the end; raises a failure there."""
        item = self._buffer.get(timeout_s)
        if item is None and self._buffer.is_drained:
            self._raise_failure()
        return item

    def __iter__(self) -> Iterator[Item]:
        """Frames and notices up to the end."""
        while (item := self.get()) is not None:
            yield item

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Close the source and wait for the thread, at most `timeout_s`; raises `CaptureStuck`, or a failure kept."""
        thread = self._thread
        self.close()
        if thread is not None:
            thread.join(timeout_s)
            if thread.is_alive():
                raise CaptureStuck(
                    thread.name, f"it did not end within {timeout_s:g} s", "its read ends at its own time limit"
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
            # Who let go of it meanwhile is not to be told that it could not be opened.
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
            # Who let go of it is not to be told what that did to the reading.
            self._failure = None if self._is_over else error
        finally:
            self._source.close()
            buffer.finish()
            self._on_item()

    def _hand_over(self, item: Item, buffer: HandOver) -> bool:
        """Give an item out; False where nobody wants any more."""
        wanted = self._pass_on is None or self._pass_on(item)
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
