"""The host: one model on one thread, and any number of channels that it serves in turn.

Each round gives every channel that has something to do one forward pass, and one to the work that was submitted. So a
pass of one channel waits for at most one pass of each other: nobody is starved by one who always has work. The
engine's thread runs `_run`; the rest is for any thread.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from assistant.serving.contracts import CapacityExceeded, ModelEngine, ModelState, ModelUnavailable, ServedStream
from assistant.serving.model_faults import MOST_IN_A_ROW, FaultCount, ModelBroken
from assistant.serving.rate_control import RateChange, RateController
from assistant.stream.listener_guard import ListenerGuard
from assistant.stream.question_queue import TooManyQuestions
from models.errors import ModelError
from models.session.steps import Job, Steps
from streaming.clock import Clock, SystemClock

if TYPE_CHECKING:
    from models.checkpoint.settings import StreamSettings
    from models.checkpoint.types import ModelInfo

T = TypeVar("T")

MOST_WORK = 16
"""Questions about files, and pictures of others, that may wait at once."""
IDLE_S = 0.2
"""How long to wait for news before looking after what is due by the clock."""
LOOK_S = 1.0
"""Between two looks at the load, and at steps that hang."""
STALLED_S = 30.0
"""A step that takes longer is said to hang."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Served:
    """A seat with the job it has under way."""

    seat: ServedStream
    num_bytes: int | None = None
    """What its session may come to take; None before it was admitted."""
    job: Job[Any] | None = None


@dataclass(slots=True, eq=False)
class _Work:
    """Something submitted."""

    make: Callable[[Any], Steps[Any]]
    future: Future[Any]
    on_piece: Callable[[str], None]
    size: Callable[[Any], int]
    """The most memory that it may come to take."""
    num_bytes: int = 0
    """That, once it has begun."""
    job: Job[Any] | None = None


