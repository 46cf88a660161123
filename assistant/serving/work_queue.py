"""Work that was submitted to the model beside its streams, one piece at a time: questions about files, encodings.

Any thread may add work; the engine's thread does it, a step a turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from assistant.serving.memory_budget import MemoryNeed
from assistant.stream.question_queue import TooManyQuestions
from models.session.steps import Job, Steps

if TYPE_CHECKING:
    from assistant.serving.contracts import ModelEngine
    from assistant.stream.listener_guard import ListenerGuard

T = TypeVar("T")

MOST_WORK = 16
"""Questions about files, and pictures of others, that may wait at once."""


@dataclass(slots=True, eq=False)
class _Work:
    """One piece of work."""

    make: Callable[[Any], Steps[Any]]
    future: Future[Any]
    on_piece: Callable[[str], None]
    size: Callable[[Any], MemoryNeed]
    """The most memory that it may come to take."""
    name: str
    need: MemoryNeed = MemoryNeed()
    """The same, once it has begun."""
    job: Job[Any] | None = None


class WorkQueue:
    """Does its work in the order in which it was added."""

    def __init__(self, check_room: Callable[[str, MemoryNeed], None], guard: ListenerGuard) -> None:
        """check_room: raises `CapacityExceeded` where named work does not fit. guard: for those told of pieces."""
        self._check_room = check_room
        self._guard = guard
        self._lock = threading.Lock()
        self._waiting: deque[_Work] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def needs(self) -> list[MemoryNeed]:
        """The most memory that each piece of work under way may come to take."""
        with self._lock:
            return [work.need for work in self._waiting]

    def add(
        self,
        make: Callable[[Any], Steps[T]],
        on_piece: Callable[[str], None] | None,
        size: Callable[[Any], MemoryNeed],
        name: str,
    ) -> Future[T]:
        """Put work at the end, as `Scheduler.submit` takes it. Raises `TooManyQuestions`."""
        work = _Work(make, Future(), on_piece or (lambda piece: None), size, name)
        with self._lock:
            if len(self._waiting) >= MOST_WORK:
                waiting = f"{len(self._waiting)} questions wait for the model; {MOST_WORK} may"
                raise TooManyQuestions(f"{waiting}; ask again when some are answered")
            self._waiting.append(work)
        return work.future

    def begin(self, engine: ModelEngine) -> Job[Any] | Exception | None:
        """The job of the first piece of work, to be taken one step further; None where there is none.

        Returns the error where it could not begin: there is no memory for it, for example.
        """
        if not self._waiting:
            return None
        work = self._waiting[0]
        if work.job is None and not work.future.set_running_or_notify_cancel():
            self._drop_first()
            return None
        try:
            if work.job is None:
                self._set_aside(engine, work)
                work.job = Job(work.make(engine))
        except Exception as error:  # whoever submitted it is told; nobody else
            return self._failed(work, error)
        return work.job

    def settle(self) -> Job[Any] | Exception | None:
        """Hand over what the step brought. Returns the job once that is done, or the error it came to."""
        work = self._waiting[0]
        assert work.job is not None, "settled before it began"
        for piece in work.job.take_pieces():
            self._guard.tell(work.on_piece, piece)
        if not work.job.done:
            return None
        if work.job.error is not None:
            return self._failed(work, work.job.error)
        self._drop_first()
        work.future.set_result(work.job.outcome())
        return work.job

    def close(self, error: BaseException) -> None:
        """End all work: what was not begun is cancelled, the rest fails with `error`."""
        with self._lock:
            waiting, self._waiting = list(self._waiting), deque()
        for work in waiting:
            if not work.future.cancel():
                work.future.set_exception(error)

    def _set_aside(self, engine: ModelEngine, work: _Work) -> None:
        need = work.size(engine)
        if need.kept:
            self._check_room(work.name, need)
        work.need = need

    def _failed(self, work: _Work, error: Exception) -> Exception:
        self._drop_first()
        if work.job is not None:
            work.job.cancel()
        work.future.set_exception(error)
        return error

    def _drop_first(self) -> None:
        with self._lock:
            self._waiting.popleft()
