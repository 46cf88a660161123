"""What is refused stays as it was and is said; what the model side refuses for good ends its camera with the reason."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assistant.cameras.cameras import Cameras
from assistant.config.app import AppConfig, load_config
from assistant.errors import AssistantError, ConfigError
from assistant.events import StatusKind
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig, ChannelState
from assistant.serving.player import NotPlaying
from assistant.serving.scheduler import Scheduler
from assistant.serving.worker import StreamWorker
from assistant.stream.question_queue import Question, Unanswered
from assistant.stream.stream_session import StreamSession
from models.checkpoint.fake import make_checkpoint
from models.engine import Engine
from models.errors import SessionError, SettingsError, VisionError
from streaming.clock import FakeClock
from streaming.errors import StreamingError
from streaming.masks import MaskRegion
from tests.assistant.channel_stage import PUSHED
from tests.assistant.fakes import FakeModel
from tests.assistant.host_fakes import FakeModelEngine, FakeServedStream, turn_until
from tests.clips import write_clip

LONG = "Tell me of everything that you can see. " * 40 + "Now."
OUTSIDE = MaskRegion(((900.0, 900.0), (950.0, 900.0), (950.0, 950.0)), units="pixels")


def refusals(stage: Any) -> list[str]:
    return [status.text for status in stage.sink.statuses() if status.kind is StatusKind.REFUSED]


def test_a_refused_instruction_is_said_and_the_one_before_stays_in_every_memory(stages: Any) -> None:
    first, second = FakeModel(), FakeModel()
    stage = stages(replace(PUSHED, instruct="Only balls."), first, second)
    stage.channel.start()
    stage.push(1)
    refused = stage.channel.instruct(LONG)
    stage.until(refused.done)
    assert isinstance(refused.exception(0), SessionError)
    assert (stage.shot.instruct, stage.channel.config.instruct) == ("Only balls.", "Only balls.")
    (text,) = refusals(stage)
    assert text.startswith("the standing instruction 'Only balls.' stays: instruction of 1604 tokens: at most 1000 fit")
    for number in range(3):
        stage.engine.failing.append(MemoryError("no room"))
        stage.clock.advance(60.0)
        stage.channel.push(np.zeros((8, 8, 3), np.uint8))
        stage.until(lambda number=number: stage.shot.counts.num_faults == number + 1)
    stage.clock.advance(60.0)
    stage.push(1)
    assert [opened["instruction"] for opened in stage.engine.opened] == ["Only balls.", "Only balls."]
    assert stage.shot.counts.num_sampled == 2, "a fresh memory is not blinded by what was refused"


def test_what_is_ordered_before_the_session_is_there_is_checked_once_it_is(stages: Any) -> None:
    stage = stages(PUSHED, FakeModel(), ready=False)
    stage.channel.start()
    refused, told = stage.channel.instruct(LONG), stage.channel.instruct("Only balls.")
    assert not refused.done() and stage.channel.config.instruct is None
    stage.host.open()
    stage.until(told.done)
    assert isinstance(refused.exception(0), SessionError) and told.exception(0) is None
    assert stage.channel.config.instruct == "Only balls."
    stage.push(1)


def test_a_new_configuration_is_in_force_but_for_what_the_session_refuses(stages: Any) -> None:
    stage = stages(ChannelConfig("door", "push:cam", fps=2), FakeModel(most_fps=10.0))
    stage.channel.start()
    stage.push(1)
    wanted = ChannelConfig("door", "push:cam", fps=20, talkative=2.0, instruct=LONG)
    done = stage.channel.reconfigure(wanted)
    stage.until(done.done)
    assert isinstance(done.exception(0), SettingsError)
    assert stage.channel.config == replace(wanted, fps=2, instruct=None) and len(refusals(stage)) == 1
    assert any("2 frames a second stay: fps 20" in status.text for status in stage.sink.statuses())
    stage.push(1)
    assert stage.shot.counts.num_faults == 0


@pytest.mark.parametrize("change", [{"masks": (OUTSIDE,)}, {"zones": (("yard", OUTSIDE),)}, {"spec": "nowhere://a"}])
def test_what_cannot_be_watched_leaves_the_source_and_the_configuration_alone(stages: Any, change: Any) -> None:
    stage = stages(PUSHED)
    stage.channel.start()
    stage.push(1)
    with pytest.raises((AssistantError, StreamingError)):
        stage.channel.reconfigure(replace(PUSHED, **change))
    assert stage.channel.config == PUSHED
    stage.push(1)
    assert stage.kinds().count("opened") == 1 and len(refusals(stage)) == 1
    stage.channel._player.begin()  # as after a loss
    stage.push(1)
    assert stage.shot.state is ChannelState.LIVE, "what was refused is not tried at the next opening"


def test_talkativeness_outside_its_range_is_refused_wherever_it_is_set(stages: Any) -> None:
    for talkative in (-21.0, 20.5, float("nan")):
        with pytest.raises(ConfigError, match="from -20 to 20"):
            replace(PUSHED, talkative=talkative)
    stage = stages(PUSHED)
    stage.channel.start()
    with pytest.raises(ConfigError):
        stage.channel.set_talkative(float("nan"))
    assert stage.channel.config == PUSHED
    stage.push(1)


def test_one_camera_that_refuses_its_new_configuration_keeps_the_others_from_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = str(write_clip(tmp_path / "clip.mp4", num_frames=50))
    models = [FakeModel() for _ in range(3)]
    host = Scheduler(lambda: FakeModelEngine(FakeClock(), 0.0, models))
    cameras = Cameras(host)
    host.open()

    def config(door: dict[str, Any], yard: dict[str, Any], gate: dict[str, Any]) -> AppConfig:
        values = {"door": {"url": clip, **door}, "yard": {"url": clip, **yard}, "gate": {"url": clip, **gate}}
        return AppConfig.model_validate({"cameras": values})

    cameras.load(config({}, {}, {}))
    channels = [cameras.stream(name) for name in ("door", "yard", "gate")]
    turn_until(host, lambda: all(channel.snapshot().counts.num_sampled for channel in channels))
    outside = {"masks": [{"polygon": [[900, 900], [950, 900], [950, 950]], "units": "pixels"}]}
    done = cameras.load(config(outside, {"instruct": LONG}, {"talkative": 2.0}))
    assert done.changed == ("yard", "gate") and len(done.refused) == 1 and "outside the picture" in done.refused[0]
    turn_until(host, lambda: any(event.text.startswith("there is no standing") for event in channels[1].events()[1]))
    assert "not watched as configured: yard: instruction of 1604 tokens" in caplog.text
    assert (channels[0].config.masks, channels[1].config.instruct, channels[2].config.talkative) == ((), None, 2.0)
    assert cameras.load(config({}, {"instruct": LONG}, {"talkative": 2.0})).changed == ("yard",), "it is tried again"
    host.stop()
    cameras.stop()


# What the model side refuses of a source.


@pytest.mark.parametrize("error", [VisionError("a picture of 9000 x 9 px: crop it"), SettingsError("fps 5: lower fps")])
def test_a_source_that_the_model_refuses_has_failed_with_the_reason_and_is_not_tried_again(
    stages: Any, error: Any
) -> None:
    stage = stages(replace(PUSHED, keep_trying=True), FakeModel(refuses=error))
    other = FakeServedStream("other", always=1)
    stage.host.attach(other)
    stage.channel.start()
    waiting = stage.channel.ask("What is there?")
    stage.until(lambda: stage.channel.push(np.zeros((8, 8, 3), np.uint8)))
    stage.until(lambda: stage.shot.state is ChannelState.FAILED)
    assert stage.shot.state_reason == str(error) and stage.shot.counts.num_faults == 0 and stage.shot.health == "down"
    assert [status.text for status in stage.sink.statuses() if status.kind is StatusKind.BROKEN] == [str(error)]
    for asked in (waiting, stage.channel.ask("And now?")):
        assert str(error) in str(asked.future.exception(0)) and isinstance(asked.future.exception(0), Unanswered)
    assert stage.host.streams == (other,) and other.failure is None
    num_events = stage.shot.counts.num_events
    stage.clock.advance(3600.0)
    stage.host.turn()
    assert stage.shot.counts.num_events == num_events and len(stage.engine.opened) == 1
    for late in (lambda: stage.channel.seek(0.0), lambda: stage.channel.reconfigure(PUSHED)):
        with pytest.raises(AssistantError, match="watched no more"):
            late()
    assert not stage.channel.push(np.zeros((8, 8, 3), np.uint8)), "its source is closed"


def test_an_instruction_that_does_not_fit_is_refused_at_the_start(stages: Any) -> None:
    stage = stages(replace(PUSHED, instruct=LONG), FakeModel())
    stage.channel.start()
    stage.host.turn()
    assert stage.shot.state is ChannelState.FAILED and "at most 1000 fit" in stage.shot.state_reason
    told = stage.channel.instruct("Only balls.")
    assert "at most 1000 fit" in str(told.exception(0))


def test_a_planned_question_that_is_refused_ends_itself_alone(stages: Any) -> None:
    class Strict(FakeModel):
        def answer(self, question: str, attachments: Any = (), *, aside: bool = False) -> Any:
            raise SessionError("question of 900 tokens: at most 300 fit; shorten it")

    stage = stages(replace(PUSHED, questions=(Question(1.0, "A very long one"),)), Strict())
    stage.channel.start()
    stage.push(3)
    assert stage.shot.counts.num_faults == 0 and stage.kinds().count("unasked") == 1


def test_a_question_about_a_recording_without_a_picture_is_told_so(stages: Any, tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mp4", num_frames=50))
    stage = stages(ChannelConfig("clip", clip, start_s=1.99, end_s=1.995, speed=None))
    stage.channel.start()
    stage.until(lambda: stage.shot.state in (ChannelState.ENDED, ChannelState.FAILED))
    asked = stage.channel.ask("What was there?")
    stage.until(lambda: asked.done)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Engine]:
    from models.checkpoint.loader import load_checkpoint

    folder = make_checkpoint(tmp_path_factory.mktemp("refusals") / "released", layout="released")
    return lambda: Engine(load_checkpoint(folder, device="cpu", progress=False))


@pytest.mark.parametrize(
    ("config", "size", "reason"),
    [
        ({"fps": 5}, (360, 640), "checkpoints are trained on 16384 at most; lower fps or max_cells"),
        ({"fps": 2}, (20, 1000), "each side needs at least 28 px"),
        ({"fps": 2}, (1000, 40), "one side may be at most 16 times the other"),
        ({"fps": 2, "stream": {"window": {"vision_low": 600, "vision_high": 900}}}, (480, 640), "raise vision_low"),
        ({"fps": 2, "stream": {"pruning": {"settle_s": 99}}}, (480, 640), "settle_s=99: it must lie between 0 and 60"),
        ({"fps": 2, "instruct": "Guard the gate. " * 2000}, (480, 640), "fit the text window; shorten it"),
    ],
)
def test_what_a_released_checkpoint_refuses_fails_its_camera_with_the_remedy(
    released: Callable[[], Engine], config: dict[str, Any], size: tuple[int, int], reason: str
) -> None:
    host = Scheduler(released)
    channel = Channel(ChannelConfig("door", "push:cam", keep_trying=True, **config), host)
    host.open()
    channel.start()
    picture = np.zeros((*size, 3), np.uint8)

    def failed() -> bool:
        channel.push(picture)
        return channel.snapshot().state is ChannelState.FAILED

    turn_until(host, failed, 60.0)
    assert reason in channel.snapshot().state_reason and channel.snapshot().counts.num_faults == 0
    assert host.streams == () and reason in str(channel.ask("What?").future.exception(0))
    channel.stop()
    host.stop()


def test_pruning_overrides_that_are_none_are_refused_with_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    for text, rule in [
        ("{settle: 1}", "pruning settle: the names are settle_s"),
        ("{settle_s: soon}", "a number is wanted"),
        ("{heartbeat_s: 0}", "it must lie between 0.1 and 600"),
        ("{window_low_tokens: 5}", "the names are settle_s"),
    ]:
        path.write_text(f"model: {{stream: {{pruning: {text}}}}}")
        with pytest.raises(ConfigError, match=rule):
            load_config(path)


# Two threads at once.


class Interrupted(FakeModelEngine):
    """Lets something happen while a session is being made."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.meanwhile: Callable[[], None] = lambda: None

    def open_session(self, *args: Any, **kwargs: Any) -> FakeModel:
        session = super().open_session(*args, **kwargs)
        self.meanwhile()
        return session