class Scheduler:
    """Owns the model's thread."""

    def __init__(
        self,
        load: Callable[[], ModelEngine],
        *,
        clock: Clock | None = None,
        max_memory_bytes: int | None = None,
        max_channels: int | None = None,
        stalled_s: float = STALLED_S,
        most_faults: int = MOST_IN_A_ROW,
    ) -> None:
        """`load` runs on the engine's thread. `max_memory_bytes` bounds what all caches together may come to take.

        most_faults: faults of the model in a row, over all channels, after which it is given up.
        """
        self._load = load
        self._clock: Clock = clock or SystemClock()
        self._max_memory_bytes = max_memory_bytes
        self._max_channels = max_channels
        self._stalled_s = stalled_s
        self._engine: ModelEngine | None = None
        self._info: ModelInfo | None = None
        self._state = ModelState.LOADING
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._woken = False
        self._served: list[_Served] = []
        self._work: deque[_Work] = deque()
        self._faults = FaultCount(most_faults)
        self._guard = ListenerGuard("model")
        self._controller = RateController()
        self._has_worked = False
        """Whether anything that was submitted had a turn since the last look at the load."""
        self._looked_at_s = float("-inf")
        self._step_since_s: float | None = None
        self._stall_told = False
        self.busy_s = 0.0
        """Time spent in steps so far."""

    @property
    def state(self) -> ModelState:
        """What becomes of the model."""
        since_s = self._step_since_s
        if self._state is ModelState.READY and since_s is not None:
            return ModelState.STALLED if self._clock.now_s() - since_s > self._stalled_s else ModelState.READY
        return self._state

    @property
    def failure(self) -> BaseException | None:
        """Why there is no model."""
        return self._failure

    @property
    def rate_factor(self) -> float:
        """What the governor leaves of the rates that were asked for, in (0, 1]."""
        return self._controller.factor

    @property
    def seats(self) -> tuple[ServedStream, ...]:
        """Who is served, in order."""
        with self._changed:
            return tuple(served.seat for served in self._served)

    @property
    def reserved_bytes(self) -> int:
        """What the sessions that are open, and the work under way, may come to take."""
        with self._changed:
            of_work = sum(work.num_bytes for work in self._work)
            return of_work + sum(served.num_bytes or 0 for served in self._served)

    def describe(self) -> ModelInfo:
        """What the model is. Raises `ModelUnavailable` where it is not loaded."""
        if self._info is None:
            raise ModelUnavailable(
                f"the model is {self.state.value}; it is known once it was loaded; wait, or look at failure"
            )
        return self._info

    def start(self) -> None:
        """Load the model in a thread of its own and serve; returns at once."""
        if self._threads:
            raise ModelUnavailable("the host was started before; one that ended stays so; make another")
        for name, work in (("engine", self._run), ("watchdog", self._watch)):
            self._threads.append(threading.Thread(target=work, name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End every channel's service and let the model go; whether that was done in time. Loading is not cut short."""
        self._stop.set()
        self.wake()
        ends_s = self._clock.now_s() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, ends_s - self._clock.now_s()))
        if not self._threads:
            self._end(ModelState.STOPPED, ModelUnavailable("the host was stopped; start another"))
        return not any(thread.is_alive() for thread in self._threads)

    def wake(self) -> None:
        """There is news."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def attach(self, seat: ServedStream) -> None:
        """Serve a channel from now on. Raises `CapacityExceeded` where there are too many, and `ModelUnavailable`."""
        with self._changed:
            self._check_there()
            if self._max_channels is not None and len(self._served) >= self._max_channels:
                raise CapacityExceeded(
                    f"{len(self._served)} channels are served; at most {self._max_channels} are; end another"
                )
            if all(served.seat is not seat for served in self._served):
                self._served.append(_Served(seat))
        self.wake()

    def detach(self, seat: ServedStream, timeout_s: float = 10.0) -> bool:
        """Wait for a channel that is ending to be served no more; whether it went by itself in that time."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()
            served = next((served for served in self._served if served.seat is seat), None)
            if served is None:
                return True
            is_served = self._state is ModelState.READY and served.num_bytes is not None
            left = is_served and self._changed.wait_for(lambda: served not in self._served, timeout_s)
            if not left and served in self._served:
                self._served.remove(served)
        if not left:
            self._guard.tell(seat.detach)
        return left or not is_served

    def reserve(self, seat: ServedStream, settings: StreamSettings) -> None:
        """Set aside what a session may come to take with other settings; the engine's thread alone.

        Raises `CapacityExceeded`.
        """
        served = next((served for served in self._served if served.seat is seat), None)
        if self._engine is None or served is None or served.num_bytes is None:
            return
        num_bytes = self._engine.session_bytes(settings)
        self._check_room(seat.name, num_bytes, beside=self.reserved_bytes - served.num_bytes)
        with self._changed:
            served.num_bytes = num_bytes

    def submit(
        self,
        make: Callable[[Any], Steps[T]],
        on_piece: Callable[[str], None] | None = None,
        size: Callable[[Any], int] = lambda engine: 0,
    ) -> Future[T]:
        """Do something once beside the channels: steps that `make` gets from the engine. Pieces come on its thread.

        size: the most memory that it may come to take, in bytes; where that does not fit, the future raises
        `CapacityExceeded`.
        Raises `TooManyQuestions` where too much waits.
        """
        work = _Work(make, Future(), on_piece or (lambda piece: None), size)
        with self._changed:
            self._check_there()
            if len(self._work) >= MOST_WORK:
                raise TooManyQuestions(
                    f"{len(self._work)} questions wait for the model; {MOST_WORK} may; ask again when some are answered"
                )
            self._work.append(work)
        self.wake()
        return work.future

    def turn(self) -> bool:
        """One round: a forward pass for everyone who has something to do; whether there was anything.

        Raises `ModelBroken` where the model does not work any more.
        """
        assert self._engine is not None, "a round without a model"
        with self._changed:
            round_of = list(self._served)
        busy = [self._serve(self._engine, served) for served in round_of]
        busy.append(self._do_work(self._engine))
        self._govern()
        return any(busy)

    def open(self) -> None:
        """Load the model; on the engine's thread."""
        engine = self._load()
        self._info = engine.info
        if self._max_memory_bytes is None:
            self._max_memory_bytes = engine.memory_limit
        with self._changed:
            self._engine, self._state = engine, ModelState.READY

    def _check_there(self) -> None:
        if self._state in (ModelState.FAILED, ModelState.STOPPED):
            raise ModelUnavailable(
                f"the model is {self._state.value}: {self._failure or 'it was stopped'}; start another"
            )

    def _run(self) -> None:
        try:
            self.open()
            while not self._stop.is_set():
                if not self.turn():
                    self._rest()
        except Exception as error:
            logger.exception("the engine's thread ended")
            self._end(ModelState.FAILED, error)
        else:
            self._end(ModelState.STOPPED, ModelUnavailable("the host was stopped; start another"))
        finally:
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def _rest(self) -> None:
        with self._changed:
            self._clock.wait_for(self._changed, lambda: self._woken or self._stop.is_set(), IDLE_S)
            self._woken = False

    def _serve(self, engine: ModelEngine, served: _Served) -> bool:
        """One forward pass for a channel; one that fails outside its jobs leaves, and the others stay."""
        if served not in self._served:  # it was let go of in the middle of the round
            return False
        try:
            return self._serve_seat(engine, served)
        except ModelBroken:
            raise
        except ModelError as error:  # the model refuses what this channel shows: no use in trying again
            logger.error("%s: %s", served.seat.name, error)
            self._dismiss(served, error)
        except Exception as error:
            logger.exception("%s: it failed outside its jobs", served.seat.name)
            if served.job is not None:
                served.job.cancel()
            self._dismiss(served, error)
        return True

    def _serve_seat(self, engine: ModelEngine, served: _Served) -> bool:
        seat = served.seat
        if served.num_bytes is None and not self._admit(engine, served):
            return False
        if served.job is None:
            served.job = seat.next_job()
        if served.job is None:
            if seat.is_over:
                self._dismiss(served)
            return False
        self._step(engine, served.job, counts=seat.is_live and not seat.is_answering)
        if served not in self._served:  # it was let go of during the pass
            served.job.cancel()
        elif served.job.done:
            job, served.job = served.job, None
            seat.on_done(job)
            self._judge(job)
        return True

    def _judge(self, job: Job[Any]) -> None:
        """Raise `ModelBroken` where a channel's job that is over shows that the model does not work any more."""
        if job.error is not None:
            self._note_fault(job.error)
        elif job.num_passes:
            self._faults.succeeded()

    def _note_fault(self, error: BaseException, *, counts: bool = True) -> None:
        broken = self._faults.note(error, counts=counts)
        if broken is not None:
            raise broken from error

    def _admit(self, engine: ModelEngine, served: _Served) -> bool:
        """Open a channel's session where there is room for it."""
        seat = served.seat
        try:
            settings = seat.settings(engine.stream)
            num_bytes = engine.session_bytes(settings)
            self._check_room(seat.name, num_bytes, beside=self.reserved_bytes)
            seat.open(engine, settings)
        except Exception as error:  # a bad setting of one channel is not the others' business
            self._dismiss(served, error)
            self._note_fault(error)
            return False
        with self._changed:
            served.num_bytes = num_bytes
        if self._controller.factor < 1:
            seat.set_rate(RateChange(self._controller.factor, "there is too much to do already"))
        return True

    def _set_aside(self, engine: ModelEngine, work: _Work) -> None:
        """Reserve what work may come to take. Raises `CapacityExceeded`."""
        num_bytes = work.size(engine)
        if num_bytes:
            self._check_room("a question about files", num_bytes, beside=self.reserved_bytes)
        with self._changed:
            work.num_bytes = num_bytes

    def _check_room(self, name: str, num_bytes: int, *, beside: int) -> None:
        """Raise `CapacityExceeded` where so much does not fit beside what the others may come to take."""
        if self._max_memory_bytes is None:
            return
        limit = self._max_memory_bytes
        if beside + num_bytes > limit:
            fit = max(0, limit - beside) // num_bytes
            of_all = limit // num_bytes
            free = max(0, limit - beside)
            raise CapacityExceeded(
                f"{name}: its cache may come to {_mib(num_bytes)}, and {_mib(free)} of {_mib(limit)} are free; "
                f"{of_all} such streams fit in all, {fit} beside those that run; raise --max-memory, free memory "
                "of the device, or lower its window"
            )

    def _dismiss(self, served: _Served, error: BaseException | None = None) -> None:
        with self._changed:
            if served not in self._served:
                return  # who took it away tells it so
            self._served.remove(served)
            self._changed.notify_all()
        if error is not None:
            self._guard.tell(served.seat.fail, error)
        self._guard.tell(served.seat.detach)

    def _do_work(self, engine: ModelEngine) -> bool:
        if not self._work:
            return False
        work = self._work[0]
        if work.job is None and not work.future.set_running_or_notify_cancel():
            self._work.popleft()
            return True
        try:
            if work.job is None:
                self._set_aside(engine, work)
                work.job = Job(work.make(engine))
            self._has_worked = True
            self._step(engine, work.job, counts=False)
            for piece in work.job.take_pieces():
                self._guard.tell(work.on_piece, piece)
            if work.job.done:
                result = work.job.outcome()
                self._work.popleft()
                work.future.set_result(result)
                self._judge(work.job)
        except Exception as error:  # whoever submitted it is told; nobody else
            self._work.popleft()
            if work.job is not None:
                work.job.cancel()
            work.future.set_exception(error)
            self._note_fault(error, counts=False)
        return True

    def _step(self, engine: ModelEngine, job: Job[Any], *, counts: bool) -> None:
        self._step_since_s = started_s = self._clock.now_s()
        try:
            engine.step([job])
        finally:
            self._step_since_s = None
        now_s = self._clock.now_s()
        self.busy_s += now_s - started_s
        if counts:
            self._controller.note(now_s, now_s - started_s)
        if self._stall_told:
            self._stall_told = False
            for seat in self.seats:
                self._guard.tell(seat.stalled, None)

    def _govern(self) -> None:
        now_s = self._clock.now_s()
        if now_s - self._looked_at_s < LOOK_S:
            return
        self._looked_at_s = now_s
        live = [seat for seat in self.seats if seat.is_live]
        counts: list[tuple[int, int]] = []
        for seat in live:
            self._guard.tell(lambda seat: counts.append(seat.take_counts()), seat)
        # Frames that were lost to a question about files say nothing of how many streams are too many.
        num_lost = 0 if self._has_worked else sum(lost for _, lost in counts)
        self._has_worked = False
        self._controller.note(now_s, 0.0, sum(used for used, _ in counts), num_lost)
        change = self._controller.update(now_s)
        if change is not None:
            logger.info("rate of all streams x%g: %s", change.factor, change.reason)
            for seat in self.seats:
                self._guard.tell(seat.set_rate, change)

    def _watch(self) -> None:
        """Say of steps that they hang; the watchdog's thread."""
        while not self._clock.wait(self._stop, LOOK_S):
            self.look_for_stall()

    def look_for_stall(self) -> None:
        """Tell every channel, once, where a step hangs."""
        since_s = self._step_since_s
        if since_s is None or self._stall_told:
            return
        stalled_s = self._clock.now_s() - since_s
        if stalled_s > self._stalled_s:
            self._stall_told = True
            logger.error("a step of the model has been running for %.0f s", stalled_s)
            for seat in self.seats:
                self._guard.tell(seat.stalled, stalled_s)

    def _end(self, state: ModelState, error: BaseException) -> None:
        """Nobody is served any more."""
        with self._changed:
            self._failure = error if state is ModelState.FAILED else None
            self._state = state  # last: who sees that it failed is to see why
            served, self._served = self._served, []
            work, self._work = list(self._work), deque()
            self._changed.notify_all()
        self._stop.set()
        for entry in served:
            if entry.job is not None:
                entry.job.cancel()
            if state is ModelState.FAILED:
                self._guard.tell(entry.seat.fail, error)
            self._guard.tell(entry.seat.detach)
        for item in work:
            if not item.future.cancel():
                item.future.set_exception(error)


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
