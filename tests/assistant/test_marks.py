"""What people say of alerts and rules: right, wrong, muted; it is kept, counted, and obeyed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import app
from assistant.cameras.cameras import Cameras
from assistant.commands.terminal import BAD_INPUT
from assistant.config.app import AppConfig
from assistant.errors import ConfigError, StoreError
from assistant.events import Alert
from assistant.rules.rule import Rule
from assistant.rules.rule_watch import RuleFacts
from assistant.timeline.folder import TimelineFolder
from assistant.timeline.marks import AlertMarks, RuleRating
from assistant.timeline.schema import MIGRATIONS
from assistant.timeline.search import Query, TimelineReader
from assistant.timeline.store import Timeline
from assistant.timeline.upkeep import Retention
from tests.assistant.timelines import NOON_S, noon, remark, rows

Capsys = pytest.CaptureFixture[str]


def raised(rule: str, number: int) -> Alert:
    return Alert(
        source="cam", time_s=float(number), text="It is dark.", rule=rule, occurrence=f"{rule}-{number}",
        question="Is it dark?",
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three alerts of one rule, numbers 1 to 3, one of another, 4, and a remark, 5."""
    clock = noon()
    with Timeline(tmp_path, clock=clock) as timeline:
        for number in range(3):
            timeline.record(raised("dark", number), camera="door")
            clock.advance(3600)
        timeline.record(raised("covered", 9), camera="door")
        timeline.append(remark(1))
    return tmp_path


def test_a_mark_is_kept_changed_and_taken_back_and_rates_its_rule(data: Path) -> None:
    with Timeline(data) as timeline:
        timeline.marks.mark(1, "right", NOON_S)
        timeline.marks.mark("dark-1", "right", NOON_S)
        assert timeline.marks.mark("dark-1", "wrong", NOON_S) == 2
        timeline.marks.mark(3, "right", NOON_S)
        timeline.marks.mark(3, None, NOON_S)
        timeline.marks.mute("gone", is_muted=True, now_s=NOON_S)
    with Timeline(data) as timeline:
        assert [found.verdict for found in timeline.search(Query(oldest_first=True))][:4] == [
            "right",
            "wrong",
            None,
            None,
        ]
        assert timeline.reader.get(2).as_dict()["verdict"] == "wrong"  # type: ignore[union-attr]
        assert timeline.marks.ratings() == [
            RuleRating("covered", 1, 0, 0, NOON_S + 3 * 3600),
            RuleRating("dark", 3, 1, 1, NOON_S + 2 * 3600),
            RuleRating("gone", 0, 0, 0, None, True),
        ]
        assert [rating.share_right for rating in timeline.marks.ratings()] == [None, 0.5, None]


def test_what_is_no_alert_or_no_verdict_is_refused_in_words(data: Path) -> None:
    with Timeline(data) as timeline:
        for alert, problem in ((5, "event 5: it is of type comment"), (6, "'6': no such event"), ("x", "no such")):
            with pytest.raises(StoreError, match=problem):
                timeline.marks.mark(alert, "right", NOON_S)
        with pytest.raises(ConfigError, match="'maybe': it must be one of right, wrong"):
            timeline.marks.mark(1, "maybe", NOON_S)


