"""Delivers alerts: addresses each to its targets in the event's own transaction, and runs a courier for each target.

The engine's thread calls `parcels` and `posted`, by way of the timeline; any thread may call the rest.
"""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from assistant.config.targets import DeliveryTarget
from assistant.delivery.courier import Courier
from assistant.delivery.kinds import make_sender
from assistant.delivery.messages import AlertMessage, message_from_json, message_of
from assistant.delivery.outbox import Outbox, OutboxEntry
from assistant.delivery.senders import TEST_RULE, AnnouncedRule, OnMute
from assistant.errors import ConfigError, StoreError
from assistant.events import Detail, StatusEvent, StatusKind
from assistant.timeline.records import Parcel, Record
from assistant.timeline.store import Timeline
from streaming.clock import Clock, SystemClock

OWN_NAME = "delivery"
"""Source of the delivery's own status events."""

logger = logging.getLogger(__name__)


def _cannot_mute(rule: str, is_muted: bool) -> None:
    logger.warning("rule %r was to be %s, and nothing here can do that", rule, "muted" if is_muted else "unmuted")


class Delivery:
    """Sends the alerts of one timeline to the targets of a configuration."""

    def __init__(
        self,
        timeline: Timeline,
        targets: Mapping[str, DeliveryTarget],
        *,
        clock: Clock | None = None,
        on_mute: OnMute = _cannot_mute,
        seed: int | None = None,
    ) -> None:
        """on_mute: called when a receiver wants a rule muted or heard again. seed: of the jitter; None for any.

        Connects to nothing yet. Raises `ConfigError` if a target's secret or address is wrong, and `StoreError`.
        """
        self._timeline = timeline
        self._targets = dict(targets)
        self._clock: Clock = clock or SystemClock()
        self._on_mute = on_mute
        self._rules: dict[str, AnnouncedRule] = {}
        self._began_s = self._clock.wall_s()
        self._lock = threading.Lock()
        jitter = random.Random(seed)
        senders = {name: make_sender(name, config, self._mute) for name, config in self._targets.items()}
        self.outbox = Outbox(timeline.folder)
        self._couriers = {
            name: Courier(
                name,
                self._targets[name],
                sender,
                self.outbox,
                timeline.folder,
                self._clock,
                jitter,
                self._undelivered,
                self._end_what_was_cut_off,
            )
            for name, sender in senders.items()
        }

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the targets."""
        return tuple(self._targets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets of all targets, which logs must hide: libraries may log addresses."""
        return tuple(word for courier in self._couriers.values() for word in courier.sender.secrets.words)

    def start(self) -> None:
        """Start sending, what earlier runs left in the outbox first; its alerts are addressed from now on."""
        self._timeline.deliver_through(self)
        for courier in self._couriers.values():
            courier.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the couriers, each after its message under way; what waits stays on disk. Whether all ended in time."""
        self._timeline.deliver_through(None)
        end_s = self._clock.now_s() + timeout_s
        have_ended = [courier.stop(max(0.0, end_s - self._clock.now_s())) for courier in list(self._couriers.values())]
        if all(have_ended):
            self.outbox.close()
        return all(have_ended)

    def set_rules(self, rules: Sequence[AnnouncedRule]) -> None:
        """Say which rules there are: receivers show them, and each rule's alerts go to its own targets only."""
        with self._lock:
            self._rules = {rule.name: rule for rule in rules}
        for name, courier in self._couriers.items():
            courier.sender.set_rules([rule for rule in rules if rule.targets is None or name in rule.targets])

    def set_on_mute(self, on_mute: OnMute) -> None:
        """Set what is called when a receiver wants a rule muted or heard again."""
        self._on_mute = on_mute

    def parcels(self, record: Record) -> tuple[Parcel, ...]:
        """What is sent about a record, addressed to the targets that want it; nothing for what is no alert."""
        message = message_of(record)
        if message is None:
            return ()
        with self._lock:
            rule = self._rules.get(message.rule)
        names = self._targets if rule is None or rule.targets is None else rule.targets
        return tuple(
            self._parcel(message, name)
            for name in names
            if name in self._targets and self._targets[name].is_wanted(message.rule, message.severity, message.phase)
        )

    def posted(self) -> None:
        """Wake the couriers."""
        for courier in self._couriers.values():
            courier.wake()

    def test(self, target: str) -> str:
        """Put a test alert for a target into the outbox and return its key. Raises `ConfigError` for an unknown one."""
        self._known(target)
        message = sample_message(self._clock.wall_s())
        phases = ("started", "ended") if self._targets[target].keeps_state else ("started",)
        parcels = [
            self._parcel(replace(message, phase=phase, ended_s=0.0 if phase == "ended" else None), target)
            for phase in phases
        ]
        self.outbox.add(parcels)
        self._couriers[target].wake()
        return parcels[0].key

    def retry(self, target: str | None = None) -> int:
        """Try failed and waiting messages now; return their number. Raises `ConfigError` for an unknown target."""
        if target is not None:
            self._known(target)
        number = self.outbox.retry(target, self._clock.wall_s())
        self.posted()
        return number

    def _known(self, target: str) -> None:
        if target not in self._targets:
            known = ", ".join(self._targets) or "none"
            raise ConfigError(f"target {target!r}: no target has this name; choose among {known}")

    def _parcel(self, message: AlertMessage, target: str) -> Parcel:
        message = message.for_target(target)
        return Parcel(
            key=message.key,
            target=target,
            rule=message.rule,
            severity=message.severity,
            occurrence=message.occurrence,
            phase=message.phase,
            lane=message.rule if self._targets[target].keeps_state else message.occurrence,
            message=message.to_json(),
            created_s=self._clock.wall_s(),
        )

    def _mute(self, rule: str, is_muted: bool) -> None:
        self._on_mute(rule, is_muted)

    def _undelivered(self, entry: OutboxEntry, said: str) -> None:
        """Enter a message that was given up in the timeline."""
        text = f"{entry.target}: an alert of rule {entry.rule!r} was not delivered: {said}"
        details: dict[str, Detail] = {"target": entry.target, "rule": entry.rule, "key": entry.key}
        event = StatusEvent(
            source=OWN_NAME, time_s=0.0, text=text, reason=said, kind=StatusKind.UNDELIVERED, details=details
        )
        try:
            self._timeline.append(event)
        except StoreError:
            logger.warning("the timeline is closed: %s", text)

    def _end_what_was_cut_off(self, target: str) -> None:
        """Tell the end of what an earlier run told the start of, and could not end: a sensor would stay on for ever."""
        if "ended" not in self._targets[target].told:
            return
        parcels = []
        for entry in self.outbox.without_end(target):
            if entry.created_s < self._began_s:
                start = message_from_json(entry.message)
                ended = replace(
                    start, phase="ended", ended_s=start.time_s, reason="the program ended while it was going on"
                )
                parcels.append(self._parcel(ended, target))
        self.outbox.add(parcels)


def sample_message(wall_s: float) -> AlertMessage:
    """A test alert, each time another one."""
    return AlertMessage(
        key="",
        rule=TEST_RULE,
        severity="info",
        camera="none",
        text="This is a test alert. If you can read it, alerts reach you here.",
        occurrence=f"test-{uuid.uuid4().hex}",
        phase="started",
        wall_s=wall_s,
        time_s=0.0,
        started_s=0.0,
        is_test=True,
    )