@pytest.fixture
def opening(stages: Any) -> Iterator[Any]:
    """A channel whose session is about to be made by an engine that can be interrupted."""
    stage = stages(PUSHED, ready=False)
    stage.model = FakeModel()
    stage.engine = Interrupted(stage.clock, 0.0, [stage.model])
    stage.host.open()
    stage.channel.start()
    yield stage


def test_what_is_set_while_the_session_is_made_acts_on_it(opening: Any) -> None:
    futures: list[Future[None]] = []
    region = MaskRegion.rectangle(0, 0, 0.5, 0.5)

    def set_all() -> None:
        futures.append(opening.channel.instruct("Only balls."))
        futures.append(opening.channel.reconfigure(replace(PUSHED, fps=2, zones=(("left", region),), talkative=3.0)))
        futures.append(opening.channel.forget())

    opening.engine.meanwhile = set_all
    opening.until(lambda: len(futures) == 3 and all(future.done() for future in futures))
    assert opening.model.calls == ["instruct Only balls.", "expect 2", "instruct None", "forget"]
    assert opening.shot.rates.fps_wanted == 2 and opening.shot.talkative == 3.0
    assert "rate" in opening.kinds() and "talkative" in opening.kinds()


def test_a_channel_that_is_stopped_while_its_session_is_made_takes_nobody_with_it(opening: Any) -> None:
    other = FakeServedStream("other", always=1)
    opening.host.attach(other)
    waiting: list[Any] = []

    def stop() -> None:
        waiting.extend([opening.channel.ask("What?").future, opening.channel.instruct("Only balls.")])
        assert opening.channel.stop(0.0)

    opening.engine.meanwhile = stop
    for _ in range(5):
        opening.host.turn()
    assert isinstance(waiting[0].exception(0), Unanswered) and waiting[1].cancelled()
    assert opening.shot.state is ChannelState.ENDED and opening.host.streams == (other,) and len(other.settled) >= 3


