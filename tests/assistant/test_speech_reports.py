"""What becomes of speech stands among the events of the camera that it is about."""

from __future__ import annotations

from typing import Any

from assistant.events import StatusKind
from assistant.serving.channel import Channel
from tests.assistant.channel_stage import PUSHED
from tests.assistant.fakes import FakeModel


def test_a_report_stands_among_the_events_until_the_camera_is_stopped(stages: Any) -> None:
    stage = stages(PUSHED, FakeModel())
    channel: Channel = stage.channel
    channel.start()
    stage.push(1)
    channel.report(StatusKind.AUDIO, "audio device 'usb': pulled out", {"device": "usb"})
    stage.until(lambda: "audio" in stage.kinds())
    channel.stop(0.0)  # this test takes its rounds itself
    channel.report(StatusKind.AUDIO, "and again")
    assert list(stage.kinds()).count("audio") == 1
