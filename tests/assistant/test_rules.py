"""Rules: their words, schedules and occurrences, and the alerts that they raise on a scripted model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

from assistant.config.app import load_config
from assistant.errors import ConfigError
from assistant.events import Alert, StatusEvent, StatusKind, StreamEvent
from assistant.rules.asking import SIDE_ANSWERS
from assistant.rules.occurrence import Change, Judged, RuleState
from assistant.rules.rehearsal import Rehearsal, plot_rehearsals
from assistant.rules.rule import Rule, Severity
from assistant.rules.rule_watch import ArmedRule, RuleWatch
from assistant.rules.schedule import parse_schedule
from assistant.rules.wording import condition_of
from models.session.results import Check
from models.session.steps import StepGenerator, as_steps
from streaming.clock import FakeClock
from streaming.masks import MaskRegion
from tests.assistant.fakes import A_FORWARD, FakeEngine, Look, frame

RULE = Rule("door", "a red shape", sure=0.8, confirmations=2, clear_s=2.0, cooldown_s=10.0)


def walk(rule: Rule, *probabilities: float, every_s: float = 0.5) -> list[tuple[float, Change]]:
    """The changes of a rule whose probability takes these values, with their media times."""
    state = RuleState(rule)
    steps = [(index * every_s, state.step(Judged(index * every_s, p))[0]) for index, p in enumerate(probabilities)]
    return [(time_s, change) for time_s, change in steps if change is not Change.NOTHING]


@pytest.mark.parametrize(
    ("text", "at", "within"),
    [
        ("mon-fri 08:00-18:00", datetime(2026, 11, 30, 8, 0), True),
        ("mon-fri 08:00-18:00", datetime(2026, 11, 30, 18, 0), False),
        ("mon-fri 08:00-18:00", datetime(2026, 11, 29, 9, 0), False),
        ("22:00-06:00", datetime(2026, 11, 30, 5, 59), True),
        ("22:00-06:00", datetime(2026, 11, 30, 6, 0), False),
        ("fri 22:00-06:00", datetime(2026, 11, 28, 1, 0), True),
        ("fri 22:00-06:00", datetime(2026, 11, 27, 1, 0), False),
        ("sat,sun; wed 12:00-13:00", datetime(2026, 12, 2, 12, 30), True),
        ("fri-mon", datetime(2026, 11, 29, 3, 0), True),
        ("fri-mon", datetime(2026, 12, 1, 3, 0), False),
        ("18:00-24:00", datetime(2026, 12, 1, 23, 59), True),
    ],
)
def test_a_schedule_holds_at_its_days_and_times(text: str, at: datetime, within: bool) -> None:
    assert parse_schedule(text).contains(at) is within


def test_a_schedule_says_when_it_comes_next() -> None:
    assert parse_schedule("mon 08:00-09:00").next_start(datetime(2026, 11, 30, 9, 30)) == datetime(2026, 12, 7, 8, 0)
    assert parse_schedule("08:00-09:00").next_start(datetime(2026, 11, 30, 8, 30, 5)) == datetime(2026, 11, 30, 8, 30)


@pytest.mark.parametrize(
    "text", ["", "whenever", "mon 25:00-26:00", "12:00-12:00", "24:00-06:00", "8-9", "mon;", "moon"]
)
def test_a_schedule_that_is_none_or_never_comes_is_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError, match="schedule .*; .*"):
        parse_schedule(text)


@pytest.mark.parametrize(
    ("words", "question"),
    [
        ("a red shape", "Is a red shape in view?"),
        ("A blue circle.", "Is a blue circle in view?"),
        ("the view is covered", "Is the view covered?"),
        ("it is dark", "Is it dark?"),
        ("anything moves", "Is anything moving?"),
        ("something is in view", "Is anything in view?"),
        ("Is a square in view?", "Is a square in view?"),
    ],
)
def test_the_small_model_is_asked_in_the_words_that_it_was_taught(words: str, question: str) -> None:
    condition = condition_of(words, is_small=True)
    assert (condition.question, condition.side, condition.is_taught) == (question, None, True)


def test_a_side_is_asked_for_apart_of_the_small_model() -> None:
    condition = condition_of("a red shape on the left", is_small=True)
    assert (condition.question, condition.side) == ("Is a red shape in view?", "left")
    assert "Where is the red circle?" in [thing.where for thing in condition.things] and len(condition.things) == 4
    one = condition_of("a red star in the centre", is_small=True)
    assert one.side == "centre" and [thing.question for thing in one.things] == ["Is a red star in view?"]
    assert not condition_of("a red star at the top", is_small=True).is_taught


@pytest.mark.parametrize(
    ("words", "question"),
    [
        ("a person at the door", "Is a person at the door in view? Answer yes or no."),
        ("the gate is open", "Is the gate open? Answer yes or no."),
        ("two dogs are on the lawn", "Are two dogs on the lawn? Answer yes or no."),
        ("a car stops at the gate", "Is it true now that a car stops at the gate? Answer yes or no."),
        ("a person who is smoking", "Is a person who is smoking in view? Answer yes or no."),
        ("the lamp that is new is lit", "Is it true now that the lamp that is new is lit? Answer yes or no."),
        ("two dogs", "Are two dogs in view? Answer yes or no."),
        ("Is anyone smoking?", "Is anyone smoking? Answer yes or no."),
        ("a red shape on the left", "Is a red shape on the left in view? Answer yes or no."),
    ],
)
def test_a_released_model_is_asked_about_any_words(words: str, question: str) -> None:
    assert condition_of(words, is_small=False).question == question


def test_words_that_the_small_model_cannot_read_are_refused_and_untaught_ones_known() -> None:
    with pytest.raises(
        ConfigError, match="cannot read 'person', 'door'; it can judge .*; use such words, or a released"
    ):
        condition_of("a person at the door", is_small=True)
    assert not condition_of("a circle is dark", is_small=True).is_taught


def test_an_alert_is_raised_at_the_second_hit_in_a_row_and_ends_when_it_was_clear() -> None:
    assert walk(RULE, 0.9, 0.1, 0.9, 0.95, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1) == [(1.5, Change.RAISED), (4.0, Change.ENDED)]


def test_it_must_hold_as_long_as_the_rule_says() -> None:
    rule = replace(RULE, hold_s=2.0)
    assert walk(rule, 0.9, 0.9, 0.9, 0.9, 0.9) == [(2.0, Change.RAISED)]
    assert walk(rule, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9) == []


def test_a_probability_that_trembles_is_one_occurrence() -> None:
    trembling = [0.9, 0.9, 0.7, 0.85, 0.62, 0.9, 0.3, 0.9, 0.7]
    assert walk(RULE, *trembling) == [(0.5, Change.RAISED)]


def test_within_the_cooldown_an_alert_waits_and_comes_if_it_still_holds_then() -> None:
    rule = replace(RULE, clear_s=0.5, cooldown_s=3.0)
    again = walk(rule, 0.9, 0.9, 0.1, *[0.9] * 10)
    assert again == [(0.5, Change.RAISED), (1.0, Change.ENDED), (2.0, Change.HELD_BACK), (4.0, Change.RAISED)]


def test_after_a_seek_the_rule_begins_anew() -> None:
    state = RuleState(RULE)
    assert [state.step(Judged(time_s, 0.9))[0] for time_s in (10.0, 10.5, 2.0, 2.5)] == [
        Change.NOTHING, Change.RAISED, Change.NOTHING, Change.RAISED,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"sure": 0.3}, {"sure": 1.0}, {"confirmations": 0}, {"hold_s": -1.0}, {"when": " "}]
)
def test_values_out_of_bounds_are_refused_in_words(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="rule door: .*; .*"):
        replace(RULE, **change)  # type: ignore[arg-type]


@dataclass
class AskedModel:
    """A model session that knows the probability of each question, and notes what it was asked."""

    yes: Callable[[str], float]
    sides: Sequence[float] = (0.9, 0.05, 0.05)
    asked: list[str] = field(default_factory=list)
    num_passes: int = 0

    @as_steps
    def check_and_choose(
        self, questions: Sequence[str], choices: Sequence[tuple[str, Sequence[str]]]
    ) -> StepGenerator[tuple[list[Check], list[list[float]]]]:
        assert all(answers == SIDE_ANSWERS for _, answers in choices)
        self.asked += [*questions, *(where for where, _ in choices)]
        self.num_passes += 1
        yield A_FORWARD
        checks = [Check(p > 0.5, math.log(p / (1 - p))) for p in map(self.yes, questions)]
        return checks, [list(self.sides) for _ in choices]


@dataclass
class Story:
    """A stream with rules, frame by frame at 2 fps."""

    rules: list[Rule]
    yes: Callable[[str], float] = lambda question: 0.95
    region: MaskRegion | None = None
    events: list[StreamEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.engine = FakeEngine(self.clock, 0.0)
        self.watch = RuleWatch(self.clock, self.events.append)
        self.model = AskedModel(lambda question: self.yes(question))
        self.time_s = 0.0
        self.arm(self.rules)

    def arm(self, rules: Sequence[Rule]) -> None:
        armed = [ArmedRule(rule, condition_of(rule.when, is_small=True), self.region) for rule in rules]
        self.watch.set_rules(armed)

    def see(self, look: Look | None = None, *, count: int = 1) -> None:
        for _ in range(count):
            self.clock.advance(0.5)
            seen = frame(self.time_s, captured_at_s=self.clock.now_s())
            self.engine.run(self.watch.on_sight(self.model, seen, (look or Look()).sight(seen)))
            self.time_s += 0.5

    @property
    def alerts(self) -> list[Alert]:
        return [event for event in self.events if isinstance(event, Alert)]

    def told(self, kind: StatusKind) -> list[StatusEvent]:
        return [event for event in self.events if isinstance(event, StatusEvent) and event.kind is kind]


def test_an_alert_says_what_held_since_when_how_sure_and_why() -> None:
    story = Story([replace(RULE, severity=Severity.CRITICAL)])
    story.see(count=2)
    (alert,) = story.alerts
    assert (alert.text, alert.rule, alert.severity) == ("A red shape.", "door", "critical")
    assert (alert.time_s, alert.started_s, alert.threshold) == (0.5, 0.0, 0.8)
    assert alert.probability == pytest.approx(0.95) and alert.occurrence and alert.latency_ms == 0
    assert "Is a red shape in view? yes for 0.5 s (0.95 at 0.0 s, 0.95 at 0.5 s)" in alert.reason


def test_one_occurrence_is_one_alert_and_its_end_tells_its_peak() -> None:
    story = Story([RULE])
    story.see(count=10)
    story.yes = lambda question: 0.99
    story.see()
    story.yes = lambda question: 0.05
    story.see(count=6)
    assert len(story.alerts) == 1
    (ended,) = story.told(StatusKind.ALERT_ENDED)
    assert ended.details["occurrence"] == story.alerts[0].occurrence
    assert (ended.details["started_s"], ended.details["ended_s"], ended.details["peak_s"]) == (0.0, 5.0, 5.0)
    assert ended.details["peak"] == pytest.approx(0.99)


def test_a_frame_in_which_nothing_changed_is_not_asked_about_and_counts_as_the_one_before() -> None:
    story = Story([replace(RULE, hold_s=2.0)])
    story.see()
    story.see(Look(changed=0), count=4)
    assert len(story.model.asked) == 1 and [alert.time_s for alert in story.alerts] == [2.0]


def test_questions_that_two_rules_share_are_asked_once() -> None:
    story = Story([RULE, replace(RULE, name="two"), replace(RULE, name="dark", when="it is dark")])
    story.see()
    assert story.model.asked == ["Is a red shape in view?", "Is it dark?"]


def test_a_side_is_asked_only_of_things_in_view() -> None:
    story = Story([replace(RULE, when="a red shape on the left")])
    story.yes = lambda question: 0.95 if question in ("Is a red shape in view?", "Is a red star in view?") else 0.1
    story.see(count=2)
    assert {asked for asked in story.model.asked if asked.startswith("Where")} == {"Where is the red star?"}
    assert [alert.probability for alert in story.alerts] == [pytest.approx(0.95 * 0.9)]


def test_all_rules_of_a_frame_are_asked_in_one_pass_once_their_things_are_in_view() -> None:
    sides = [replace(RULE, name=side, when=f"a red shape {side}") for side in ("on the left", "on the right")]
    story = Story([RULE, *sides, replace(RULE, name="dark", when="it is dark")])
    passes = []
    story.yes = lambda question: 0.95 if "star" in question or question == "Is a red shape in view?" else 0.1
    for _ in range(4):
        story.see()
        passes.append(story.model.num_passes)
    assert passes == [3, 4, 5, 6], "as it comes into view, which shapes there are is asked first, and then where"
    by_name = {facts.name: facts.probability for facts in story.watch.facts()}
    assert by_name["on the left"] == pytest.approx(0.95 * 0.9)
    assert by_name["on the right"] == pytest.approx(0.95 * 0.05)
    story.yes = lambda question: 0.1
    story.see(count=2)
    assert story.model.num_passes == 8
    assert story.model.asked[-2:] == ["Is a red shape in view?", "Is it dark?"]


def test_a_thing_on_another_side_raises_nothing() -> None:
    story = Story([replace(RULE, when="a red shape on the right")])
    story.see(count=4)
    assert "Where is the red star?" in story.model.asked and not story.alerts


def test_a_rule_with_a_zone_begins_only_where_something_changed_there() -> None:
    right = MaskRegion.from_mapping({"rectangle": [0.5, 0, 0.5, 1]})
    left_story, right_story = Story([RULE], region=right), Story([RULE], region=right)
    left_story.see(Look(changed=1), count=4)
    right_story.see(Look(changed=10), count=4)
    assert (len(left_story.alerts), len(right_story.alerts)) == (0, 1)
    assert right_story.alerts[0].zone == ((0.5, 0), (1, 0), (1, 1), (0.5, 1))


def test_an_alert_names_the_first_and_the_latest_frames_that_decided() -> None:
    story = Story([replace(RULE, hold_s=6.0)])
    story.see(count=14)
    (alert,) = story.alerts
    assert [time_s for time_s, _ in alert.hits] == [0.0, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]
    assert alert.question == "Is a red shape in view?" and alert.zone == ()


def test_a_muted_rule_raises_no_alert_but_says_what_it_would_have() -> None:
    story = Story([RULE])
    assert story.watch.mute("door", muted=True) and not story.watch.mute("gate", muted=True)
    story.see(count=4)
    assert not story.alerts and len(story.told(StatusKind.ALERT_MUTED)) == 1


def test_rules_change_while_it_runs_and_those_that_stay_keep_their_occurrence() -> None:
    story = Story([RULE])
    story.see(count=3)
    story.arm([RULE, replace(RULE, name="more")])
    story.see(count=3)
    assert [alert.rule for alert in story.alerts] == ["door", "more"]
    story.arm([replace(RULE, name="more")])
    assert [told.details["rule"] for told in story.told(StatusKind.ALERT_ENDED)] == ["door"]


def test_outside_its_schedule_a_rule_is_not_asked() -> None:
    story = Story([RULE])
    local = datetime.fromtimestamp(story.clock.wall_s())
    other_day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(local.weekday() + 3) % 7]
    story.arm([replace(RULE, schedule=parse_schedule(other_day))])
    story.see(count=4)
    assert not story.model.asked and not story.alerts


def test_after_a_gap_what_went_on_is_over_and_is_asked_anew() -> None:
    story = Story([RULE])
    story.see(count=3)
    story.watch.on_break("the camera was lost")
    assert [told.reason for told in story.told(StatusKind.ALERT_ENDED)] == ["over after 1.0 s: the camera was lost"]
    story.see(Look(changed=0))
    assert len(story.model.asked) == 4


def rehearsal(*probabilities: float, rule: Rule = RULE) -> Rehearsal:
    return Rehearsal(rule, [Judged(0.5 * index, p) for index, p in enumerate(probabilities)])


def test_a_rehearsal_tells_the_alerts_with_start_end_and_peak_and_what_other_levels_would_raise() -> None:
    one = rehearsal(0.1, 0.85, 0.92, 0.85, *[0.1] * 6, rule=replace(RULE, cooldown_s=1.0))
    assert [alert.as_dict() for alert in one.alerts()] == [
        {"raised_s": 1.0, "started_s": 0.5, "ended_s": 1.5, "peak": 0.92}
    ]
    assert (len(one.alerts(sure=0.9)), len(one.alerts(sure=0.9, confirmations=1))) == (0, 1)
    assert one.as_dict()["by_sure"] == {"0.6": 1, "0.7": 1, "0.8": 1, "0.9": 0, "0.95": 0}
    assert one.lines()[0] == '"a red shape": 1 alert at sure 0.8; highest probability 0.92'
    assert one.lines()[1] == "    [00:01.0] held since 00:00.5, over at 00:01.5, at most 0.92"


def test_an_alert_that_goes_on_at_the_end_is_told_and_plotted(tmp_path: Path) -> None:
    one = rehearsal(0.9, 0.9)
    assert [alert.ended_s for alert in one.alerts()] == [None] and "went on to the end" in one.lines()[1]
    plot_rehearsals(tmp_path / "rules.png", [one, rehearsal(0.1, 0.2)], "clip.mp4")
    with Image.open(tmp_path / "rules.png") as picture:
        assert picture.width > 600


def test_the_configuration_arms_rules_for_their_cameras_and_targets(tmp_path: Path) -> None:
    text = """
cameras:
  door: {url: "synthetic:1", zones: {steps: {rectangle: [0, 0.5, 1, 0.5]}}}
  yard: {url: "synthetic:2"}
rules:
  visitor: {when: a red shape on the left, cameras: [door], zone: steps, schedule: "mon-fri", muted: true}
  covered: {when: the view is covered, severity: critical}
"""
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    visitor, covered = load_config(path).armed()
    assert (visitor.name, visitor.cameras, visitor.muted, covered.severity) == ("visitor", ("door",), True, "critical")
    for change, words in {
        "zone: steps": "zone: hall",
        "cameras: [door]": "cameras: [gate]",
        "a red shape on the left": "a person",
        'schedule: "mon-fri"': 'schedule: "someday"',
        "muted: true": "to: [phone]",
    }.items():
        path.write_text(text.replace(change, words), encoding="utf-8")
        with pytest.raises(ConfigError, match="visitor"):
            load_config(path)
