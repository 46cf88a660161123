"""Sends the messages of one target, on a thread of its own, so that a receiver that hangs delays nobody else.

The queue is the outbox on disk: nothing is dropped. Of several processes with one timeline, the one that holds the
target's lock sends.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import replace

from assistant.config.targets import DeliveryTarget
from assistant.delivery.errors import DeliveryRefused, NotDelivered
from assistant.delivery.messages import AlertMessage, message_from_json
from assistant.delivery.outbox import DAY_S, Outbox, OutboxEntry
from assistant.delivery.retries import Retries
from assistant.delivery.senders import Sender, files_of
from assistant.errors import StoreError
from assistant.timeline.folder import FileLock, TimelineFolder, safe_name
from streaming.clock import Clock

LOOK_S = 5.0
"""Seconds after which the outbox is looked at again, for what another process put in."""
CLIP_WAIT_S = 120.0
"""Most seconds that a message waits for its clip to be finished."""

logger = logging.getLogger(__name__)


class Courier:
    """Sends what waits for one target."""

    def __init__(
        self,
        name: str,
        config: DeliveryTarget,
        sender: Sender,
        outbox: Outbox,
        folder: TimelineFolder,
        clock: Clock,
        jitter: random.Random,
        on_undelivered: Callable[[OutboxEntry, str], None] = lambda entry, said: None,
        on_taken_over: Callable[[str], None] = lambda name: None,
    ) -> None:
        """on_undelivered: called with each message that is given up, and why.

        on_taken_over: called on this thread once this process is the one that sends.
        """
        self.name = name
        self.sender = sender
        self._config = config
        self._outbox = outbox
        self._folder = folder
        self._clock = clock
        self._jitter = jitter
        self._on_undelivered = on_undelivered
        self._on_taken_over = on_taken_over
        self._retries = Retries(config.tries, 3600 * config.give_up_hours)
        self._changed = threading.Condition()
        self._has_news = False
        self._closing = False
        self._down_until_s = 0.0
        self._times_down = 0
        self._lock: FileLock | None = None
        self._thread = threading.Thread(target=self._run, name=f"deliver:{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the outbox now; returns at once."""
        with self._changed:
            self._has_news = True
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """End the thread after the message under way; return whether it ended in time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        has_ended = not self._thread.is_alive()
        if has_ended:
            self.sender.close()
            if self._lock is not None:
                self._lock.close()
        return has_ended

    def step(self) -> float:
        """Send the next message that is due; return the seconds after which to look again. Raises `StoreError`."""
        down_s = self._down_until_s - self._clock.now_s()
        if down_s > 0:
            return down_s
        now_s = self._clock.wall_s()
        entry = self._outbox.next_due(self.name, now_s)
        if entry is None:
            next_s = self._outbox.next_try_s(self.name)
            return LOOK_S if next_s is None else max(0.05, min(LOOK_S, next_s - now_s))
        refusal = self._refusal(entry, now_s)
        if refusal:
            self._give_up(entry, refusal, was_tried=False)
        else:
            self._try(entry, now_s)
        return 0.0

    def _refusal(self, entry: OutboxEntry, now_s: float) -> str:
        """Why a message is not even tried; empty if it is."""
        if self._config.keeps_state:
            return ""
        if entry.phase != "started":
            start = self._outbox.start_of(entry)
            return "not sent: its beginning was not" if start is not None and start.state == "failed" else ""
        limit = self._config.daily_limit
        if limit is None or self._outbox.num_sent(self.name, entry.rule, now_s - DAY_S) < limit:
            return ""
        return f"not sent: {limit} alerts of rule {entry.rule!r} in 24 hours are the limit; raise daily_limit"

    def _try(self, entry: OutboxEntry, now_s: float) -> None:
        try:
            message = self._with_facts_of_start(entry, message_from_json(entry.message))
        except ValueError as error:
            self._give_up(entry, str(error), was_tried=False)
            return
        attach: str = getattr(self._config, "attach", "nothing")
        if attach == "clip" and self._waits_for_clip(entry, message, now_s):
            self._note(lambda: self._outbox.later(entry.id, "its clip is being recorded", now_s + 1.0, was_tried=False))
            return
        try:
            said = self.sender.send(message, files_of(message, attach, self._folder))
        except NotDelivered as error:
            self._try_later(entry, error)
        except DeliveryRefused as error:
            self._give_up(entry, str(error))
        else:
            self._times_down = 0
            self._note(lambda: self._outbox.sent(entry.id, said, self._clock.wall_s()))
            logger.info("%s: delivered: %s", self.name, said)

    def _with_facts_of_start(self, entry: OutboxEntry, message: AlertMessage) -> AlertMessage:
        """A message about an end with what its start knew: the time of day of pictures, a picture and a clip."""
        start = self._outbox.start_of(entry) if message.phase == "ended" else None
        if start is None:
            return message
        began = message_from_json(start.message)
        return replace(
            message,
            wall_s=began.wall_s + message.time_s - began.time_s,
            snapshot=message.snapshot or began.snapshot,
            clip=message.clip or began.clip,
            question=began.question,
            hits=began.hits,
            zone=began.zone,
            frames=began.frames,
        )

    def _waits_for_clip(self, entry: OutboxEntry, message: AlertMessage, now_s: float) -> bool:
        is_young = 0 <= now_s - entry.created_s < CLIP_WAIT_S
        is_wanted = bool(message.clip) and message.phase == "ended"
        return is_wanted and is_young and self._outbox.is_clip_recording(message.clip)

    def _try_later(self, entry: OutboxEntry, error: NotDelivered) -> None:
        now_s = self._clock.wall_s()
        attempts = entry.attempts + 1
        end = self._retries.end(attempts, now_s - entry.created_s)
        if end:
            self._give_up(entry, f"{error}; {end}")
        else:
            delay_s = self._retries.delay_s(attempts, self._jitter)
            self._note(lambda: self._outbox.later(entry.id, str(error), now_s + delay_s))
            logger.warning("%s: not delivered, tried again in %.1f s: %s", self.name, delay_s, error)
        if error.is_down:
            self._times_down += 1
            self._down_until_s = self._clock.now_s() + self._retries.delay_s(self._times_down, self._jitter)

    def _give_up(self, entry: OutboxEntry, said: str, *, was_tried: bool = True) -> None:
        self._note(lambda: self._outbox.failed(entry.id, said, self._clock.wall_s(), was_tried=was_tried))
        logger.error("%s: an alert of rule %r was not delivered: %s", self.name, entry.rule, said)
        self._on_undelivered(entry, said)

    def _note(self, write: Callable[[], None]) -> None:
        """Write a result, for as long as it takes: a message that was taken must not be sent again."""
        while True:
            try:
                write()
                return
            except StoreError as error:
                logger.warning("%s: the result of a delivery waits to be written: %s", self.name, error)
                if self._wait(1.0):
                    return  # sent again after the next start, with the same key

    def _run(self) -> None:
        while not self._closing:
            wait_s = LOOK_S
            try:
                if self._may_send():
                    wait_s = self.step()
            except StoreError as error:
                logger.warning("%s: the outbox cannot be read: %s", self.name, error)
            except Exception:
                logger.exception("%s: a delivery failed in an unknown way; it is tried again", self.name)
            if wait_s > 0:
                self._wait(wait_s)

    def _wait(self, seconds: float) -> bool:
        """Wait for news or the end; return whether it is the end."""
        with self._changed:
            self._clock.wait_for(self._changed, lambda: self._closing or self._has_news, seconds)
            self._has_news = False
            return self._closing

    def _may_send(self) -> bool:
        """Whether this process sends to the target: it holds the target's lock, which ends with the process."""
        if self._lock is not None:
            return True
        lock = FileLock(self._folder.root / f"outbox-{safe_name(self.name)}.lock")
        if not lock.try_exclusive() and FileLock.is_supported():
            lock.close()
            return False
        try:
            self._on_taken_over(self.name)
        except StoreError:
            lock.close()
            raise
        self._lock = lock
        self.sender.open()
        return True
