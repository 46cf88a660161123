"""Rules are added, changed, muted and removed while their streams are watched, on all their cameras or on none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from assistant.cameras.cameras import Cameras
from assistant.config.app import AppConfig, load_config
from assistant.config.rule_text import read_rule, rules_yaml
from assistant.delivery.delivery import Delivery
from assistant.errors import ConfigError
from assistant.events import StatusKind
from assistant.rules.rule import Rule
from assistant.rules.schedule import parse_schedule
from assistant.serving.scheduler import Scheduler
from assistant.timeline.store import Timeline
from assistant.viewers.viewer_session import ViewerSessionError
from models.session.results import Check
from models.session.steps import StepGenerator, as_steps
from streaming.clock import FakeClock
from streaming.masks import MaskRegion
from tests.assistant.channel_stage import PUSHED
from tests.assistant.channel_stage import Stage as ChannelStage
from tests.assistant.fakes import A_FORWARD, FakeModel
from tests.assistant.host_fakes import FakeModelEngine, turn_until
from tests.clips import write_clip
from tests.ui.desks import EMBEDDED, Office

RED = Rule("red", "a red shape", confirmations=1)
DARK = Rule("dark", "it is dark", confirmations=1)


@dataclass
class Certain(FakeModel):
    """A model that answers yes to every question."""

    @as_steps
    def check_and_choose(
        self, questions: Sequence[str], choices: Sequence[tuple[str, Sequence[str]]]
    ) -> StepGenerator[tuple[list[Check], list[list[float]]]]:
        yield A_FORWARD
        return [Check(True, math.log(19.0)) for _ in questions], []


def test_a_running_stream_takes_up_lets_go_and_mutes_rules_between_frames() -> None:
    stage = ChannelStage(replace(PUSHED, rules=(RED,)), Certain())
    stage.channel.start()
    stage.push(2)
    stage.channel.set_rules([RED, DARK])
    stage.push(2)
    assert [alert.rule for alert in stage.sink.alerts()] == ["red", "dark"], "what went on is no second alert"
    stage.channel.mute_rule("dark", muted=True)
    stage.channel.set_rules([replace(DARK, muted=True)])
    stage.push(2)
    ended = [event.details["rule"] for event in stage.sink.statuses() if event.kind is StatusKind.ALERT_ENDED]
    assert ended == ["red"], "muting ends nothing, removing does"
    assert [(of.name, of.is_muted) for of in stage.channel.rules()] == [("dark", True)]
    with pytest.raises(ConfigError, match="'x' is no zone of camera door"):
        stage.channel.set_rules([RED, replace(DARK, zone="x")])
    stage.push(1)
    assert [of.name for of in stage.channel.rules()] == ["dark"] and stage.channel.config.rules[0].name == "dark"
    stage.channel.stop(0.1)


class House:
    """Two cameras, one of them with a zone, whose model answers yes to everything."""

    def __init__(self, folder: Path) -> None:
        clip = str(write_clip(folder / "clip.mp4", num_frames=50))
        zones = {"steps": {"rectangle": [0, 0, 1, 1]}}
        self.values = {
            "cameras": {"door": {"url": clip, "zones": zones}, "yard": {"url": clip}},
            "targets": {"hook": {"kind": "webhook", "url": "http://127.0.0.1:9/hook"}},
            "rules": {"red": {"when": "a red shape", "cameras": ["door"]}},
        }
        self.config = AppConfig.model_validate(self.values)
        self.host = Scheduler(lambda: FakeModelEngine(FakeClock(), 0.0, [Certain(), Certain()], info=EMBEDDED))
        self.timeline = Timeline(folder / "data")
        self.delivery = Delivery(self.timeline, self.config.targets)
        self.cameras = Cameras(self.host, self.timeline, delivery=self.delivery)
        self.host.open()
        self.cameras.load(self.config)
        self.camera_rules = self.cameras.camera_rules()
        turn_until(self.host, lambda: len(self.watched("door")) == 1)

    def watched(self, camera: str) -> list[str]:
        return [of.name for of in self.cameras.stream(camera).rules()]

    def close(self) -> None:
        self.host.stop()
        self.cameras.stop()
        self.delivery.stop()
        self.timeline.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def test_a_rule_is_armed_on_all_its_cameras_or_on_none(house: House) -> None:
    for bad, problem in (
        (replace(DARK, zone="steps"), "'steps' is no zone of camera yard"),
        (replace(DARK, when="a person at the door"), "the embedded model cannot read 'person', 'door'"),
        (replace(DARK, cameras=("gate",)), "camera 'gate' is unknown; name one of door, yard"),
        (replace(DARK, targets=("phone",)), "target 'phone' is unknown; name one of hook"),
        (replace(DARK, name="RED"), "rule RED: another rule has this name; give it another"),
    ):
        with pytest.raises(ConfigError, match=problem):
            house.camera_rules.put(bad)
    assert [rule.name for rule in house.camera_rules.rules] == ["red"] and house.watched("yard") == []
    house.camera_rules.put(replace(DARK, targets=("hook",)))
    assert [standing.awaited for standing in house.camera_rules.standing()] == [(), ("door", "yard")]
    turn_until(house.host, lambda: "dark" in house.watched("door") and "dark" in house.watched("yard"))
    assert [standing.is_configured for standing in house.camera_rules.standing()] == [True, False]
    assert house.delivery._rules["dark"].targets == ("hook",)
    house.camera_rules.put(replace(RED, zone="steps", cameras=("door",)), replaces="red")
    house.camera_rules.remove("dark")
    turn_until(house.host, lambda: house.watched("door") == ["red"] and house.watched("yard") == [])
    turn_until(house.host, lambda: "dark" not in house.delivery._rules)
    with pytest.raises(ConfigError, match="rule 'dark': no rule of the cameras has this name; name one of red"):
        house.camera_rules.remove("dark")


def test_rules_made_while_it_runs_are_offered_as_yaml_and_end_with_the_next_configuration(
    house: House, tmp_path: Path
) -> None:
    drawn = MaskRegion.rectangle(0.0, 0.5, 0.5, 0.5)
    house.camera_rules.put(replace(DARK, zone=drawn, hold_s=1.0, schedule=parse_schedule("sat"), targets=("hook",)))
    house.cameras.mute_rule("red", True)
    assert house.delivery._rules["red"].is_muted
    copied = tmp_path / "copied.yaml"
    copied.write_text(
        house.camera_rules.yaml()
        + "cameras: {door: {url: a.mp4}}\ntargets: {hook: {kind: webhook, url: 'http://h/x'}}\n"
    )
    kept = load_config(copied).armed()
    assert kept == house.camera_rules.rules and kept[1].zone == drawn and kept[0].muted
    turn_until(house.host, lambda: house.watched("yard") == ["dark"])
    house.cameras.load(house.config)
    turn_until(house.host, lambda: house.watched("yard") == [] and house.watched("door") == ["red"])
    assert [rule.name for rule in house.camera_rules.rules] == ["red"] and house.camera_rules.rules[0].muted, (
        "muting is kept"
    )

    def told() -> list[str]:
        return [event.text for event in house.cameras.stream("yard").events()[1] if "made on the page" in event.text]

    turn_until(house.host, lambda: len(told()) == 1)
    assert told()[0].endswith("are gone: dark")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"when": ""}, "rules.a.when '': it must not be empty; change or leave out"),
        ({"when": "it is dark", "sure": 2}, "rules.a.sure 2: .*less than or equal to 0.999"),
        ({"when": "it is dark", "schedule": "someday"}, "neither days nor times"),
        ({"when": "it is dark", "zone": {"rectangle": [0, 0, 2, 1]}}, "relative coordinates are at most 1"),
        ({"when": "it is dark", "zone": 3}, "the name of a zone, or a rectangle"),
        ({"when": "it is dark", "sur": 1}, "rules.a.sur: unknown key; known are when, "),
        ({"when": "it is dark", "cameras": "door"}, "cameras 'door': it must be a list"),
    ],
)
def test_a_rule_of_wrong_values_is_refused_in_one_line(values: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as refused:
        read_rule("a", values)
    assert "\n" not in str(refused.value)


def test_own_rules_go_with_the_tab_from_stream_to_stream() -> None:
    office = Office()
    desk, viewer = office.backend.rules, office.backend.registry.of("tab")
    assert desk.put(viewer, "own", {"when": "Is a red shape in  view?"}) == "Is a red shape in view"
    office.backend.watch(viewer, office.backend.sample("scene"))
    with pytest.raises(ConfigError, match="a rule of this tab's own stream is told in this tab alone"):
        desk.put(viewer, "own", {"when": "it is dark", "to": ["hook"]})
    desk.put(viewer, "own", {"when": "it is dark"})
    desk.put(viewer, "own", {"when": "the view is covered", "name": "dark"}, replaces="it is dark")
    desk.mute(viewer, "own", "dark", muted=True)
    assert office.streams[0].calls[-3:] == [
        "rules Is a red shape in view, it is dark", "rules Is a red shape in view, dark", "mute dark True",
    ]  # fmt: skip
    assert [rule.muted for rule in viewer.rules] == [False, True] and "muted: true" in rules_yaml(viewer.rules)
    desk.remove(viewer, "own", "dark")
    assert [each.standing.rule.name for each in desk.shown(viewer)] == ["Is a red shape in view"]
    with pytest.raises(ConfigError, match="no cameras are configured"):
        desk.put(viewer, "cameras", {"when": "it is dark"})
    desk.may_change_cameras = False
    with pytest.raises(ViewerSessionError, match="viewers cannot change the rules of shared cameras"):
        desk.mute(viewer, "cameras", "dark", muted=True)