def test_a_channel_that_is_let_go_of_in_the_middle_of_a_step_takes_nobody_with_it(stages: Any) -> None:
    stage = stages(PUSHED, FakeModel())
    other = FakeServedStream("other", always=1)
    stage.channel.start()
    stage.host.attach(other)
    stage.until(lambda: stage.channel.push(np.zeros((8, 8, 3), np.uint8)))

    def let_go() -> None:
        if stage.channel.served.worker is not None and stage.channel.served.worker._doing is not None:
            stage.engine.on_step = lambda: None
            stage.host.detach(stage.channel.served, 0.0)

    stage.engine.on_step = let_go
    stage.until(lambda: stage.shot.state is ChannelState.ENDED)
    before = len(other.settled)
    for _ in range(5):
        stage.host.turn()
    assert "fault" not in stage.kinds() and "broken" not in stage.kinds()
    assert stage.host.streams == (other,) and len(other.settled) > before


def beside(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, leave: Callable[[], None]) -> list[threading.Thread]:
    """Has another thread begin `leave` in the middle of a method: it is done before the rest, or waits for it."""
    method, threads = getattr(kind, name), list[threading.Thread]()

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not threads:
            threads.append(threading.Thread(target=leave))
            threads[0].start()
            threads[0].join(0.5)
        return method(self, *args, **kwargs)

    monkeypatch.setattr(kind, name, interrupted)
    return threads


