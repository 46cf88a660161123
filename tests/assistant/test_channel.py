"""A channel from its source to those who listen and look: on a fake model, and on the embedded one."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from assistant.errors import ConfigError
from assistant.events import Comment, StatusEvent, StatusKind, StreamEvent
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig, ChannelState
from assistant.serving.player import NotPlaying, Player
from assistant.serving.scheduler import Scheduler
from streaming.errors import SourceError
from streaming.masks import MID_GREY, MaskRegion
from streaming.types import Frame
from tests.assistant.channel_stage import PUSHED
from tests.assistant.fakes import FakeModel, Look
from tests.clips import write_clip


def test_what_is_pushed_is_seen_said_stored_and_then_told(stages: Any) -> None:
    stage = stages(PUSHED, FakeModel({1.0: Look(score=20.0)}, deque(["A red ball enters."])))
    told: list[tuple[StreamEvent, int]] = []
    stage.channel.subscribe(lambda event: told.append((event, len(stage.sink.events))))
    stage.channel.start()
    assert stage.shot.state is ChannelState.OPENING
    stage.push(2)
    (comment,) = stage.sink.comments()
    assert (comment.source, comment.text, comment.time_s) == ("door", "A red ball enters.", 1.0)
    assert [event for event, _ in told] == stage.sink.events
    assert all(stored == place for place, (_, stored) in enumerate(told, start=1))
    shot = stage.shot
    assert (shot.state, shot.health, shot.last_comment, shot.counts.num_sampled) == (
        ChannelState.LIVE,
        "ok",
        comment,
        2,
    )
    assert shot.newest_seen_age_s is not None and shot.newest_seen_age_s < 1
    assert (
        (shot.view.rows, shot.view.cols) == (2, 5) and shot.view.kept is not None and shot.memory.tokens_unpruned == 10
    )
    assert len(stage.channel.evidence(comment)) == 2


def test_a_zone_outside_the_picture_is_told_once_the_size_is_known_and_when_it_changes(stages: Any) -> None:
    far = ("gate", MaskRegion.rectangle(20, 0, 30, 8, units="pixels"))
    near = ("door", MaskRegion.rectangle(0, 0, 4, 4, units="pixels"))
    stage = stages(replace(PUSHED, zones=(far, near)))
    stage.channel.start()

    def told() -> list[str]:
        return [status.text for status in stage.sink.statuses() if status.kind is StatusKind.REFUSED]

    stage.push(3)
    (only,) = told()
    assert "door: zone 'gate': it lies outside the picture of 8 x 8, where nothing can be remarked on" in only
    stage.clock.advance(0.1)
    assert stage.channel.push(np.zeros((16, 40, 3), np.uint8))
    stage.until(lambda: stage.shot.source.width_px == 40 and stage.shot.counts.num_sampled == 4)
    assert len(told()) == 1, "now it lies within"


def test_events_and_decisions_are_read_from_where_one_left_off(stages: Any) -> None:
    stage = stages(PUSHED)
    stage.channel.start()
    stage.push(2)
    at, events = stage.channel.events()
    place, decisions = stage.channel.decisions()
    assert len(decisions) == place == 2
    stage.push(1)
    assert stage.channel.decisions(place)[0] == 3 and len(stage.channel.decisions(place)[1]) == 1
    stage.channel.pause()
    stage.until(lambda: stage.shot.counts.num_events > at)
    assert [event.text for event in stage.channel.events(at)[1]] == ["paused"]


def test_frames_reach_the_model_scaled_to_its_grid_and_kept_pictures_are_scaled_too(stages: Any) -> None:
    seen: list[Frame] = []

    class Looking(FakeModel):
        @property
        def fitter(self) -> Any:
            return lambda frame: replace(frame, on_grid=frame.image[:4, :4])

        def see(self, frame: Frame, **options: Any) -> Any:
            seen.append(frame)
            return (yield from super().see(frame, **options))

    stage = stages(PUSHED, Looking())
    stage.channel.start()
    stage.push(1)
    stage.clock.advance(1.0)
    assert stage.channel.push(np.zeros((600, 800, 3), np.uint8))
    stage.until(lambda: len(seen) == 2)
    assert seen[1].on_grid is not None and seen[1].on_grid.shape == (4, 4, 3)
    assert seen[1].thumbnail is not None and (seen[1].thumbnail.height_px, seen[1].thumbnail.width_px) == (240, 320)
    assert seen[1].image.shape == (600, 800, 3)


def test_a_paused_camera_is_seen_by_people_alone_and_the_model_is_told(stages: Any) -> None:
    model = FakeModel()
    stage = stages(PUSHED, model)
    stage.channel.start()
    stage.push(1)
    seen: list[Frame] = []
    leave = stage.channel.add_viewer(seen.append)
    stage.channel.pause()
    assert stage.shot.state is ChannelState.PAUSED
    for number in range(3):
        stage.clock.advance(1.0)
        stage.channel.push(np.zeros((8, 8, 3), np.uint8))
        stage.until(lambda number=number: len(seen) > number)
    assert stage.shot.counts.num_sampled == 1
    leave()
    stage.channel.resume()
    stage.push(1)
    assert model.calls == ["see 0", "gap 3", "see 4"]
    assert [kind for kind in stage.kinds() if kind != "opened"] == ["paused", "resumed", "gap"] and len(seen) == 3


def test_what_a_person_sets_acts_on_the_running_session(stages: Any) -> None:
    model = FakeModel({second: Look(score=1.0) for second in (0.0, 1.0, 2.0)})
    stage = stages(ChannelConfig("door", "push:cam", fps=2), model)
    stage.channel.start()
    stage.push(1)
    assert stage.sink.comments() == []
    stage.channel.set_talkative(10.0)
    told, forgot = stage.channel.instruct("Tell me of balls."), stage.channel.forget()
    stage.until(lambda: told.done() and forgot.done())
    stage.push(1)
    assert len(stage.sink.comments()) == 1
    assert model.calls[1:3] == ["instruct Tell me of balls.", "forget"]
    assert (stage.shot.talkative, stage.shot.instruct) == (10.0, "Tell me of balls.")
    with pytest.raises(ConfigError, match="from -20 to 20"):
        stage.channel.set_talkative(21)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clip(tmp_path_factory.mktemp("channel") / "clip.mp4", num_frames=60))


def test_a_recording_is_seen_whole_and_ends(stages: Any, clip: str) -> None:
    stage = stages(ChannelConfig("clip", clip, fps=5, speed=None))
    stage.channel.start()
    stage.until(lambda: stage.shot.state is ChannelState.ENDED)
    shot = stage.shot
    assert (shot.counts.num_read, shot.counts.num_dropped, shot.health) == (
        60,
        0,
        "ok",
    ) and shot.counts.num_sampled == 12
    assert stage.kinds()[-1] == "ended" and shot.source.is_live is False
    asked = stage.channel.ask("What was there?")
    stage.until(lambda: asked.done)
    stage.channel.seek(1.6)
    stage.until(lambda: stage.shot.counts.num_sampled == 14)
    assert stage.shot.media_s == pytest.approx(1.8)
    with pytest.raises(ConfigError, match="goes from 0 to 2"):
        stage.channel.seek(99)


@pytest.mark.parametrize("what", ["it broke", "it was read to its end"])
def test_what_became_of_an_opening_is_not_taken_for_the_next_ones(
    stages: Any, clip: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    stage = stages(ChannelConfig("clip", clip, fps=5, speed=None))
    stage.channel.start()
    stage.until(lambda: stage.shot.counts.num_sampled >= 2)
    get, is_drained = Player.get, vars(Player)["is_drained"].fget
    sought: list[float] = []

    def seek() -> bool:
        """As another thread may, at the worst moment; once."""
        if not sought:
            sought.append(0.4)
            stage.channel.seek(0.4)
            return True
        return False

    def get_and_seek(player: Player) -> Any:
        if what == "it broke" and seek():
            raise SourceError("clip", "it is not open", "call open() first")
        return get(player)

    monkeypatch.setattr(Player, "get", get_and_seek)
    if what != "it broke":
        monkeypatch.setattr(Player, "get", lambda player: get(player) if sought else None)
        monkeypatch.setattr(Player, "is_drained", property(lambda player: seek() or is_drained(player)))
    stage.host.turn()
    assert sought and stage.shot.state not in (ChannelState.FAILED, ChannelState.ENDED)
    before = stage.shot.counts.num_sampled
    stage.until(lambda: stage.shot.counts.num_sampled > before)
    assert "broken" not in stage.kinds()


def test_a_recording_sought_while_paused_shows_one_frame(stages: Any, clip: str) -> None:
    stage = stages(ChannelConfig("clip", clip, fps=25, speed=1.0), real=True)
    seen: list[float] = []
    stage.channel.add_viewer(lambda frame: seen.append(frame.pts_s))
    stage.channel.start()
    stage.until(lambda: stage.shot.counts.num_sampled >= 2)
    stage.channel.pause()
    before = stage.shot.counts.num_sampled
    stage.channel.seek(1.0)
    stage.until(lambda: stage.shot.counts.num_sampled > before)
    for _ in range(20):
        stage.host.turn()
    assert stage.shot.counts.num_sampled == before + 1 and seen[-1] == pytest.approx(1.0)
    stage.channel.resume()
    stage.until(lambda: stage.shot.state is ChannelState.ENDED)
    assert stage.shot.media_s == pytest.approx(59 / 25)


def test_live_streams_cannot_be_sought(stages: Any) -> None:
    stage = stages(PUSHED)
    stage.channel.start()
    stage.push(1)
    with pytest.raises(NotPlaying):
        stage.channel.seek(1.0)
    with pytest.raises(NotPlaying):
        stage.channel.set_speed(2.0)


def test_overload_takes_frames_from_live_streams_and_says_so(stages: Any) -> None:
    from assistant.serving.rate_control import RateChange

    stage = stages(ChannelConfig("door", "push:cam", fps=2))
    stage.channel.start()
    stage.push(1)
    stage.channel.served.set_rate(RateChange(0.5, "too much to do"))
    assert stage.shot.rates.factor == 0.5 and stage.shot.health == "degraded"
    (status,) = [status for status in stage.sink.statuses() if status.kind is StatusKind.RATE]
    assert status.details == {"factor": 0.5, "fps": 1.0} and "1 of 2 frames a second" in status.text


def test_another_configuration_keeps_the_memory(stages: Any) -> None:
    model = FakeModel()
    stage = stages(ChannelConfig("door", "push:cam", fps=30), model)
    seen: list[Frame] = []
    stage.channel.add_viewer(seen.append)
    stage.channel.start()
    stage.push(1)
    hidden = (MaskRegion.rectangle(0, 0, 1, 0.5),)
    stage.channel.reconfigure(ChannelConfig("door", "push:cam", fps=30, masks=hidden, instruct="Only balls."))
    stage.until(lambda: "instruct Only balls." in model.calls)
    stage.until(lambda: stage.kinds().count("opened") == 2)
    stage.push(1)
    assert len(stage.engine.opened) == 1 and [call[:3] for call in model.calls] == ["see", "ins", "see"]
    assert (seen[-1].image[:4] == MID_GREY).all()


def test_another_rate_keeps_the_memory_too(stages: Any) -> None:
    model = FakeModel(most_fps=10.0)
    stage = stages(ChannelConfig("door", "push:cam", fps=2), model)
    stage.channel.start()
    stage.push(1)

    def set_fps(fps: float | None) -> str:
        told = stage.kinds().count("rate")
        stage.channel.reconfigure(ChannelConfig("door", "push:cam", fps=fps))
        stage.until(lambda: stage.kinds().count("rate") > told)
        return stage.sink.statuses()[-1].text

    assert set_fps(5) == "5 frames a second are wanted now" and stage.shot.rates.fps_wanted == 5
    refused = set_fps(20)
    assert refused == "5 frames a second stay: fps 20: at most 10 here; lower fps"
    assert stage.shot.rates.fps_wanted == 5 and stage.channel.config.fps == 5
    set_fps(None)
    assert stage.shot.rates.fps_wanted == stage.engine.stream.fps, "without a rate of its own it has the checkpoint's"
    assert len(stage.engine.opened) == 1 and stage.kinds().count("opened") == 1


def test_what_a_session_cannot_change_is_refused(stages: Any) -> None:
    stage = stages(PUSHED)
    stage.channel.start()
    for change in ({"pruning": "none"}, {"system": "You are a guard."}, {"stream": {"max_cells": 64}}):
        with pytest.raises(ConfigError, match="a session keeps what it began with"):
            stage.channel.reconfigure(replace(PUSHED, **change))
    assert stage.channel.config == PUSHED


@pytest.mark.slow
def test_the_embedded_model_watches_a_scene_on_threads_of_its_own(stages: Any) -> None:
    from models.checkpoint.loader import load_checkpoint
    from models.engine import Engine

    engine = Engine(load_checkpoint("embedded", progress=False))
    host = Scheduler(lambda: engine)
    channels = [Channel(ChannelConfig(f"scene {n}", "synthetic:3", speed=None, end_s=8), host) for n in range(2)]
    ended = [threading.Event() for _ in channels]
    for channel, event in zip(channels, ended, strict=True):
        channel.subscribe(partial(_set_at_end, event))
        channel.start()
    asked = channels[0].ask("How many shapes are there?")
    host.start()
    assert all(_ends(channel, event) for channel, event in zip(channels, ended, strict=True))
    assert asked.future.result(5).text
    remarks = [[e for e in channel.events()[1] if isinstance(e, Comment)] for channel in channels]
    assert remarks[1] and all(remark.score is not None for remark in remarks[1])
    told = host.describe()
    # With what questions and their pictures come to: the windows alone are 2,800 tokens.
    of_sessions = host.reserved_bytes - engine.working_bytes(engine.stream)
    assert told.embedded and 0 < of_sessions <= len(channels) * 8704 * told.bytes_per_token
    assert channels[1].snapshot().memory.cache.vision > 0
    assert all(channel.stop() for channel in channels) and host.stop()


def _ends(channel: Channel, ended: threading.Event) -> bool:
    """Whether it comes to its end, however slowly: given up once its media time stands for a minute."""
    reached_s = None
    while not ended.wait(60):
        before_s, reached_s = reached_s, channel.snapshot().media_s
        if reached_s == before_s:
            return False
    return True


def _set_at_end(ended: threading.Event, event: StreamEvent) -> None:
    if isinstance(event, StatusEvent) and event.kind is StatusKind.ENDED:
        ended.set()