def test_marks_leave_with_their_alerts_and_mutes_have_a_limit(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = noon()
    clock.advance(24 * 3600 + 1800)
    with AlertMarks(TimelineFolder(data)) as marks:
        marks.mark(1, "right", NOON_S)
        marks.mark(2, "right", NOON_S)
    with Timeline(data, clock=clock, retention=Retention(max_age_days=1)) as timeline:
        timeline.sweep()
        assert timeline.marks.marked() == {2: "right"}
        monkeypatch.setattr("assistant.timeline.marks.MOST_MUTES", 2)
        for number in range(4):
            timeline.marks.mute(f"rule {number}", is_muted=True, now_s=NOON_S + number)
        assert list(timeline.marks.mutes()) == ["rule 2", "rule 3"]


def test_a_timeline_of_before_is_read_and_gets_marks_when_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr("assistant.timeline.schema.MIGRATIONS", MIGRATIONS[:2])
        with Timeline(tmp_path) as timeline:
            timeline.append(raised("dark", 1))
    folder = TimelineFolder(tmp_path)
    with TimelineReader(folder) as reader:
        assert [found.verdict for found in reader.search(Query())] == [None]
    with AlertMarks(folder) as marks:
        assert marks.mark(1, "right", NOON_S) == 1
    assert rows(tmp_path, "SELECT event_id, verdict FROM marks") == [(1, "right")]


class OneChannel:
    """A channel that knows which of its rules are muted, and nothing else."""

    def __init__(self, **muted: bool) -> None:
        self.muted = muted

    def mute_rule(self, name: str, *, muted: bool) -> bool:
        self.muted[name] = muted
        return True

    def rules(self) -> list[RuleFacts]:
        return [RuleFacts(name, None, is_muted, False, 0, 0, None) for name, is_muted in self.muted.items()]


CONFIG = AppConfig.model_validate(
    {"rules": {"dark": {"when": "it is dark"}, "covered": {"when": "the view is covered"}}}
)


def test_a_mute_is_told_to_receivers_kept_over_restarts_and_taken_from_another_process(tmp_path: Path) -> None:
    told: list[list[bool]] = []
    delivery: Any = SimpleNamespace(
        set_on_mute=lambda on_mute: None, set_rules=lambda rules: told.append([rule.is_muted for rule in rules])
    )
    host: Any = None  # no camera is watched
    with Timeline(tmp_path) as timeline:
        cameras = Cameras(host, timeline, delivery=delivery)
        cameras.load(CONFIG)
        channel = OneChannel(dark=False, covered=False)
        cameras._cameras["door"] = cast("Any", SimpleNamespace(channel=channel))
        cameras.mute_rule("dark", True)
        with AlertMarks(timeline.folder) as elsewhere:
            elsewhere.mute("covered", is_muted=True, now_s=NOON_S)
        cameras.look_at_mutes()
        cameras.look_at_mutes()
        assert channel.muted == {"dark": True, "covered": True}
        assert told == [[False, False], [True, False], [True, True]]
    with Timeline(tmp_path) as timeline:
        cameras = Cameras(host, timeline, delivery=delivery)
        cameras.load(CONFIG)
        cameras.look_at_mutes()
        assert told[3:] == [[True, True]] and [rule.muted for rule in cameras.camera_rules().rules] == [True, True]
        cameras.camera_rules().put(Rule("dark", "it is dark"), replaces="dark")
        cameras.look_at_mutes()
        assert [rule.muted for rule in cameras.camera_rules().rules] == [False, True], "the latest change counts"


def test_alerts_are_marked_muted_and_rated_on_the_command_line(capsys: Capsys, data: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = app.run([*map(str, arguments), "--data", str(data)])
        caught = capsys.readouterr()
        return code, caught.out, caught.err

    assert run("alerts", "mark", 2, "wrong") == (0, "alert 2 is marked wrong\n", "")
    assert "marked wrong" in run("timeline", "search", "--type", "alert")[1]
    assert run("alerts", "mute", "covered")[1] == "rule covered is muted\n"
    lines = run("alerts", "ratings")[1].splitlines()
    assert lines[1].split()[:5] == ["covered", "1", "0", "0", "-"] and lines[1].endswith(", muted")
    assert lines[2].split()[:5] == ["dark", "3", "0", "1", "0%"]
    assert run("alerts", "unmute", "covered")[0] == 0
    first, _ = map(json.loads, run("alerts", "ratings", "--json")[1].splitlines())
    assert (first["rule"], first["is_muted"]) == ("covered", False)
    config = tmp_path / "house.yaml"
    config.write_text("rules: {dark: {when: it is dark}}")
    code, _, said = run("alerts", "mute", "dork", "--config", config)
    assert code == BAD_INPUT and "rule 'dork': no rule has this name; choose among dark" in said
