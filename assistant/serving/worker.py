"""Turns what reaches one stream (frames, notices, commands, questions) into jobs. The engine's thread owns it."""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assistant.errors import AssistantError
from assistant.events import StatusKind
from assistant.serving.player import Player
from assistant.stream.stream_session import LOOK_FIRST_S, StreamSession
from models.errors import ModelError
from models.session.steps import Job, StepGenerator, Steps, as_steps
from streaming.clock import Clock
from streaming.errors import OptionError, StreamingError
from streaming.redact import redact_text
from streaming.sources.base import WATCH_RETRY
from streaming.types import Frame, Notice, NoticeKind

if TYPE_CHECKING:
    from assistant.events import Detail
    from assistant.stream.model_session import ModelSession

Command = Callable[[StreamSession], Steps[Any]]
"""Something a person wants done with the session."""
EmitStatus = Callable[..., None]
"""(kind, reason, details=…): a status event about the channel."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
FAULTS_TO_REOPEN = 3
"""Faults in a row after which the session's memory is given up: whatever is wrong with it goes too."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Doing:
    """The job under way, and the future of who waits for it."""

    job: Job[Any]
    is_frame: bool = False
    order: Future[None] | None = None


class StreamWorker:
    """Gives out one job after the other, retries after faults, and opens a source that failed again."""

    def __init__(
        self,
        stream: StreamSession,
        player: Player,
        clock: Clock,
        emit_status: EmitStatus,
        reopen: Callable[[], ModelSession],
        *,
        keep_trying: bool,
    ) -> None:
        """`reopen` opens a fresh session of the model; `keep_trying`: open a failed source again without end."""
        self.stream = stream
        self._player = player
        self._clock = clock
        self._emit_status = emit_status
        self._reopen = reopen
        self._keep_trying = keep_trying
        self._orders: deque[tuple[Command, Future[None]]] = deque()
        self._doing: _Doing | None = None
        self._num_in_row = 0
        self._not_before_s = float("-inf")
        self._num_failed = 0
        self._open_again_at_s: float | None = None
        self._restarting = threading.Lock()
        """Held while the outcome of one opening is noted, so that it is never taken for the outcome of the next."""
        self._has_ended = False
        self.is_leaving = False
        """Whether to give out the last job; any thread sets it."""
        self.is_over = False
        self.num_faults = 0
        self.failure: BaseException | None = None
        """The error that ended the source for good."""
        self.has_drained = False
        """Whether the model has seen all of a recording."""
        self.taken_at_s = 0.0
        """Our clock when the last frame was taken from the source."""

    def submit(self, order: Command, future: Future[None] | None = None) -> Future[None]:
        """Run a command between two frames; `future` gets its outcome. Any thread."""
        future = future or Future()
        self._orders.append((order, future))
        return future

    def on_restart(self, *, keep_trying: bool | None = None) -> None:
        """Forget how the last opening of the source ended: it was opened anew. Any thread."""
        self._keep_trying = self._keep_trying if keep_trying is None else keep_trying
        with self._restarting:
            self.has_drained, self.failure, self._open_again_at_s = False, None, None

    def next_job(self) -> Job[Any] | None:
        """The next job; None where there is nothing to do now."""
        if self.is_leaving:
            return None if self.is_over else self._conclude()
        if self._clock.now_s() < self._not_before_s:
            return None
        self._open_again()
        doing = self._from_orders() or self._from_source() or self._from_questions()
        self._doing = doing
        return doing.job if doing is not None else None

    def on_done(self, job: Job[Any]) -> None:
        """Settle a job that is done: give its outcome to who waits for it, and react to its error.

        Raises the `ModelError` with which what the stream shows was refused: trying again would not help.
        """
        doing, self._doing = self._doing, None
        error = job.error
        if doing is not None and doing.order is not None:
            self._settle_order(doing.order, error)
            if isinstance(error, ModelError | AssistantError):
                return
        if isinstance(error, ModelError):
            raise error
        if error is not None:
            self._fault(error)
        elif doing is not None and doing.is_frame:
            self._num_in_row = 0

    def close(self, why: str) -> None:
        """Give out no more jobs, and tell all who wait why. The engine's thread may be in the middle of one."""
        self.is_over = True
        with suppress(IndexError):
            while True:
                self._orders.popleft()[1].cancel()
        self.stream.give_up(why)
        self.stream.close()

    @property
    def is_faulty(self) -> bool:
        """Whether the last step went wrong."""
        return self._num_in_row > 0

    def _settle_order(self, future: Future[None], error: Exception | None) -> None:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(None)

    def _from_orders(self) -> _Doing | None:
        while self._orders:
            try:
                order, future = self._orders.popleft()
            except IndexError:  # whoever let go of it took them
                return None
            if future.set_running_or_notify_cancel():
                return _Doing(Job(order(self.stream)), order=future)
        return None

    def _from_source(self) -> _Doing | None:
        if self.failure is not None or self.has_drained or self._open_again_at_s is not None:
            return None
        opening = self._player.num_begun
        try:
            item = self._player.get()
        except Exception as error:
            self._broken(error, opening)
            return None
        if isinstance(item, Frame):
            self._has_ended = False
            self._num_failed = 0
            self.taken_at_s = self._clock.now_s()
            self.stream.pace = self._pace()
            return _Doing(Job(self.stream.on_frame(item)), is_frame=True)
        if isinstance(item, Notice):
            self._has_ended = self._has_ended or item.kind is NoticeKind.ENDED
            return _Doing(Job(self.stream.on_notice(item)))
        if self._player.is_drained:
            with self._restarting:
                self.has_drained = opening == self._player.num_begun
        return None

    def _from_questions(self) -> _Doing | None:
        if self.stream.waits_in_vain and (self.failure is not None or self.has_drained):
            self.stream.give_up(str(self.failure or "it came to its end before a picture was seen"))
        self.stream.pace = self._pace()
        since_s = self.stream.asked_since_s
        if since_s is not None and self._player.is_showing and self._clock.now_s() - since_s < LOOK_FIRST_S:
            return None
        return _Doing(Job(self.stream.on_idle())) if self.stream.is_asked else None

    def _pace(self) -> float:
        """Seconds of media a second while nothing is read."""
        if self._player.is_paused or self.has_drained:
            return 0.0
        return 1.0 if self._player.is_live else self._player.playback.speed or 0.0

    def _conclude(self) -> Job[Any]:
        """The last job: it ends the stream, and publishes which questions stay without an answer."""
        self.is_over = True
        job: Job[Any] = Job(self._last_words())
        self._doing = _Doing(job)
        return job

    @as_steps
    def _last_words(self) -> StepGenerator[None]:
        yield from self.stream.on_end()
        if not self._has_ended:
            self._emit_status(StatusKind.ENDED, "stopped by request")

    def _broken(self, error: Exception, opening: int) -> None:
        """Note that the source failed and will not recover by itself; open it again later where that is wanted."""
        delay_s = None
        if self._keep_trying and not isinstance(error, OptionError):
            delay_s = WATCH_RETRY.delay_s(self._num_failed + 1, login_refused=False, rng=random.Random())
        with self._restarting:
            if opening != self._player.num_begun:
                return  # it was opened anew meanwhile
            if delay_s is None:
                self.failure = error
            else:
                self._open_again_at_s = self._clock.now_s() + delay_s
        reason = str(error) if isinstance(error, StreamingError) else redact_text(f"{type(error).__name__}: {error}")
        if not isinstance(error, StreamingError):
            logger.exception("a source failed")
        if delay_s is not None:
            self._num_failed += 1
            again = f"{reason} It is opened again in {delay_s:.0f} s."
            self._emit_status(StatusKind.BROKEN, again, details={"delay_s": delay_s})
            return
        self._emit_status(StatusKind.BROKEN, reason)
        self.stream.give_up(reason)

    def _open_again(self) -> None:
        with self._restarting:  # another opening, by a seek or a new configuration, takes its place
            if self._open_again_at_s is None or self._clock.now_s() < self._open_again_at_s:
                return
            self._open_again_at_s = None
        try:
            self._player.begin()
        except (StreamingError, AssistantError) as error:
            self._broken(error, self._player.num_begun)

    def _fault(self, error: Exception) -> None:
        """Note a step of the model that failed: the channel goes on after a pause."""
        self.num_faults += 1
        self._num_in_row += 1
        logger.error("a step of the model failed", exc_info=error)
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._num_in_row - 1))
        self._not_before_s = self._clock.now_s() + pause_s
        what = redact_text(f"{type(error).__name__}: {error}")
        details: dict[str, Detail] = {"in_a_row": self._num_in_row, "pause_s": pause_s}
        lost = self._num_in_row % FAULTS_TO_REOPEN == 0
        if lost:
            try:
                self.stream.renew(self._reopen())
            except Exception as again:  # out of memory for one: tried again after the next fault
                what += f"; its memory could not be made anew: {again}"
                lost = False
        memory = "its memory was given up" if lost else "its memory is kept"
        self._emit_status(StatusKind.FAULT, f"a step of the model failed ({what}); {memory}", details=details)
