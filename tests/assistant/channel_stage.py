"""A channel on a scheduler with a fake model, driven by the test."""

from __future__ import annotations

from typing import Any

import numpy as np

from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig, ChannelSnapshot
from assistant.serving.scheduler import Scheduler
from streaming.clock import FakeClock, SystemClock
from tests.assistant.fakes import FakeModel, FakeSink
from tests.assistant.host_fakes import FakeModelEngine, turn_until


class Stage:
    """A host and a channel on it, driven by the test."""

    def __init__(
        self, config: ChannelConfig, *models: FakeModel, ready: bool = True, real: bool = False, **options: Any
    ) -> None:
        """real: on the machine's clock, for what must wait in threads of its own."""
        self.clock = FakeClock()
        clock = SystemClock() if real else self.clock
        self.engine = FakeModelEngine(self.clock, 0.0, list(models))
        self.host = Scheduler(lambda: self.engine, clock=clock, **options)
        self.sink = FakeSink()
        self.channel = Channel(config, self.host, clock=clock, sinks=[self.sink])
        if ready:
            self.host.open()

    def until(self, reached: Any) -> None:
        turn_until(self.host, reached)

    def push(self, number: int) -> None:
        """One frame a second, each seen before the next comes."""
        for _ in range(number):
            before = self.shot.counts.num_sampled
            self.clock.advance(1.0)
            picture = np.full((8, 8, 3), before % 256, np.uint8)
            self.until(lambda picture=picture: self.channel.push(picture))  # its source opens in a thread of its own
            self.until(lambda before=before: self.shot.counts.num_sampled > before)
        while self.host.turn():
            pass

    @property
    def shot(self) -> ChannelSnapshot:
        return self.channel.snapshot()

    def kinds(self) -> list[str]:
        return self.sink.kinds()


PUSHED = ChannelConfig("door", "push:cam", fps=30)