def test_an_order_given_while_the_channel_is_left_is_told_how_that_ended(
    stages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stages(PUSHED)
    stage.channel.start()
    stage.push(1)
    threads = beside(monkeypatch, StreamWorker, "submit", stage.channel.served.detach)
    told = stage.channel.instruct("Only balls.")
    threads[0].join(10)
    assert told.done()
    late = stage.channel.forget()
    assert isinstance(late.exception(0), AssistantError), "what was not done is not said to be"


def test_a_question_put_while_the_channel_is_left_is_told_how_that_ended(
    stages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stages(PUSHED)
    stage.channel.start()
    stage.push(1)
    threads = beside(monkeypatch, StreamSession, "ask", stage.channel.served.detach)
    asked = stage.channel.ask("What?")
    threads[0].join(10)
    assert isinstance(asked.future.exception(0), Unanswered)


def test_a_source_is_not_opened_anew_once_its_channel_was_stopped(stages: Any) -> None:
    stage = stages(PUSHED)
    stage.channel.start()
    stage.push(1)
    stage.host.detach(stage.channel.served, 0.0)
    with pytest.raises(NotPlaying, match="it was stopped"):
        stage.channel._player.begin()
    assert stage.channel.stop()


def test_more_changes_than_may_wait_for_the_model_are_refused(stages: Any) -> None:
    stage = stages(PUSHED, ready=False)
    stage.channel.start()
    futures = [stage.channel.instruct(f"Only {number} balls.") for number in range(80)]
    assert sum(future.done() for future in futures) == 16
    assert "64 changes wait" in str(futures[-1].exception(0))
    stage.host.open()
    stage.until(lambda: all(future.done() for future in futures))
    assert stage.channel.config.instruct == "Only 63 balls."
