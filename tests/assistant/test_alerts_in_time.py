"""An alert is on its way within a second of the frame that made its rule hold long enough, on a virtual clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from assistant.delivery.courier import Courier
from assistant.delivery.delivery import Delivery
from assistant.delivery.messages import AlertMessage
from assistant.delivery.senders import MessageFiles
from assistant.rules.rule import Rule
from assistant.timeline.records import Parcel, Record
from assistant.timeline.sink import ChannelSink
from assistant.timeline.store import Timeline
from streaming.clock import FakeClock
from tests.assistant.channel_stage import PUSHED, Stage
from tests.assistant.fakes import Look
from tests.assistant.test_outbox import HOOK, FakeSender
from tests.assistant.test_rule_changes import Certain

HELD = Rule("red", "a red shape", confirmations=2, hold_s=2.0)
PASS_S = 0.05
"""Virtual seconds of each pass of the model."""


@dataclass
class TimedSender(FakeSender):
    """Notes when each message was sent."""

    clock: FakeClock = field(default_factory=FakeClock)
    sent_at_s: list[float] = field(default_factory=list)

    def send(self, message: AlertMessage, files: MessageFiles) -> str:
        self.sent_at_s.append(self.clock.now_s())
        return super().send(message, files)


class ByHand:
    """Addresses alerts as a delivery does, and lets its courier step as soon as it is woken."""

    def __init__(self, delivery: Delivery, courier: Courier) -> None:
        self._delivery = delivery
        self._courier = courier

    def parcels(self, record: Record) -> tuple[Parcel, ...]:
        return self._delivery.parcels(record)

    def posted(self) -> None:
        self._courier.step()


def test_an_alert_is_sent_within_a_second_of_its_frame_while_the_assistant_speaks(tmp_path: Path) -> None:
    talking = Certain(looks={float(second): Look(score=20.0) for second in range(20)})
    stage = Stage(replace(PUSHED, rules=(HELD,)), talking)
    stage.engine.forward_s = PASS_S
    sender = TimedSender(clock=stage.clock)
    with Timeline(tmp_path, clock=stage.clock) as timeline:
        delivery = Delivery(timeline, {"hook": HOOK}, clock=stage.clock)
        courier = Courier("hook", HOOK, sender, delivery.outbox, timeline.folder, stage.clock, random.Random(0))
        timeline.deliver_through(ByHand(delivery, courier))
        stage.channel.subscribe(ChannelSink(timeline, "door", keeper=stage.channel.keeper).append)
        stage.channel.start()
        for _ in range(6):
            stage.push(1)
        stage.channel.stop(0.1)
        delivery.outbox.close()
    (alert,) = stage.sink.alerts()
    ((message, _),) = sender.sent
    assert message.time_s == alert.time_s and [time_s for time_s, _ in alert.hits][-1] == alert.time_s
    assert alert.time_s - (alert.started_s or 0.0) >= HELD.hold_s
    assert any(call.startswith("comment") for call in talking.calls)
    assert alert.latency_ms is not None
    captured_at_s = sender.sent_at_s[0] - alert.latency_ms / 1000
    assert PASS_S <= sender.sent_at_s[0] - captured_at_s < 1.0
