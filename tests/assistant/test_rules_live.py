"""Rules on the embedded model: it is asked in words that it knows, and what it says is the same with and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from assistant.events import Alert, Comment, StreamEvent
from assistant.rules.arming import armed_rules
from assistant.rules.asking import ConditionAnswers, ask
from assistant.rules.rule import Rule
from assistant.rules.rule_watch import RuleWatch
from assistant.rules.wording import condition_of
from assistant.stream.open_stream import StreamOptions, open_model_session, open_stream
from models.checkpoint.loader import load_checkpoint
from models.engine import Engine
from models.errors import SessionError
from streaming.clock import FakeClock
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene
from streaming.types import Frame

SCENE = Scene(7, SceneSettings(duration_s=28.0))
"""A purple square enters at the top at 17 s, stops on the right at 19, starts at 25 and is gone at 27."""
RULES = [
    Rule("purple", "a purple shape"),
    Rule("right", "a purple square on the right", hold_s=1.0),
    Rule("left", "a purple square on the left"),
    Rule("covered", "the view is covered"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(load_checkpoint("embedded", device="cpu", progress=False))
    yield engine
    engine.close()


def watched(engine: Engine, rules: list[Rule]) -> list[StreamEvent]:
    """The events of the scene, watched at 2 fps under these rules."""
    clock, events = FakeClock(), list[StreamEvent]()
    settings = replace(engine.stream, fps=2.0)
    session = open_model_session(engine, settings, StreamOptions())
    watch = RuleWatch(clock, events.append)
    watch.set_rules(armed_rules(rules, {}, "scene", is_small=True))
    stream = open_stream(session, settings, StreamOptions(), clock, events.append, rules=watch)
    for index, time_s in enumerate(time_s for time_s in SCENE.times(2.0) if 15 <= time_s <= 22.5):
        clock.advance(0.5)
        picture = SCENE.frame(float(time_s))
        engine.run(stream.on_frame(Frame(picture, index, float(time_s), clock.now_s(), "scene")))
    return events


def test_alerts_come_while_it_goes_on_and_remarks_are_as_without_rules(engine: Engine) -> None:
    events = watched(engine, RULES)
    alerts = {event.rule: event for event in events if isinstance(event, Alert)}
    assert set(alerts) == {"purple", "right"}
    assert 17.0 <= alerts["purple"].time_s <= 19.0 and 19.0 <= alerts["right"].time_s <= 22.0
    remarks = [(event.time_s, event.text, event.score) for event in events if isinstance(event, Comment)]
    plain = [(event.time_s, event.text, event.score) for event in watched(engine, []) if isinstance(event, Comment)]
    assert remarks == plain and len(plain) >= 2


def test_the_rules_of_a_frame_judged_together_are_as_each_alone(engine: Engine) -> None:
    words = ["a purple shape", "a purple square on the right", "a purple shape on the left", "it is dark"]
    conditions = [condition_of(each, is_small=True) for each in words]
    session = engine.open_session(replace(engine.stream, fps=2.0))
    before = ConditionAnswers()
    for index, time_s in enumerate((18.0, 20.0, 21.0)):
        engine.run(session.see(Frame(SCENE.frame(time_s), index, time_s, time_s, "scene")))
        before = engine.run(ask(session, conditions, before))
        alone = [engine.run(ask(session, [each], ConditionAnswers())).probability(each) for each in conditions]
        assert [before.probability(each) for each in conditions] == pytest.approx(alone, abs=1e-4)
    assert alone[1] > 0.8 and alone[2] < 0.2


def test_shares_of_answers_add_up_to_one_and_leave_no_trace(engine: Engine) -> None:
    session = engine.open_session(replace(engine.stream, fps=2.0))
    picture = SCENE.frame(21.0)
    engine.run(session.see(Frame(picture, 0, 0.0, 0.0, "scene")))
    length = session.usage.num_tokens
    one = ("Where is the purple square?", ["On the right.", "On the left.", "At the top."])
    _, (shares,) = engine.run(session.check_and_choose([], [one]))
    assert sum(shares) == pytest.approx(1) and shares[0] > 0.8
    assert session.usage.num_tokens == length
    asked = ["Is a purple square in view?", "Is a red circle in view?"]
    together = [check.log_odds for check in engine.run(session.check_all(asked))]
    assert together == pytest.approx([engine.run(session.check(question)).log_odds for question in asked], rel=1e-4)
    other = ("Where is the red star?", ["On the left.", "In the centre."])
    checks, placed = engine.run(session.check_and_choose(asked, [one, other]))
    assert [check.log_odds for check in checks] == pytest.approx(together, abs=1e-4)
    _, (alone,) = engine.run(session.check_and_choose([], [other]))
    assert placed == [pytest.approx(shares, abs=1e-5), pytest.approx(alone, abs=1e-5)]
    assert session.usage.num_tokens == length
    with pytest.raises(SessionError, match="one is empty"):
        engine.run(session.check_and_choose([], [("Where is it?", ["On the right.", ""])]))
