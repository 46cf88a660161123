"""Zones: a remark needs a change in one of them, lately."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from assistant.stream.speaking import CalibratedPolicy, Reason
from assistant.stream.stream_session import StreamSession
from assistant.stream.zones import ZoneGate
from models.checkpoint.settings import SpeakingSettings
from streaming.clock import FakeClock
from streaming.masks import MaskRegion
from tests.assistant.fakes import FakeEngine, FakeModel, FakeSink, Look, frame

LEFT = MaskRegion.rectangle(0, 0, 0.2, 0.5)
"""The first of the fakes' ten cells, where a change begins."""
RIGHT = MaskRegion.rectangle(0.8, 0, 0.2, 1)


def gate(region: MaskRegion, *changes: tuple[float, int]) -> list[bool]:
    zone = ZoneGate([region])
    seen = [(frame(at_s), Look(changed=cells)) for at_s, cells in changes]
    return [zone.lets_through(shown, look.sight(shown)) for shown, look in seen]


def test_a_change_in_a_zone_opens_it_for_two_seconds() -> None:
    assert gate(LEFT, (0.0, 0), (1.0, 1), (2.5, 0), (3.5, 0)) == [False, True, True, False]
    assert gate(RIGHT, (0.0, 0), (1.0, 1), (2.0, 5)) == [False, False, True]


def test_without_zones_everything_goes_through() -> None:
    shown = frame(0.0)
    assert ZoneGate([]).lets_through(shown, Look(changed=0).sight(shown))


def test_zones_in_pixels_follow_the_pictures_size() -> None:
    zone = ZoneGate([MaskRegion.rectangle(3, 0, 1, 2, units="pixels")])
    small, large = frame(0.0), replace(frame(1.0), image=np.zeros((8, 8, 3), np.uint8))
    assert zone.lets_through(small, Look(changed=5).sight(small))
    assert not ZoneGate([MaskRegion.rectangle(7, 0, 1, 8, units="pixels")]).lets_through(
        large, Look(changed=1).sight(large)
    )


def test_a_remark_on_what_is_outside_is_not_made_and_does_not_silence_the_next() -> None:
    model = FakeModel({0.0: Look(score=20.0), 0.5: Look(score=20.0, changed=5)})
    sink, clock = FakeSink(), FakeClock()
    policy = CalibratedPolicy(replace(SpeakingSettings(decision="trained"), refractory_s=5.0), fps=2.0)
    stream = StreamSession(model, policy, clock, sink.append, zones=[RIGHT])
    for at_s in (0.0, 0.5):
        FakeEngine(clock).run(stream.on_frame(frame(at_s)))
    assert [decision.reason for decision in stream.curve] == [Reason.OUTSIDE_ZONES, Reason.SPOKE]
    assert [comment.time_s for comment in sink.comments()] == [0.5]
