"""The scheduler: one model on one thread, and any number of streams that it serves side by side.

Each round is one step of the engine for every stream that has something to do and for the work that was submitted: what
they wait for is computed in one packed pass, as far as it fits. A request that does not fit goes first in a later step,
so that it waits for at most as many steps as there are other jobs, and none starves. The engine's thread runs `_run`;
the rest is for any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from assistant.serving.contracts import CapacityExceeded, ModelEngine, ModelState, ModelUnavailable, ServedStream
from assistant.serving.load_watch import LOOK_S, LoadWatch
from assistant.serving.memory_budget import MemoryBudget, MemoryNeed, total_bytes
from assistant.serving.model_faults import MOST_IN_A_ROW, FaultCount, ModelBroken
from assistant.serving.rate_control import RateChange
from assistant.serving.stall_watch import STALLED_S, StallWatch
from assistant.serving.work_queue import WorkQueue
from assistant.stream.listener_guard import ListenerGuard
from models.errors import ModelError
from models.session.steps import Job, Steps
from streaming.clock import Clock, SystemClock

if TYPE_CHECKING:
    from models.checkpoint.settings import StreamSettings
    from models.checkpoint.types import ModelInfo

T = TypeVar("T")

IDLE_S = 0.2
"""How long to wait to be woken before looking for what is due by the clock."""
logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Served:
    """A stream with the job it has under way."""

    stream: ServedStream
    need: MemoryNeed | None = None
    """The most memory that its session may come to take; None before it was admitted."""
    job: Job[Any] | None = None


class Scheduler:
    """Owns the model and its thread."""

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
        """`load` runs on the engine's thread. `max_memory_bytes` bounds what all caches together, and the largest
        step beside them, may come to take.

        most_faults: faults of the model in a row, over all channels, after which it is given up.
        """
        self._load = load
        self._clock: Clock = clock or SystemClock()
        self._budget = MemoryBudget(max_memory_bytes)
        self._max_channels = max_channels
        self._engine: ModelEngine | None = None
        self._info: ModelInfo | None = None
        self._state = ModelState.LOADING
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._woken = False
        self._served: list[_Served] = []
        self._faults = FaultCount(most_faults)
        self._guard = ListenerGuard("model")
        self._work = WorkQueue(self._check_room_for_work, self._guard)
        self._stalls = StallWatch(self._clock, stalled_s, self._tell_stalled)
        self._load_watch = LoadWatch(self._clock, self._guard)
        self.busy_s = 0.0
        """Time spent in steps so far."""

    @property
    def state(self) -> ModelState:
        """Whether the model is loading, ready, stalled, failed or stopped."""
        is_stalled = self._state is ModelState.READY and self._stalls.is_stalled
        return ModelState.STALLED if is_stalled else self._state

    @property
    def failure(self) -> BaseException | None:
        """The error for which there is no model; None where there was none."""
        return self._failure

    @property
    def rate_factor(self) -> float:
        """Share of the rates that were asked for which overload leaves, in (0, 1]."""
        return self._load_watch.factor

    @property
    def streams(self) -> tuple[ServedStream, ...]:
        """The streams that are served, in their order."""
        with self._changed:
            return tuple(served.stream for served in self._served)

    @property
    def reserved_bytes(self) -> int:
        """The most memory that open sessions and work under way may come to take, and one step of the model."""
        return total_bytes(self._needs())

    def describe(self) -> ModelInfo:
        """Facts about the model. Raises `ModelUnavailable` where it is not loaded."""
        if self._info is None:
            raise ModelUnavailable(
                f"the model is {self.state.value}; it is known once it was loaded; wait, or look at failure"
            )
        return self._info

    def start(self) -> None:
        """Load the model in a thread of its own and serve; returns at once."""
        if self._threads:
            raise ModelUnavailable("the model was started before; one that ended stays so; make another")
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
            self._end(ModelState.STOPPED, ModelUnavailable("the model was stopped; start another"))
        return not any(thread.is_alive() for thread in self._threads)

    def wake(self) -> None:
        """Wake the engine's thread: there may be something to do."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def attach(self, stream: ServedStream) -> None:
        """Serve a stream from now on. Raises `CapacityExceeded` where there are too many, and `ModelUnavailable`."""
        with self._changed:
            self._check_there()
            if self._max_channels is not None and len(self._served) >= self._max_channels:
                raise CapacityExceeded(
                    f"{len(self._served)} channels are served; at most {self._max_channels} are; end another"
                )
            if all(served.stream is not stream for served in self._served):
                self._served.append(_Served(stream))
        self.wake()

    def detach(self, stream: ServedStream, timeout_s: float = 10.0) -> bool:
        """Wait for a stream to end, and serve it no more. Returns whether it ended by itself within `timeout_s`."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()
            served = next((served for served in self._served if served.stream is stream), None)
            if served is None:
                return True
            is_served = self._state is ModelState.READY and served.need is not None
            left = is_served and self._changed.wait_for(lambda: served not in self._served, timeout_s)
            if not left and served in self._served:
                self._served.remove(served)
        if not left:
            self._guard.tell(stream.detach)
        return left or not is_served

    def reserve(self, stream: ServedStream, settings: StreamSettings) -> None:
        """Reserve the memory that a session may come to take with other settings; the engine's thread alone.

        Raises `CapacityExceeded`.
        """
        served = next((served for served in self._served if served.stream is stream), None)
        if self._engine is None or served is None or served.need is None:
            return
        need = _need_of(self._engine, settings)
        self._budget.check(stream.name, need, beside=self._needs(but=served))
        with self._changed:
            served.need = need

    def submit(
        self,
        make: Callable[[Any], Steps[T]],
        on_piece: Callable[[str], None] | None = None,
        size: Callable[[Any], MemoryNeed] = lambda engine: MemoryNeed(),
        name: str = "a question about files",
    ) -> Future[T]:
        """Do work once beside the streams: the steps that `make` gets from the engine. Pieces come on its thread.

        size: the most memory that it may come to take; where that does not fit, the future raises
        `CapacityExceeded`, which calls it by its name.
        Raises `TooManyQuestions` where too much waits.
        """
        with self._changed:
            self._check_there()
            future = self._work.add(make, on_piece, size, name)
        self.wake()
        return future

    def turn(self) -> bool:
        """One round: a step of the engine for all that have something to do. Returns whether there was anything.

        Raises `ModelBroken` where the model does not work any more.
        """
        engine = self._engine
        assert engine is not None, "a round without a model"
        with self._changed:
            round_of = list(self._served)
        busy = [self._guarded(served, partial(self._take_up, engine)) for served in round_of]
        has_work = bool(self._work)
        work = self._begin_work(engine)
        taking = [served for served in round_of if served.job is not None and served in self._served]
        self._step(engine, taking, work)
        for served in taking:
            self._guarded(served, self._settle)
        if work is not None:
            self._settle_work()
        self._govern()
        return any(busy) or has_work

    def open(self) -> None:
        """Load the model; on the engine's thread."""
        engine = self._load()
        self._info = engine.info
        if self._budget.max_bytes is None:
            self._budget.max_bytes = engine.memory_limit
        engine.prepare(self._budget.max_bytes)
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
            self._end(ModelState.STOPPED, ModelUnavailable("the model was stopped; start another"))
        finally:
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def _rest(self) -> None:
        with self._changed:
            self._clock.wait_for(self._changed, lambda: self._woken or self._stop.is_set(), IDLE_S)
            self._woken = False

    def _guarded(self, served: _Served, work: Callable[[_Served], bool]) -> bool:
        """Do something for a stream; one that fails outside its jobs is dismissed, and the others stay."""
        try:
            return work(served)
        except ModelBroken:
            raise
        except ModelError as error:  # the model refuses what this channel shows: no use in trying again
            logger.error("%s: %s", served.stream.name, error)
            self._dismiss(served, error)
        except Exception as error:
            logger.exception("%s: it failed outside its jobs", served.stream.name)
            if served.job is not None:
                served.job.cancel()
            self._dismiss(served, error)
        return True

    def _take_up(self, engine: ModelEngine, served: _Served) -> bool:
        """Have the stream's next job under way. Returns whether there is one."""
        if served not in self._served:  # it was let go of in the middle of the round
            return False
        stream = served.stream
        if served.need is None and not self._admit(engine, served):
            return False
        if served.job is None:
            served.job = stream.next_job()
        if served.job is None and stream.is_over:
            self._dismiss(served)
        return served.job is not None

    def _settle(self, served: _Served) -> bool:
        """Give a job that is done back to its stream."""
        job = served.job
        if job is None:
            return False
        if served not in self._served:  # it was let go of during the pass
            job.cancel()
        elif job.done:
            served.job = None
            served.stream.on_done(job)
            self._judge(job)
        return True

    def _judge(self, job: Job[Any]) -> None:
        """Raise `ModelBroken` where a job that is done shows that the model does not work any more."""
        if job.error is not None:
            self._note_fault(job.error)
        elif job.num_passes:
            self._faults.succeeded()

    def _note_fault(self, error: BaseException, *, counts: bool = True) -> None:
        broken = self._faults.note(error, counts=counts)
        if broken is not None:
            raise broken from error

    def _admit(self, engine: ModelEngine, served: _Served) -> bool:
        """Open a stream's session where there is room for it."""
        stream = served.stream
        try:
            settings = stream.settings(engine.stream)
            need = _need_of(engine, settings)
            self._budget.check(stream.name, need, beside=self._needs())
            stream.open(engine, settings)
        except Exception as error:  # a bad setting of one channel is not the others' business
            self._dismiss(served, error)
            self._note_fault(error)
            return False
        with self._changed:
            served.need = need
        if self._load_watch.factor < 1:
            stream.set_rate(RateChange(self._load_watch.factor, "there is too much to do already"))
        return True

    def _needs(self, but: _Served | None = None) -> list[MemoryNeed]:
        """What each stream, `but` one, and each piece of work may come to take."""
        with self._changed:
            of_streams = [served.need for served in self._served if served is not but and served.need is not None]
            return of_streams + self._work.needs

    def _check_room_for_work(self, name: str, need: MemoryNeed) -> None:
        self._budget.check(name, need, beside=self._needs())

    def _dismiss(self, served: _Served, error: BaseException | None = None) -> None:
        with self._changed:
            if served not in self._served:
                return  # who took it away tells it so
            self._served.remove(served)
            self._changed.notify_all()
        if error is not None:
            self._guard.tell(served.stream.fail, error)
        self._guard.tell(served.stream.detach)

    def _begin_work(self, engine: ModelEngine) -> Job[Any] | None:
        """The job of the first piece of submitted work; None where there is none, or it could not begin."""
        begun = self._work.begin(engine)
        if isinstance(begun, Exception):
            self._note_fault(begun, counts=False)
            return None
        return begun

    def _settle_work(self) -> None:
        ended = self._work.settle()
        if isinstance(ended, Exception):
            self._note_fault(ended, counts=False)
        elif ended is not None:
            self._judge(ended)

    def _step(self, engine: ModelEngine, taking: Sequence[_Served], work: Job[Any] | None) -> None:
        """One step of the engine for all jobs under way; one that raises ends the streams that took part."""
        jobs = [served.job for served in taking if served.job is not None] + ([work] if work is not None else [])
        if not jobs:
            return
        # A question about files, or to a stream, is no sign of too many streams: its share of the step does not count.
        num_live = sum(served.stream.is_live and not served.stream.is_answering for served in taking)
        if work is not None:
            self._load_watch.note_work()
        started_s = self._stalls.begin()
        try:
            engine.step(jobs)
        except Exception as error:
            logger.exception("a step of the model failed outside its jobs")
            for served in taking:
                if served.job is not None:
                    served.job.cancel()
                self._dismiss(served, error)
            if work is not None:
                work.fail(error)
        finally:
            self._stalls.end()
        now_s = self._clock.now_s()
        self.busy_s += now_s - started_s
        if num_live:
            self._load_watch.note_step(now_s, (now_s - started_s) * num_live / len(jobs))
        self._stalls.recover()

    def _govern(self) -> None:
        streams = self.streams
        change = self._load_watch.look(streams)
        if change is not None:
            for stream in streams:
                self._guard.tell(stream.set_rate, change)

    def _watch(self) -> None:
        """Look for steps that hang; the watchdog's thread."""
        while not self._clock.wait(self._stop, LOOK_S):
            self.look_for_stall()

    def look_for_stall(self) -> None:
        """Tell every stream, once, that a step hangs."""
        self._stalls.look()

    def _tell_stalled(self, seconds: float | None) -> None:
        for stream in self.streams:
            self._guard.tell(stream.stalled, seconds)

    def _end(self, state: ModelState, error: BaseException) -> None:
        """Dismiss every stream and end all work."""
        with self._changed:
            self._failure = error if state is ModelState.FAILED else None
            self._state = state  # last: who sees that it failed is to see why
            served, self._served = self._served, []
            self._changed.notify_all()
        self._stop.set()
        for entry in served:
            if entry.job is not None:
                entry.job.cancel()
            if state is ModelState.FAILED:
                self._guard.tell(entry.stream.fail, error)
            self._guard.tell(entry.stream.detach)
        self._work.close(error)


def _need_of(engine: ModelEngine, settings: StreamSettings) -> MemoryNeed:
    return MemoryNeed(engine.session_bytes(settings), engine.working_bytes(settings))
