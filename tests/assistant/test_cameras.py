"""Watched cameras: what the configuration says, where logins come from, and what a new configuration changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from assistant.cameras.cameras import Cameras, ReloadResult
from assistant.cameras.channels import channel_config
from assistant.cameras.monitor import Monitor, health
from assistant.cameras.views import Region
from assistant.config.app import AppConfig, load_config
from assistant.config.cameras import CameraConfig
from assistant.errors import ConfigError
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelState
from assistant.serving.contracts import ModelState
from assistant.serving.scheduler import Scheduler
from assistant.timeline.store import Timeline
from streaming.clock import FakeClock
from streaming.masks import MID_GREY
from streaming.types import Frame
from tests.assistant.fakes import FakeModel, Look
from tests.assistant.host_fakes import FakeModelEngine, turn_until
from tests.clips import write_clip

NASTY = "p@s:s/w#r?d%20."


def written(folder: Path, text: str) -> Path:
    path = folder / "cameras.yaml"
    path.write_text(text)
    return path


def test_a_login_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOOR_USER", "me")
    monkeypatch.setenv("DOOR_PASSWORD", NASTY)
    camera = CameraConfig(url="rtsp://10.0.0.5/live", user_env="DOOR_USER", password_env="DOOR_PASSWORD")
    escaped = "rtsp://me:p%40s%3As%2Fw%23r%3Fd%2520.@10.0.0.5/live"
    assert camera.spec("door") == escaped
    secret = tmp_path / "secret"
    secret.write_text(NASTY + "\nnot this\n")
    assert CameraConfig(url="rtsp://10.0.0.5/live", user="me", password_file=secret).spec("door") == escaped
    assert NASTY not in repr(camera) and NASTY not in repr(channel_config("door", camera, talkative=0, instruct=None))


@pytest.mark.parametrize(
    ("camera", "problem"),
    [
        ({"password_env": "NOT_THERE", "user": "me"}, "NOT_THERE: the environment variable is not set"),
        ({"password_file": "/not/there", "user": "me"}, "No such file"),
        ({"user_env": "NOT_THERE"}, "camera door needs it"),
    ],
)
def test_a_login_that_is_not_there_is_named(camera: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        CameraConfig(url="rtsp://10.0.0.5/live", **camera).spec("door")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cameras: {door: {url: 'rtsp://a/b', fsp: 2}}", r"cameras\.door\.fsp: unknown key; known are url"),
        ("cameras: {'../door': {url: 'rtsp://a/b'}}", "letters, digits"),
        ("cameras: {door: {url: 'rtsp://a/b'}, Door: {url: 'rtsp://a/c'}}", "capitals"),
        ("cameras: {door: {url: 'rtsp://a/b', password_env: A}}", "a password without a user"),
        ("cameras: {door: {url: 'rtsp://a/b', zones: [1]}}", "each with a rectangle"),
        ("timeline: {keep_clips_s: 99}", "keep_clips_s"),
    ],
)
def test_mistakes_in_the_configuration_say_where_they_are(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config(written(tmp_path, text))


def test_cameras_inherit_what_all_share() -> None:
    live = channel_config("a", CameraConfig(url="rtsp://h/x", instruct="Cars."), talkative=1.0, instruct="All.")
    file = channel_config("b", CameraConfig(url="clip.mp4", talkative=-1.0), talkative=1.0, instruct="All.")
    assert (live.talkative, live.instruct, live.keep_trying, live.frozen_after_s) == (1.0, "Cars.", True, 60.0)
    assert (file.talkative, file.instruct, file.keep_trying, file.frozen_after_s) == (-1.0, "All.", False, None)


class Stage:
    def __init__(self, folder: Path, *models: FakeModel) -> None:
        self.clock = FakeClock()
        self.engine = FakeModelEngine(self.clock, 0.0, list(models))
        self.host = Scheduler(lambda: self.engine)
        self.timeline = Timeline(folder / "data")
        self.secrets: list[str | None] = []
        self.cameras = Cameras(self.host, self.timeline, on_secrets=self.secrets.extend)
        self.host.open()

    def close(self) -> None:
        self.host.stop()
        self.cameras.stop()
        self.timeline.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, FakeModel({at_s: Look(score=20.0) for at_s in (0.0,)}))
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clip(tmp_path_factory.mktemp("cameras") / "clip.mp4", num_frames=250))


def config(**cameras: Mapping[str, object]) -> AppConfig:
    return AppConfig.model_validate({"cameras": cameras})


def test_a_new_configuration_keeps_those_that_stay(stage: Stage, clip: str) -> None:
    def seen(name: str) -> int:
        return stage.cameras.stream(name).snapshot().counts.num_sampled

    door, yard = {"url": clip}, {"url": clip, "fps": 5}
    assert stage.cameras.load(config(door=door, yard=yard)).added == ("door", "yard")
    kept = stage.cameras.stream("door")
    turn_until(stage.host, lambda: seen("door") > 0 and seen("yard") > 0)
    stopping = config(door={**door, "instruct": "Cars."}, gate={"url": clip})
    # The engine's rounds must go on while a camera is let go of.
    reloaded = _while_turning(stage.host, lambda: stage.cameras.load(stopping))
    assert (reloaded.added, reloaded.removed, reloaded.changed) == (("gate",), ("yard",), ("door",))
    assert [channel.name for channel in stage.cameras.channels] == ["door", "gate"]
    assert stage.cameras.stream("door") is kept and len(stage.engine.opened) == 2
    turn_until(stage.host, lambda: seen("gate") > 0)
    assert len(stage.engine.opened) == 3
    with pytest.raises(ConfigError, match="choose among door, gate"):
        stage.cameras.stream("yard")


def test_what_is_read_at_the_start_alone_waits_for_the_next_start(stage: Stage, clip: str) -> None:
    def load(model: dict[str, object], timeline: dict[str, object], *names: str) -> ReloadResult:
        cameras = {name: {"url": clip} for name in names}
        wanted = AppConfig.model_validate({"cameras": cameras, "model": model, "timeline": timeline})
        return _while_turning(stage.host, lambda: stage.cameras.load(wanted))

    assert load({}, {}, "door").restart_needed == ()
    turn_until(stage.host, lambda: stage.cameras.stream("door").snapshot().counts.num_sampled > 0)
    model: dict[str, object] = {"pruning": "none", "system": "You are a guard.", "stream": {"max_cells": 64}}
    reloaded = load(model, {"keep_clips_s": 5, "max_age_days": 1}, "door", "yard")
    assert reloaded.restart_needed == ("model.pruning", "model.system", "model.stream", "timeline.keep_clips_s")
    assert (reloaded.added, reloaded.changed, reloaded.refused) == (("yard",), (), ())
    turn_until(stage.host, lambda: stage.cameras.stream("yard").snapshot().counts.num_sampled > 0)
    assert [opened["pruning"] for opened in stage.engine.opened] == ["live", "live"], "all cameras are watched alike"
    _, facts = health(stage.host, stage.cameras, stage.timeline)
    assert facts["restart_needed"] == list(reloaded.restart_needed)
    assert load({}, {}, "door", "yard").restart_needed == (), "taken back, nothing waits any more"


def _while_turning(host: Scheduler, work: Callable[[], ReloadResult]) -> ReloadResult:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        turn_until(host, future.done)
        return future.result()


def test_others_are_looked_at_while_a_camera_takes_long_to_stop(
    stage: Stage, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping, may_end = threading.Event(), threading.Event()
    stop = Channel.stop

    def slowly(channel: Channel, timeout_s: float = 10.0) -> bool:
        stopping.set()
        may_end.wait(30.0)
        return stop(channel, timeout_s)

    stage.cameras.load(config(door={"url": clip}, yard={"url": clip}))
    monkeypatch.setattr(Channel, "stop", slowly)
    with ThreadPoolExecutor(2) as pool:
        reloading = pool.submit(lambda: stage.cameras.load(config(door={"url": clip})))
        assert stopping.wait(30.0)
        try:
            cards = pool.submit(stage.cameras.cards).result(20.0)
            assert [card.name for card in cards] == ["door"] and not reloading.done()
        finally:
            may_end.set()
        turn_until(stage.host, reloading.done)
    assert reloading.result().removed == ("yard",)


def test_one_camera_without_its_login_does_not_stop_the_others(stage: Stage, clip: str) -> None:
    loaded = stage.cameras.load(
        config(door={"url": "rtsp://h/x", "user": "me", "password_env": "NOT_THERE"}, yard={"url": clip})
    )
    assert loaded.added == ("yard",) and "NOT_THERE" in loaded.refused[0]


def test_what_is_said_is_in_the_timeline_before_it_is_shown(stage: Stage, clip: str) -> None:
    from assistant.timeline.search import Query

    stage.cameras.load(config(door={"url": clip}))
    found: list[int] = []
    stage.cameras.stream("door").subscribe(
        lambda event: found.append(len(stage.timeline.search(Query(cameras=("door",), limit=500))))
    )
    turn_until(stage.host, lambda: len(found) >= 2)
    assert found == list(range(1, len(found) + 1))


def test_health_and_metrics_tell_of_every_camera(stage: Stage, clip: str) -> None:
    stage.cameras.load(config(door={"url": clip}, yard={"url": "/not/there.mp4"}))
    yard = stage.cameras.stream("yard")
    turn_until(stage.host, lambda: yard.failure is not None and bool(stage.cameras.cards()[0].jpeg))
    with Monitor(stage.host, stage.cameras, stage.timeline, port=0) as monitor:
        facts = httpx.get(f"http://127.0.0.1:{monitor.port}/healthz").json()
        text = httpx.get(f"http://127.0.0.1:{monitor.port}/metrics").text
    assert facts["status"] == "degraded" and facts["cameras"]["door"]["health"] == "ok"
    assert facts["cameras"]["yard"]["state"] == "failed" and "no such file" in facts["cameras"]["yard"]["reason"]
    assert 'assistant_up{camera="door"} 1.0' in text and 'assistant_up{camera="yard"} 0.0' in text
    assert 'assistant_state{camera="yard",state="failed"} 1.0' in text
    assert "assistant_comments_total" in text and "process_open_fds" in text


def test_a_model_that_is_gone_is_not_healthy(stage: Stage) -> None:
    with Monitor(stage.host, stage.cameras, port=0) as monitor:
        stage.host.stop()
        assert httpx.get(f"http://127.0.0.1:{monitor.port}/healthz").status_code == 503
        with pytest.raises(ConfigError, match="free port"):
            Monitor(stage.host, stage.cameras, port=monitor.port)


def test_an_error_of_the_device_is_not_healthy_for_ever(stage: Stage, clip: str) -> None:
    from assistant.serving.model_faults import ModelBroken

    stage.cameras.load(config(door={"url": clip}))
    door = stage.cameras.stream("door")
    turn_until(stage.host, lambda: door.snapshot().counts.num_sampled > 0)
    stage.engine.failing.append(RuntimeError("CUDA error: misaligned address"))
    broken = pytest.raises(ModelBroken, turn_until, stage.host, lambda: False).value
    stage.host._end(ModelState.FAILED, broken)  # as its thread does
    alive, facts = health(stage.host, stage.cameras, stage.timeline)
    assert not alive and (facts["status"], facts["model"]) == ("down", "failed")
    assert facts["cameras"]["door"]["state"] == "failed" and "new process" in facts["cameras"]["door"]["reason"]
    assert "new process" in str(door.ask("What is there?").future.exception(0))


def test_cards_show_masks_and_zones_in_parts_of_the_picture(stage: Stage, clip: str) -> None:
    masks, zones = [{"rectangle": [0, 0, 0.5, 0.5]}], {"left": {"rectangle": [0, 0, 32, 48], "units": "pixels"}}
    stage.cameras.load(config(door={"url": clip, "masks": masks, "zones": zones}))
    door = stage.cameras.stream("door")
    turn_until(stage.host, lambda: door.snapshot().counts.num_sampled > 0)
    (card,) = stage.cameras.cards()
    assert [(region.kind, region.name) for region in card.regions] == [("mask", ""), ("zone", "left")]
    assert card.regions[1].points[2] == (0.5, 1.0)
    assert (card.state, card.health) == (ChannelState.REPLAY, "ok")


def test_what_a_viewer_draws_acts_beside_the_configuration_until_that_is_read_anew(stage: Stage, clip: str) -> None:
    zones = {"left": {"rectangle": [0, 0, 0.5, 1]}}
    stage.cameras.load(config(door={"url": clip, "zones": zones}))
    door, shown = stage.cameras.stream("door"), list[Frame]()
    door.add_viewer(shown.append)
    turn_until(stage.host, lambda: door.snapshot().counts.num_sampled > 2)
    seen_s = door.snapshot().media_s
    top = Region("mask", "", ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5)))
    stage.cameras.draw("door", [top, Region("zone", "gate", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0)))])
    turn_until(stage.host, lambda: bool(shown) and bool((shown[-1].image[:20] == MID_GREY).all()))
    assert shown[-1].pts_s >= seen_s, "a recording goes on where it was"
    (card,) = stage.cameras.cards()
    assert [(region.name, region.is_drawn) for region in card.regions] == [("", True), ("left", False), ("gate", True)]
    text = stage.cameras.regions_yaml("door")
    assert "rectangle: [0.0, 0.0, 1.0, 0.5]" in text and "gate:" in text and "left:" in text
    with pytest.raises(ConfigError, match="has a zone of that name"):
        stage.cameras.draw("door", [Region("zone", "left", top.points)])
    stage.cameras.draw("door", [])
    assert [region.name for region in stage.cameras.cards()[0].regions] == ["left"], "what is configured stays"
    stage.cameras.draw("door", [top])
    _while_turning(stage.host, lambda: stage.cameras.load(config(door={"url": clip, "zones": zones})))
    assert [region.name for region in stage.cameras.cards()[0].regions] == ["left"]
    with pytest.raises(ConfigError, match="choose among door"):
        stage.cameras.draw("yard", [])
